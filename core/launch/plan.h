/*
 * plan.h - from the configuration and a command to everything that is needed
 * to start it: the target, the binding, the run directory, the environment.
 *
 * Used by `memopt run` and `memopt compare`. Ownership: the plan owns its run
 * directory and environment; the plugin belongs to the registry, the settings
 * to the config.
 */
#ifndef MO_LAUNCH_PLAN_H
#define MO_LAUNCH_PLAN_H

#include "core/config/config.h"
#include "core/launch/environment.h"
#include "core/launch/launch.h"
#include "core/launch/session.h"
#include "core/launch/target.h"
#include "core/plugin/registry.h"
#include "core/plugin/section.h"

/* Why memopt could not go ahead; decides the exit status. */
enum mo_plan_failure {
    MO_PLAN_MEMOPT = 125, /* the configuration, a library, memory */
    MO_PLAN_CANNOT = 126, /* the program is there but can't be executed */
    MO_PLAN_NO_PROGRAM = 127,
};

struct mo_plan {
    struct mo_settings_memopt settings;
    struct mo_plugin *allocator;
    struct mo_target target;
    enum mo_binding binding; /* DIRECT or DISPATCH, where something is preloaded */
    int preloads;            /* into the program or, if it can't be, into its children */
    int watches;             /* the program itself can't be seen from inside: use watch.h */
    int sanitizes;           /* its sanitizer's log goes to the run directory */
    char obstacle[512];      /* what is in the way, one sentence; "": nothing */
    char notices[4][512];    /* what else to say before the start, likewise; "": no more */
    struct mo_session session;
    struct mo_environment environment;
};

/* What a binding depends on. */
struct mo_binding_facts {
    enum mo_binding wanted;
    size_t trackers;
    int heap_rules; /* [heap.default] has values */
    uint32_t flags; /* of the allocator */
    const char *allocator;
    int has_library;          /* the allocator is a library that can be preloaded */
    const char *links_malloc; /* of the program: see mo_target */
    int part_of_new;          /* the same */
    const char *own_call;     /* the same */
    int is_bare;              /* dispatch is not available */
};
/* Direct where nothing is asked for that takes a look at each call. -EINVAL:
 * direct was asked for and can't be; the message says why. */
int mo_choose_binding(const struct mo_binding_facts *facts, enum mo_binding *ret_binding,
                      struct memopt_error *error);

/* Whether the values of a configuration go together, without a program: does what
 * mo_plan_make() does first. `error` not NULL. */
int mo_plan_check(struct mo_config *config, struct memopt_error *error);

/* Signals must be held (mo_signals_hold()). On failure *ret_failure says whose
 * fault it is and nothing is left behind. */
int mo_plan_make(struct mo_config *config, char *const *argv, struct mo_plan *ret_plan,
                 enum mo_plan_failure *ret_failure, struct memopt_error *error);
/* The same for a program that memopt is to become: bound directly, with nothing of memopt's
 * in it and nothing recorded, so no run directory. What can't be bound so is an error. */
int mo_plan_make_bare(struct mo_config *config, char *const *argv, struct mo_plan *ret_plan,
                      enum mo_plan_failure *ret_failure, struct memopt_error *error);
void mo_plan_free(struct mo_plan *plan);

/* The variables that such a program needs, whichever it is, each by a call of `set`. A `mode`
 * more than a plugin has: '<', before what is there. */
int mo_plan_variables(struct mo_config *config, memopt_setenv_fn set, void *context,
                      struct memopt_error *error);

/* What of mo_launch()'s failures says about the program. */
enum mo_plan_failure mo_plan_failure_of(int code);

#endif
