/*
 * shim.c - libmemopt-preload.so: stands between the program's malloc and the
 * backend. The names are in malloc.c, family.c, frees.c and operators.c; this is the
 * constructor, which loads the plugins and switches dispatch over to them.
 *
 * It runs after the constructors of the libraries the program is linked with and
 * before the program's own. Until then the boot range serves.
 */
#include "preload/shim.h"

#include "core/base/error.h"
#include "core/base/sysmem.h"
#include "core/base/text.h"
#include "core/dispatch/dispatch.h"
#include "core/dispatch/limit.h"
#include "core/heap/section.h"
#include "core/ledger/writer.h"
#include "core/plugin/section.h"
#include "preload/operators.h"
#include "preload/process.h"

#include <errno.h>
#include <gnu/libc-version.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct mo_shim mo_shim;

static struct {
    struct memopt_malloc table; /* the backend's default heap */
    uint64_t limit;             /* of [heap.default]; UINT64_MAX: none */
    size_t tracker_count;
    struct {
        struct mo_plugin *plugin;
        void *settings, *self;
        size_t offset; /* of its state in a thread's slot */
    } trackers[MO_LEDGER_TRACKERS];
} shim = {.limit = UINT64_MAX};

/* ------------------------------------------------------------------ loading */

/* Loads a plugin and reads its section. */
static int load(const struct mo_flat *flat, enum memopt_plugin_kind kind, const char *name,
                struct mo_plugin **ret_plugin, void **ret_settings, struct memopt_error *error) {
    struct mo_plugin *plugin;
    int code = mo_plugin_load(kind, name, &plugin, error);
    if (code < 0)
        return code;
    char section[128];
    snprintf(section, sizeof(section), "%s.%s", mo_plugin_kind_name(kind), plugin->descriptor.name);
    size_t size = plugin->descriptor.settings_size;
    void *settings = mo_sys_alloc(size > 0 ? size : 1);
    if (settings == NULL)
        return mo_fail(error, -ENOMEM, "out of memory");
    code = mo_flat_fill(flat, section, plugin->table, settings, &mo_sys_allocator, error);
    if (code < 0)
        return code;
    *ret_plugin = plugin;
    *ret_settings = settings;
    return 0;
}

static int open_backend(const struct mo_flat *flat, const struct mo_settings_memopt *settings,
                        struct memopt_error *error) {
    struct mo_plugin *plugin;
    void *own_settings;
    const struct memopt_malloc *table;
    const char *name = mo_process.plugin != NULL ? mo_process.plugin : settings->allocator;
    int r = load(flat, MEMOPT_ALLOCATOR, name, &plugin, &own_settings, error);
    if (r == 0)
        r = mo_plugin_open_allocator(plugin, own_settings, &table, error);
    if (r < 0)
        return r;
    shim.table = *table;
    mo_shim.allocator = plugin;
    return 0;
}

static void load_trackers(const struct mo_flat *flat, const struct memopt_list *names) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    for (size_t i = 0; i < names->count; i++) {
        size_t n = shim.tracker_count;
        if (n == MO_LEDGER_TRACKERS) {
            mo_process_note(MEMOPT_NOTE_ERROR,
                            "more than %d trackers: '%s' and those after it are left out",
                            MO_LEDGER_TRACKERS, names->items[i]);
            return;
        }
        char key[32] = "tracker", *end = key + sizeof(key);
        mo_text_put_number(key + strlen(key), end, i);
        const char *path = mo_flat_get(&mo_process.run, "run", key);
        if (load(flat, MEMOPT_TRACKER, path != NULL ? path : names->items[i],
                 &shim.trackers[n].plugin, &shim.trackers[n].settings, &error) < 0)
            mo_process_note(MEMOPT_NOTE_ERROR, "%s", error.message);
        else
            shim.tracker_count++;
    }
}

/* [heap.default]: rules for the program's own malloc. */
static void read_rules(const struct mo_flat *flat) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct mo_settings_heap rules;
    if (mo_flat_fill(flat, "heap.default", mo_section_heap.table, &rules,
                     &mo_sys_allocator, &error) < 0)
        mo_process_note(MEMOPT_NOTE_ERROR, "%s", error.message);
    else
        shim.limit = rules.limit;
}

static int read_settings(struct memopt_error *error) {
    struct mo_flat flat;
    struct mo_settings_memopt settings;
    char *text;
    int r = mo_process_read("settings.ini", &text, error);
    if (r == 0)
        r = mo_flat_parse(text, &mo_sys_allocator, &flat, error);
    if (r == 0)
        r = mo_flat_fill(&flat, "memopt", mo_section_memopt.table, &settings,
                         &mo_sys_allocator, error);
    if (r < 0)
        return r;
    for (size_t i = 0; i < settings.plugin_path.count; i++)
        mo_plugin_add_directory(settings.plugin_path.items[i], NULL);
    mo_plugin_vouch_for_paths();
    r = open_backend(&flat, &settings, error);
    if (r < 0)
        return r;
    read_rules(&flat);
    load_trackers(&flat, &settings.trackers);
    return 0;
}

