/* names.c - see names.h. */
#define _GNU_SOURCE /* asprintf */
#include "config.h"

#include "core/import/names.h"

#include "core/base/error.h"
#include "core/model/build.h"
#include "core/symbol/symbol.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 65536, BUILD_ID = 64 }; /* locations of a report; bytes */

struct nameless {
    uint32_t module;
    uint64_t address;
};

static int by_module(const void *a_, const void *b_) {
    const struct nameless *a = a_, *b = b_;
    if (a->module != b->module)
        return a->module < b->module ? -1 : 1;
    return a->address < b->address ? -1 : a->address > b->address;
}

static size_t bytes_of(const char *digits, unsigned char bytes[BUILD_ID]) {
    size_t count = digits == NULL ? 0 : strlen(digits) / 2;
    unsigned byte;
    for (size_t i = 0; i < count; i++) {
        if (i == BUILD_ID || sscanf(digits + 2 * i, "%2x", &byte) != 1)
            return 0;
        bytes[i] = (unsigned char)byte;
    }
    return count;
}

static void put_names(struct memopt_report *report, const struct nameless *at,
                      const struct mo_symbol_frame *symbol) {
    struct memopt_line lines[MO_SYMBOL_LINES];
    uint32_t ignored;
    for (size_t i = 0; i < symbol->line_count; i++) {
        const struct mo_symbol_line *line = &symbol->lines[i];
        lines[i].line = line->line > 0 ? (uint32_t)line->line : 0;
        if (mo_build_function(report, line->function, line->system_name, line->file,
                              &lines[i].function) < 0)
            return;
    }
    (void)mo_build_location(
        report, &(struct memopt_location){at->module, at->address, lines, symbol->line_count},
        &ignored);
}

/* `count` places in one module, whose path may be relative to where the program was run. */
static void name_module(struct memopt_report *report, const struct nameless *places, size_t count) {
    const struct memopt_module *module = memopt_module_at(report, places[0].module);
    unsigned char build_id[BUILD_ID];
    mo_auto_free uint64_t *offsets = calloc(count, sizeof(*offsets));
    mo_auto_free struct mo_symbol_frame *symbols = calloc(count, sizeof(*symbols));
    mo_auto_free char *path = NULL;
    int is_relative = module->path[0] != '/' && report->directory != NULL;
    if (asprintf(&path, "%s%s%s", is_relative ? report->directory : "", is_relative ? "/" : "",
                 module->path) < 0) {
        path = NULL;
        return;
    }
    if (offsets == NULL || symbols == NULL)
        return;
    for (size_t i = 0; i < count; i++)
        offsets[i] = places[i].address;
    struct mo_symbol_module file = {path, build_id, bytes_of(module->build_id, build_id)};
    if (mo_symbol_find(&file, offsets, count, symbols, NULL) < 0)
        return;
    for (size_t i = 0; i < count; i++)
        put_names(report, &places[i], &symbols[i]);
    mo_symbol_release(symbols, count);
}

void mo_names_find(struct memopt_report *report) {
    size_t count = 0;
    mo_auto_free struct nameless *places =
        report->location_count == 0 ? NULL : calloc(report->location_count, sizeof(*places));
    for (size_t i = 0; i < report->location_count && places != NULL && count < MOST; i++) {
        const struct memopt_location *location = memopt_location_at(report, i);
        if (location->module != MEMOPT_NONE && location->address != UINT64_MAX &&
            location->line_count == 0)
            places[count++] = (struct nameless){location->module, location->address};
    }
    if (count > 0)
        qsort(places, count, sizeof(*places), by_module);
    for (size_t first = 0, n; first < count; first += n) {
        for (n = 1; first + n < count && places[first + n].module == places[first].module; n++)
            ;
        name_module(report, &places[first], n);
    }
}
