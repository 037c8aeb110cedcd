/*
 * compare_candidates.c - the candidates of memopt compare: which there are, and
 * whether each can be measured, before the first run.
 */
#include "config.h"

#include "cli/cmd.h"
#include "cli/compare.h"

#include "core/plugin/registry.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char name[] = "compare";

static struct mo_candidate *add_candidate(struct mo_comparison *comparison, const char *label,
                                          size_t length, int expected) {
    for (size_t i = 0; i < comparison->count; i++)
        if (strlen(comparison->candidates[i].label) == length &&
            strncmp(comparison->candidates[i].label, label, length) == 0)
            return &comparison->candidates[i]; /* named twice, measured once */
    if (comparison->count == MO_CANDIDATES) {
        mo_say(name, "more than %d candidates", MO_CANDIDATES);
        return NULL;
    }
    struct mo_candidate *candidate = &comparison->candidates[comparison->count];
    candidate->expected = expected;
    snprintf(candidate->label, sizeof(candidate->label), "%.*s", (int)length, label);
    strcpy(candidate->base, candidate->label);
    for (size_t i = 0; i < MO_METRICS; i++)
        if ((candidate->values[i] = calloc(comparison->options->runs_max, sizeof(double))) ==
            NULL) {
            mo_say(name, "out of memory");
            return NULL;
        }
    comparison->count++;
    return candidate;
}

static int add_list(struct mo_comparison *comparison, const char *list, int expected) {
    while (*list != '\0') {
        list += strspn(list, ", ");
        size_t length = strcspn(list, ", ");
        if (length > 0 && add_candidate(comparison, list, length, expected) == NULL)
            return -ENOMEM;
        list += length;
    }
    return 0;
}

static int list_candidates(struct mo_comparison *comparison) {
    const struct mo_compare_options *options = comparison->options;
    int r = add_list(comparison, "libc", 1);
    for (size_t i = 0; i < options->file_count && r == 0; i++) {
        struct mo_candidate *candidate =
            add_candidate(comparison, options->labels[i], strlen(options->labels[i]), 1);
        if (candidate == NULL)
            return -ENOMEM;
        candidate->file = options->files[i];
        const char *slash = strrchr(candidate->label, '/');
        snprintf(candidate->base, sizeof(candidate->base), "%s",
                 slash != NULL && slash[1] != '\0' ? slash + 1 : candidate->label);
        char *suffix = strrchr(candidate->base, '.');
        if (suffix != NULL && suffix > candidate->base && strcmp(suffix, ".ini") == 0)
            *suffix = '\0';
    }
    if (r == 0 && options->allocators != NULL)
        r = add_list(comparison, options->allocators, 1);
    else if (r == 0 && options->file_count == 0)
        r = add_list(comparison, "jemalloc,tcmalloc,mimalloc,pool", 0);
    return r;
}

/* A default candidate that is not available is left out. */
static int load_candidate(struct mo_candidate *candidate, struct mo_compare_options *options) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct mo_config_request request = {
        .file = candidate->file,
        .sets = options->sets,
        .set_count = options->set_count,
    };
    char allocator[sizeof(candidate->label) + 32];
    if (candidate->file == NULL) {
        /* it is the allocator that is measured: nothing may look at each call */
        snprintf(allocator, sizeof(allocator), "memopt.allocator=%s", candidate->label);
        options->sets[request.set_count++] = (struct mo_config_set){allocator, "-a"};
        options->sets[request.set_count++] = (struct mo_config_set){"memopt.trackers=", "-a"};
        options->sets[request.set_count++] = (struct mo_config_set){"memopt.binding=auto", "-a"};
    }
    int r = mo_config_load(&request, &candidate->config, &error);
    char library[4096];
    struct mo_plugin *plugin = NULL;
    if (r == 0)
        r = mo_plugin_load(MEMOPT_ALLOCATOR,
                           mo_config_get(candidate->config, "memopt", "allocator", NULL), &plugin,
                           &error);
    if (r == 0)
        r = mo_plugin_backend_library(plugin, library, sizeof(library), &error);
    if (r < 0 && candidate->expected) {
        mo_say(name, "%s", error.message);
        return r;
    }
    if (r < 0) {
        candidate->left_out = 1;
        snprintf(candidate->note, sizeof(candidate->note), "%.*s",
                 (int)strcspn(error.message, "\n"), error.message);
        return 0;
    }
    snprintf(candidate->allocator, sizeof(candidate->allocator), "%s", plugin->descriptor.name);
    return 0;
}

/* All of them before any run: a mistake is reported before an hour of measuring. */
int mo_compare_find_candidates(struct mo_comparison *comparison,
                               struct mo_compare_options *options) {
    int r = list_candidates(comparison);
    for (size_t i = 0; i < comparison->count && r == 0; i++)
        r = load_candidate(&comparison->candidates[i], options);
    return r;
}

void mo_compare_free_candidates(struct mo_comparison *comparison) {
    for (size_t i = 0; i < comparison->count; i++) {
        mo_config_free(comparison->candidates[i].config);
        for (size_t metric = 0; metric < MO_METRICS; metric++)
            free(comparison->candidates[i].values[metric]);
    }
}