/* ------------------------------------------------------------------ recording */

static const struct memopt_allocator_ops *backend(void) {
    return mo_shim.allocator == NULL ? NULL : &mo_shim.allocator->ops.allocator;
}

/* A tracker that can't start leaves the chain; its section stays empty. */
static void open_trackers(void) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    size_t kept = 0;
    for (size_t i = 0; i < shim.tracker_count; i++) {
        const struct memopt_tracker_ops *ops = &shim.trackers[i].plugin->ops.tracker;
        void *self = NULL;
        int code = ops->open == NULL ? 0
                                     : ops->open(&mo_host, shim.trackers[i].settings,
                                                 mo_ledger_process_state(i), &self, &error);
        if (code < 0) {
            mo_process_note(MEMOPT_NOTE_ERROR, "tracker '%s': %s",
                            shim.trackers[i].plugin->descriptor.name, error.message);
            continue;
        }
        mo_ledger_set_self(i, self);
        shim.trackers[kept].plugin = shim.trackers[i].plugin;
        shim.trackers[kept].self = self;
        shim.trackers[kept].offset = mo_ledger_thread_offset(i);
        kept++;
    }
    shim.tracker_count = kept;
}

static void record(int argc, char **argv) {
    struct mo_ledger_plan plan = {.directory = mo_process.run_directory,
                                  .binding = mo_process.kind,
                                  .tracker_count = shim.tracker_count};
    for (size_t i = 0; i < shim.tracker_count; i++) {
        plan.trackers[i].name = shim.trackers[i].plugin->descriptor.name;
        plan.trackers[i].ops = &shim.trackers[i].plugin->ops.tracker;
    }
    const char *name = "libc", *version = gnu_get_libc_version();
    if (backend() != NULL) {
        name = mo_shim.allocator->descriptor.name;
        version = backend()->backend_version == NULL ? "" : backend()->backend_version();
    }
    if (mo_process_record(&plan, name, version, argc, argv))
        open_trackers();
    else
        shim.tracker_count = 0;
}

/* ------------------------------------------------------------------ the switch */

static struct mo_link links[MO_LEDGER_TRACKERS];

static void take_over(void) {
    static struct mo_ledger_heap without_a_ledger;
    for (size_t i = 0; i < shim.tracker_count; i++) {
        links[i].self = shim.trackers[i].self;
        links[i].offset = shim.trackers[i].offset;
        links[i].ops = &shim.trackers[i].plugin->ops.tracker;
    }
    bool c_calls = backend() == NULL || (backend()->flags & MEMOPT_ALLOCATOR_C_CALLS) != 0;
    if (shim.limit != UINT64_MAX) {
        struct mo_ledger_heap *slot = mo_ledger_heap_slot(
            "default", backend() == NULL ? "libc" : mo_shim.allocator->descriptor.name);
        mo_limit_install(&shim.table, shim.limit, backend() == NULL ? NULL : backend()->purge,
                         slot != NULL ? slot : &without_a_ledger);
        c_calls = false;
    }
    struct mo_dispatch_plan plan = {
        .backend = &shim.table,
        .c_calls = c_calls,
        .links = links,
        .link_count = shim.tracker_count,
        .figures = backend() == NULL ? NULL : backend()->quick_figures,
    };
    mo_dispatch_switch(&plan);
    mo_operators_go(&shim.table);
    if (mo_ledger() != NULL)
        mo_ledger()->boot_bytes = mo_boot_used();
}

/* The program goes on with the C library's malloc. */
static void fall_back_to_libc(void) {
    mo_shim.allocator = NULL;
    shim.tracker_count = 0;
    if (mo_libc_table(&shim.table) < 0) {
        static const char message[] = "memopt: the C library has no malloc to fall back to\n";
        ssize_t written = write(STDERR_FILENO, message, sizeof(message) - 1);
        (void)written;
        abort();
    }
}

static __attribute__((constructor)) void start(int argc, char **argv, char **envp) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    mo_operators_start();
    mo_host_set_note(mo_process_keep);
    int r = mo_process_begin(MO_PROCESS_SHIM, envp, &error);
    bool is_touched = r == 0 && mo_process.kind == MO_PROCESS_SHIM;
    if (is_touched)
        r = read_settings(&error);
    if (r < 0)
        mo_process_fault(&error, "runs on the C library's malloc");
    if (!is_touched || r < 0)
        fall_back_to_libc();
    if (mo_process.run_directory != NULL)
        record(argc, argv);
    if (mo_shim.allocator != NULL && strcmp(mo_shim.allocator->descriptor.name, "libc") != 0)
        mo_dlopen_start();
    mo_process_go(envp);
    struct mo_fork fork = {.untrack = mo_dispatch_untrack, .forked = mo_track_forked};
    if (shim.tracker_count > 0)
        fork.own_slot = mo_track_self;
    if (backend() != NULL) {
        fork.before = backend()->before_fork;
        fork.parent = backend()->after_fork_parent;
        fork.child = backend()->after_fork_child;
    }
    mo_fork_install(&fork);
    take_over();
}
