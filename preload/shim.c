/*
 * shim.c - libmemopt-preload.so: stands between the program's malloc and the
 * backend. The names are in malloc.c, family.c, frees.c and operators.c; this is the
 * constructor, which loads the plugins and switches dispatch over to them.
 *
 * It runs after the constructors of the libraries the program is linked with and
 * before the program's own. Until then the boot range serves.
 */
#include "preload/shim.h"

#include "core/account/account.h"
#include "core/account/limit.h"
#include "core/base/error.h"
#include "core/base/sysmem.h"
#include "core/base/text.h"
#include "core/dispatch/dispatch.h"
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

/* The directory of a ledger has room for more; the core's counts are in it, too. */
enum { TRACKERS = (MO_AREAS - MO_CORE_AREAS - 1) / 2 };

static struct {
    struct memopt_malloc table; /* the backend's default heap */
    uint64_t limit;             /* of [heap.default]; UINT64_MAX: none */
    size_t tracker_count;
    struct {
        struct mo_plugin *plugin;
        void *settings;
    } trackers[TRACKERS];
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
        if (n == TRACKERS) {
            mo_process_note(MEMOPT_NOTE_ERROR,
                            "more than %d trackers: '%s' and those after it are left out",
                            TRACKERS, names->items[i]);
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

static struct mo_link links[TRACKERS];
static struct mo_slot_state states[TRACKERS + 1];

/* For the tracker that is being opened. */
static const char *opening;
static void *host_area(const char *name, uint32_t version, uint32_t unit, uint64_t limit,
                       struct memopt_error *error) {
    char whole[sizeof(((struct mo_area *)0)->name) + 1];
    if (opening == NULL)
        return mo_fail(error, -EINVAL, "areas are for a tracker's open() to ask for"), NULL;
    char *end = whole + sizeof(whole);
    mo_text_put(mo_text_put(mo_text_put(whole, end, opening), end, "."), end, name);
    return mo_ledger_area(whole, version, unit, limit, error);
}

/* A tracker that can't start leaves the chain; its section stays empty. `counts`: how many
 * states there are before theirs. */
static void open_trackers(size_t counts) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    size_t kept = 0;
    mo_host.area = host_area;
    mo_host.area_back = mo_ledger_area_back;
    mo_host.clock = mo_ledger_clock;
    for (size_t i = 0; i < shim.tracker_count; i++) {
        struct mo_link link = links[i];
        opening = link.name;
        int code = link.ops->open == NULL
                       ? 0
                       : link.ops->open(&mo_host, shim.trackers[i].settings, &link.self, &error);
        if (code < 0) {
            mo_process_note(MEMOPT_NOTE_ERROR, "tracker '%s': %s", link.name, error.message);
            continue;
        }
        link.offset = states[counts + i].offset;
        links[kept++] = link;
    }
    opening = NULL;
    shim.tracker_count = kept;
    if (kept > 0)
        mo_account_start(links, kept, states);
}

static void record(int argc, char **argv) {
    for (size_t i = 0; i < shim.tracker_count; i++)
        links[i] = (struct mo_link){.name = shim.trackers[i].plugin->descriptor.name,
                                    .ops = &shim.trackers[i].plugin->ops.tracker};
    struct mo_ledger_plan plan = {
        .directory = mo_process.run_directory,
        .binding = mo_process.kind,
        .states = states,
        .state_count = mo_account_states(links, shim.tracker_count, states),
        .fold = mo_account_fold,
    };
    const char *name = "libc", *version = gnu_get_libc_version();
    if (backend() != NULL) {
        name = mo_shim.allocator->descriptor.name;
        version = backend()->backend_version == NULL ? "" : backend()->backend_version();
    }
    if (mo_process_record(&plan, name, version, argc, argv))
        open_trackers(plan.state_count - shim.tracker_count);
    else
        shim.tracker_count = 0;
}

/* ------------------------------------------------------------------ the switch */

static void take_over(void) {
    static struct mo_ledger_heap without_a_ledger;
    bool c_calls = backend() == NULL || (backend()->flags & MEMOPT_ALLOCATOR_C_CALLS) != 0;
    if (shim.limit != UINT64_MAX) {
        struct mo_ledger_heap *slot = mo_ledger_heap_slot(
            "default", backend() == NULL ? "libc" : mo_shim.allocator->descriptor.name);
        if (slot == NULL)
            slot = &without_a_ledger;
        atomic_store(&slot->limit, shim.limit);
        mo_limit_install(&shim.table, backend() == NULL ? NULL : backend()->purge, slot,
                         shim.tracker_count > 0 ? NULL : mo_own_alloc);
        memopt_program_services_2.default_heap = slot;
        c_calls = false;
    }
    struct mo_dispatch_plan plan = {
        .backend = &shim.table,
        .c_calls = c_calls,
        .tracks = shim.tracker_count > 0,
        .keeps = shim.tracker_count > 0 || shim.limit != UINT64_MAX,
        .figures = backend() == NULL ? NULL : backend()->quick_figures,
    };
    mo_dispatch_switch(&plan);
    if (plan.keeps) {
        memopt_program_services_2.own_begin = mo_own_begin;
        memopt_program_services_2.own_end = mo_own_end;
    }
    if (plan.tracks) {
        memopt_program_services_2.malloc = &shim.table;
        memopt_program_services_2.alloc = mo_account_alloc;
        memopt_program_services_2.free = mo_account_free;
        memopt_program_services_2.refused = mo_account_refused;
        memopt_program_services_2.destroy = mo_account_destroy;
    }
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

/* With the backend's locks held. */
static void before_fork(void) {
    mo_account_before_fork();
    mo_limit_before_fork();
}

static void forked(bool has_ledger) {
    mo_own_forked();
    if (!has_ledger)
        mo_dispatch_untrack();
    memopt_program_services_2.default_heap = mo_limit_in_child();
    mo_track_forked();
    mo_account_in_child();
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
    struct mo_fork fork = {.last = before_fork, .forked = forked};
    if (backend() != NULL) {
        fork.before = backend()->before_fork;
        fork.parent = backend()->after_fork_parent;
        fork.child = backend()->after_fork_child;
    }
    mo_fork_install(&fork);
    take_over();
}
