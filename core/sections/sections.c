/*
 * sections.c - the sections of the INI that the memopt command and libmemopt know, in the
 * order in which they are shown. A file is checked whole, also for what this program
 * doesn't run, so both have all.
 */
#include "core/config/config.h"
#include "core/heap/section.h"
#include "core/launch/section.h"
#include "core/optim/section.h"
#include "core/plugin/section.h"
#include "core/pressure/section.h"
#include "core/store/section.h"

const struct mo_section_def *const mo_sections[] = {
    &mo_section_memopt,
    &mo_section_heap,
    &mo_section_monitor,
    &mo_section_pressure,
    &mo_section_optimizer,
    &mo_section_store,
    NULL,
};
