/*
 * library.c - libmemopt as a whole: its configuration, the list of heaps, how a
 * heap begins and ends, fork, the end of the process (see heap.h).
 *
 * Nothing happens before the first call that needs the configuration; what
 * fails then is tried again by the next call.
 */
#include "config.h"

#include "core/heap/heap.h"
#include "core/heap/spill.h"

#include "core/base/error.h"
#include "core/base/forkorder.h"
#include "core/base/rundir.h"
#include "core/base/sysmem.h"
#include "core/model/report.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define DEFAULT_NAME "default"
enum { NOTES_MAX = 256 };

/* Error-checking: open() and destroy() from inside memopt_heap_each() have to
 * fail, not hang. */
static pthread_mutex_t lock = PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;
static struct memopt_heap *heaps; /* in the order they were opened */

static struct {
    int hooked; /* fork handlers and the thread key are there */
    int ready;
    const struct mo_program_services *services; /* of the shim or the agent, or NULL */
    struct mo_config *run; /* the run's configuration; NULL: not under memopt run */
    struct mo_config *own; /* the usual files; under memopt run: only memopt_init()'s, or NULL */
    const char *allocator; /* [memopt] allocator */
} library;

/* ----------------------------------------------------------- configuration */

const char *memopt_version(void) {
    return PACKAGE_VERSION;
}

int mo_library_enter(struct memopt_error *error, const char *what) {
    if (pthread_mutex_lock(&lock) == 0)
        return 0;
    return mo_fail(error, -EDEADLK, "can't %s from inside memopt_heap_each(): do it after the walk",
                   what);
}

void mo_library_leave(void) {
    pthread_mutex_unlock(&lock);
}

static int has_section(const struct mo_config *config, const char *section) {
    const char *name;
    for (size_t i = 0; (name = mo_config_section(config, NULL, i)) != NULL; i++)
        if (strcmp(name, section) == 0)
            return 1;
    return 0;
}

struct mo_config *mo_library_config(const char *section) {
    if (library.run == NULL)
        return library.own;
    if (library.own != NULL && !has_section(library.run, section) &&
        has_section(library.own, section))
        return library.own;
    return library.run;
}

int mo_library_is_run(void) {
    return library.run != NULL;
}

const struct mo_program_services *mo_library_services(void) {
    return library.services;
}

static void before_fork(void);
static void after_fork_parent(void);
static void after_fork_child(void);

static int load(const char *file, int only_file, struct mo_config **ret_config,
                struct memopt_error *error) {
    struct mo_config_request request = {.file = file, .only_file = only_file};
    return mo_config_load(&request, ret_config, error);
}

/* Notes of plugins, newest first, kept for memopt_report(). */
struct note {
    struct note *next;
    int level;
    const char *kind; /* of an event, or NULL */
    uint64_t time;    /* since boot, as the kernel has the start of a process */
    char text[];
};
static _Atomic(struct note *) notes;
static _Atomic unsigned note_count;

static uint64_t since_boot(void) {
    struct timespec time;
    clock_gettime(CLOCK_BOOTTIME, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void keep_note(int level, const char *kind, const char *text) {
    size_t size = strlen(text) + 1;
    struct note *note = NULL;
    if (atomic_fetch_add(&note_count, 1) < NOTES_MAX)
        note = mo_sys_alloc(sizeof(*note) + size);
    if (note == NULL)
        return;
    note->level = level;
    note->time = since_boot();
    note->kind = kind == NULL ? NULL : mo_sys_strdup(kind);
    memcpy(note->text, text, size);
    note->next = atomic_load(&notes);
    while (!atomic_compare_exchange_weak(&notes, &note->next, note))
        ;
}

/* Set once, by the library's start. */
static _Atomic(mo_note_fn) event_sink;

void mo_library_event(const char *kind, const char *text) {
    mo_note_fn sink = atomic_load(&event_sink);
    if (sink != NULL)
        sink(MEMOPT_NOTE_ERROR, kind, text);
}

int mo_library_notes(struct memopt_report *report, struct memopt_process *process,
                     struct memopt_error *error) {
    int code = 0;
    uint64_t start = since_boot() - report->wall_time;
    const struct note *in_order[NOTES_MAX];
    size_t count = 0;
    for (const struct note *note = atomic_load(&notes); note != NULL; note = note->next)
        in_order[count++] = note;
    while (count > 0 && code == 0) {
        const struct note *note = in_order[--count];
        if (note->kind != NULL)
            code = mo_report_event(report, process,
                                   report->wall_time == MEMOPT_UNKNOWN ? MEMOPT_UNKNOWN
                                   : note->time > start                ? note->time - start
                                                                       : 0,
                                   note->kind, note->text, error);
        else
            mo_report_note(report, note->level, getpid(), "%s", note->text);
    }
    return code;
}

/* With the mutex held. */
static int start(const char *config_file, struct memopt_error *error) {
    if (library.ready)
        return 0;
    const struct mo_program_services *services = dlsym(RTLD_DEFAULT, MO_PROGRAM_SERVICES_SYMBOL);
    int code;
    if (!library.hooked) {
        code = mo_count_start();
        if (code < 0)
            return mo_fail(error, code, "can't make a thread key: %s", strerror(-code));
        if (services != NULL && services->at_fork != NULL)
            services->at_fork(before_fork, after_fork_parent, after_fork_child);
        else if (pthread_atfork(before_fork, after_fork_parent, after_fork_child) != 0)
            return mo_fail(error, -ENOMEM, "can't register the fork handlers: out of memory");
        library.hooked = 1;
        if (mo_fork_order() < 0)
            return mo_fail(error, -ENOMEM, "can't register the fork handlers: out of memory");
    }
    mo_note_fn sink = services != NULL && services->note != NULL ? services->note : keep_note;
    mo_host_set_note(sink);
    struct mo_config *run = NULL, *own = NULL;
    char path[PATH_MAX] = "";
    int from = -1;
    if (services != NULL && services->run_directory != NULL &&
        (from = mo_rundir_open(services->run_directory, NULL)) >= 0)
        snprintf(path, sizeof(path), "/proc/self/fd/%d/settings.ini", from);
    /* A process that outlives its run finds the directory gone, or another one. */
    if (path[0] != '\0' && access(path, F_OK) == 0) {
        code = load(path, 1, &run, error);
        if (code == 0 && config_file != NULL)
            code = load(config_file, 1, &own, error);
    } else {
        code = load(config_file, 0, &own, error);
    }
    mo_rundir_close(from);
    struct mo_settings_memopt settings;
    if (code == 0)
        code = mo_config_fill(run != NULL ? run : own, "memopt", mo_core_section("memopt")->table,
                              &settings, error);
    for (size_t i = 0; code == 0 && i < settings.plugin_path.count; i++)
        code = mo_plugin_add_directory(settings.plugin_path.items[i], error);
    if (code < 0) {
        mo_config_free(run);
        mo_config_free(own);
        return code;
    }
    mo_host.in_program = 1;
    atomic_store(&event_sink, sink);
    library.services = services;
    library.run = run;
    library.own = own;
    library.allocator = settings.allocator;
    library.ready = 1;
    return 0;
}

int memopt_init(const char *config_file, struct memopt_error *error) {
    int code = mo_library_enter(error, "read the configuration");
    if (code < 0)
        return code;
    if (library.ready)
        code = mo_fail(error, -EALREADY,
                       "the configuration has been read already: call memopt_init() before any "
                       "other function of the library");
    else
        code = start(config_file, error);
    mo_library_leave();
    return code;
}

int mo_library_start(struct memopt_error *error) {
    return start(NULL, error);
}

/* ---------------------------------------------------------- opening a heap */

/* Everything that options and INI say, together. */
struct plan {
    const char *allocator;
    uint64_t limit;
    int steps[MO_HEAP_STEPS];
    size_t step_count;
    void *region;
    size_t region_size;
    int spills; /* `spill` is among the steps */
    const char *spill_dir;
    uint64_t spill_limit;
};

static int check_name(const char *name, struct memopt_error *error) {
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                  "_-.";
    size_t length = name == NULL ? 0 : strlen(name);
    if (length == 0 || length >= MEMOPT_HEAP_NAME_MAX || strspn(name, allowed) != length)
        return mo_fail(error, -EINVAL,
                       "heap name '%.80s': expected 1 to %d letters, digits, '_', '-' or '.'",
                       name == NULL ? "" : name, MEMOPT_HEAP_NAME_MAX - 1);
    return 0;
}

/* Room for the list of a caller's on_limit, on the stack. */
struct scratch {
    size_t used;
    _Alignas(16) char bytes[1024];
};
static void *scratch_alloc(void *context, size_t size) {
    struct scratch *scratch = context;
    size = (size + 15) & ~(size_t)15;
    if (size > sizeof(scratch->bytes) - scratch->used)
        return NULL;
    void *p = scratch->bytes + scratch->used;
    scratch->used += size;
    return p;
}

static void plan_steps(const struct memopt_list *list, struct plan *plan) {
    static const char *const words[] = {[MEMOPT_PRESSURE_PURGE] = "purge",
                                        [MEMOPT_PRESSURE_SHRINK] = "shrink",
                                        [MEMOPT_PRESSURE_SPILL] = "spill",
                                        [MEMOPT_PRESSURE_FAIL] = "fail"};
    plan->step_count = 0;
    plan->spills = 0;
    for (size_t i = 0; i < list->count && i < MO_HEAP_STEPS; i++) {
        int step = MEMOPT_PRESSURE_PURGE;
        while (strcmp(list->items[i], words[step]) != 0)
            step++; /* the option's table has no other words */
        plan->steps[plan->step_count++] = step;
        plan->spills |= step == MEMOPT_PRESSURE_SPILL;
    }
}

int mo_library_blame(const struct mo_config *config, const char *section, const char *key,
                     struct memopt_error *error) {
    struct mo_origin origin;
    if (mo_config_get(config, section, key, &origin) == NULL || origin.file == NULL)
        return mo_error_prefix(error, "[%s]", section);
    if (origin.kind == MO_ORIGIN_FILE)
        return mo_error_prefix(error, "%s:%d: [%s]", origin.file, origin.line, section);
    return mo_error_prefix(error, "%s: [%s]", origin.file, section);
}

static int make_plan(const char *name, const struct memopt_heap_options *given, struct plan *plan,
                     struct memopt_error *error) {
    struct memopt_heap_options options = MEMOPT_HEAP_OPTIONS_INIT;
    if (given != NULL) {
        if (given->size < offsetof(struct memopt_heap_options, allocator) ||
            given->size > sizeof(options))
            return mo_fail(error, -EINVAL,
                           "heap '%s': the options' size is %zu: begin with "
                           "MEMOPT_HEAP_OPTIONS_INIT",
                           name, given->size);
        memcpy(&options, given, given->size);
    }
    char section[sizeof("heap.") + MEMOPT_HEAP_NAME_MAX];
    snprintf(section, sizeof(section), "heap.%s", name);
    struct mo_config *config = mo_library_config(section);
    struct mo_option_table table = mo_core_section("heap")->table;
    struct mo_settings_heap settings;
    int code = mo_config_fill(config, section, table, &settings, error);
    if (code < 0)
        return code;

    plan->allocator = options.allocator != NULL    ? options.allocator
                      : settings.allocator != NULL ? settings.allocator
                                                   : library.allocator;
    plan->limit = options.limit != 0 ? options.limit : settings.limit;
    plan->region = options.region;
    plan->region_size = options.region_size;
    if ((options.region == NULL) != (options.region_size == 0))
        return mo_fail(error, -EINVAL, "heap '%s': region and region_size must be given together",
                       name);
    if (options.region == NULL && settings.region != UINT64_MAX)
        plan->region_size = settings.region;
    if (strcmp(name, DEFAULT_NAME) == 0) {
        if (options.allocator != NULL || settings.allocator != NULL)
            return mo_fail(error, -EINVAL,
                           "heap 'default': its allocator is that of [memopt], and can't be set "
                           "for the heap");
        if (plan->region_size != 0)
            return mo_fail(error, -EINVAL, "heap 'default' can't have a region");
    }
    struct mo_settings_pressure pressure;
    code = mo_config_fill(mo_library_config("pressure"), "pressure",
                          mo_core_section("pressure")->table, &pressure, error);
    if (code < 0)
        return code;
    plan->spill_dir = options.spill_dir != NULL ? options.spill_dir : pressure.spill_dir;
    plan->spill_limit = options.spill_limit != 0 ? options.spill_limit : settings.spill_limit;
    struct scratch scratch = {.used = 0};
    struct mo_allocator allocator = {scratch_alloc, &scratch};
    if (options.on_limit != NULL) {
        code = mo_option_parse(mo_option_find(table, "on_limit"), options.on_limit, NULL, &settings,
                               &allocator, error);
        if (code < 0)
            return mo_error_prefix(error, "heap '%s'", name);
    }
    plan_steps(&settings.on_limit, plan);
    if (plan->spills && strcmp(name, DEFAULT_NAME) == 0)
        return mo_fail(error, -ENOTSUP,
                       "heap 'default' can't spill: its blocks are free()'s, too; use purge, "
                       "shrink, fail in on_limit");
    return 0;
}

static void init_lists(struct memopt_heap *heap) {
    pthread_mutex_init(&heap->hook_lock, NULL);
    pthread_mutex_init(&heap->checked_lock, NULL);
    for (unsigned i = 0; i < MO_HEAP_SHARDS; i++) {
        pthread_mutex_init(&heap->shards[i].lock, NULL);
        heap->shards[i].head.previous = heap->shards[i].head.next = &heap->shards[i].head;
    }
}

/* Decides on the kind of raw operations and starts them. */
static int begin_backend(struct memopt_heap *heap, const struct plan *plan,
                         struct memopt_error *error) {
    struct mo_plugin *plugin = heap->backend->plugin;
    heap->malloc = heap->backend->malloc;
    if (heap->is_default) {
        heap->ops = &mo_heap_plain_ops;
        return 0;
    }
    if (!plugin->has_heaps) {
        if (plan->region_size != 0)
            return mo_fail(error, -ENOTSUP,
                           "heap '%s': allocator '%s' can't allocate from a region; use arena",
                           heap->name, plan->allocator);
        heap->ops = &mo_heap_list_ops;
        return 0;
    }
    struct memopt_heap_params params = {
        .size = sizeof(params),
        .name = heap->name,
        .limit = plan->limit,
        .region = plan->region,
        .region_size = plan->region_size,
    };
    if (plan->region == NULL && plan->region_size != 0) {
        void *region = mmap(NULL, plan->region_size, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (region == MAP_FAILED)
            return mo_fail(error, -ENOMEM, "heap '%s': can't map a region of %zu bytes: %s",
                           heap->name, plan->region_size, strerror(errno));
        params.region = heap->mapped_region = region;
        heap->mapped_size = plan->region_size;
    }
    int code = plugin->ops.allocator.heap_create(&params, &heap->native, error);
    if (code < 0) {
        if (heap->mapped_region != NULL)
            munmap(heap->mapped_region, heap->mapped_size);
        /* a plugin may have named the heap itself */
        char named[sizeof(heap->name) + 16];
        snprintf(named, sizeof(named), "heap '%s'", heap->name);
        return strstr(error->message, named) != NULL ? code : mo_error_prefix(error, "%s", named);
    }
    heap->ops = &mo_heap_native_ops;
    return 0;
}

/* Counters in the process's ledger if there is one with room, else in `own`. */
static void begin_counters(struct memopt_heap *heap, const struct plan *plan) {
    struct mo_ledger_heap *slot = NULL;
    if (library.services != NULL && library.services->heap_slot != NULL)
        slot = library.services->heap_slot(heap->name, heap->allocator);
    heap->central = slot != NULL ? slot : &heap->own;
    atomic_store(&heap->central->limit, plan->limit);
    atomic_store(&heap->central->committed, MEMOPT_UNKNOWN);
    int mode = plan->limit == MEMOPT_NO_LIMIT ? 0 : MO_HEAP_LIMITED;
    if (plan->spills)
        mode |= MO_HEAP_LIMITED | MO_HEAP_SPILLS;
    atomic_store(&heap->mode, mode);
    heap->peak_estimated = !(mode & MO_HEAP_LIMITED);
}

static int create(const char *name, const struct memopt_heap_options *options,
                  struct memopt_heap **ret_heap, struct memopt_error *error) {
    struct plan plan;
    struct mo_backend *backend;
    int is_default = strcmp(name, DEFAULT_NAME) == 0;
    int code = make_plan(name, options, &plan, error);
    if (code < 0)
        return code;
    /* Under memopt run the process's malloc is what the shim or the agent made it. */
    if (is_default && library.services != NULL)
        plan.allocator = library.services->allocator != NULL ? library.services->allocator : "libc";
    code = mo_backend_open(plan.allocator, library.services, &backend, error);
    if (code < 0)
        return mo_error_prefix(error, "heap '%s'", name);
    if (is_default && backend->plugin->ops.allocator.flags & MEMOPT_ALLOCATOR_HEAPS_ONLY)
        return mo_fail(error, -ENOTSUP,
                       "heap 'default': allocator '%s' can only be that of a named heap",
                       plan.allocator);
    struct memopt_heap *heap =
        mmap(NULL, sizeof(*heap), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (heap == MAP_FAILED)
        return mo_fail(error, -ENOMEM, "heap '%s': out of memory for its counters", name);
    memcpy(heap->name, name, strlen(name) + 1);
    heap->backend = backend;
    heap->allocator = backend->plugin->descriptor.name;
    heap->is_default = is_default;
    memcpy(heap->steps, plan.steps, sizeof(heap->steps));
    heap->step_count = plan.step_count;
    init_lists(heap);
    code = begin_backend(heap, &plan, error);
    if (code < 0) {
        munmap(heap, sizeof(*heap));
        return code;
    }
    mo_heap_check(heap);
    if (plan.spills && (code = mo_spill_open(heap, plan.spill_dir, plan.spill_limit, error)) < 0) {
        heap->ops->destroy(heap);
        if (heap->mapped_region != NULL)
            munmap(heap->mapped_region, heap->mapped_size);
        munmap(heap, sizeof(*heap));
        return mo_error_prefix(error, "heap '%s'", name);
    }
    begin_counters(heap, &plan);
    struct memopt_heap **last = &heaps;
    while (*last != NULL)
        last = &(*last)->next;
    *last = heap;
    *ret_heap = heap;
    return 0;
}

struct memopt_heap *mo_library_find(const char *name) {
    struct memopt_heap *heap = heaps;
    while (heap != NULL && strcmp(heap->name, name) != 0)
        heap = heap->next;
    return heap;
}

int mo_library_open(const char *name, const struct memopt_heap_options *options,
                    struct memopt_heap **ret_heap, struct memopt_error *error) {
    struct memopt_heap *heap = mo_library_find(name);
    if (heap == NULL) {
        int code = mo_library_start(error);
        if (code == 0)
            code = create(name, options, &heap, error);
        if (code < 0)
            return code;
    }
    *ret_heap = heap;
    return 0;
}

int memopt_heap_open(const char *name, const struct memopt_heap_options *options,
                     struct memopt_heap **ret_heap, struct memopt_error *error) {
    struct memopt_error unwanted; /* from here on there is one to put prefixes to */
    if (error == NULL)
        error = &unwanted;
    int code = check_name(name, error);
    if (code == 0 && ret_heap == NULL)
        code = mo_fail(error, -EINVAL, "memopt_heap_open: a result is needed");
    if (code == 0)
        code = mo_library_enter(error, "open a heap");
    if (code < 0)
        return code;
    code = mo_library_open(name, options, ret_heap, error);
    mo_library_leave();
    return code;
}

struct memopt_heap *memopt_heap_find(const char *name) {
    /* Inside memopt_heap_each() the list is held by this very thread. */
    int walking = pthread_mutex_lock(&lock) == EDEADLK;
    struct memopt_heap *heap = name == NULL ? NULL : mo_library_find(name);
    if (!walking)
        mo_library_leave();
    return heap;
}

struct memopt_heap *memopt_heap_default(struct memopt_error *error) {
    struct memopt_heap *heap = memopt_heap_find(DEFAULT_NAME);
    if (heap == NULL && memopt_heap_open(DEFAULT_NAME, NULL, &heap, error) < 0)
        return NULL;
    return heap;
}

/* ---------------------------------------------------------- ending a heap */

static struct mo_fork_hooks *fork_hooks;

static void destroy_locks(struct memopt_heap *heap) {
    pthread_mutex_destroy(&heap->hook_lock);
    pthread_mutex_destroy(&heap->checked_lock);
    for (unsigned i = 0; i < MO_HEAP_SHARDS; i++)
        pthread_mutex_destroy(&heap->shards[i].lock);
}

/* The ledger's slot outlives the heap. */
static void end_counters(struct memopt_heap *heap) {
    mo_count_flush_all(heap);
    struct mo_ledger_heap *central = heap->central;
    atomic_fetch_add(&central->frees, atomic_exchange(&central->live_blocks, 0));
    atomic_store(&central->live_bytes, 0);
    atomic_store(&central->committed, MEMOPT_UNKNOWN);
    atomic_store(&central->used, 2);
}

int memopt_heap_destroy(struct memopt_heap *heap, struct memopt_error *error) {
    if (heap == NULL)
        return 0;
    if (heap->is_default)
        return mo_fail(error, -EINVAL, "the default heap can't be destroyed");
    int code = mo_library_enter(error, "destroy a heap");
    if (code < 0)
        return code;
    struct memopt_heap **at = &heaps;
    while (*at != heap)
        at = &(*at)->next;
    *at = heap->next;
    mo_step_forget(heap);
    for (struct mo_fork_hooks *hooks = fork_hooks; hooks != NULL; hooks = hooks->next)
        if (hooks->heap_ends != NULL)
            hooks->heap_ends(heap);
    heap->ops->destroy(heap);
    end_counters(heap);
    destroy_locks(heap);
    if (heap->mapped_region != NULL)
        munmap(heap->mapped_region, heap->mapped_size);
    munmap(heap, sizeof(*heap));
    mo_library_leave();
    return 0;
}

/* ------------------------------------------------------------------- walk */

int mo_library_walk(memopt_heap_visit_fn visit, void *context) {
    int result = 0;
    for (struct memopt_heap *heap = heaps; heap != NULL && result == 0; heap = heap->next) {
        struct memopt_heap_statistics stats = MEMOPT_HEAP_STATISTICS_INIT;
        memopt_heap_stats(heap, &stats);
        result = visit(context, heap, &stats);
    }
    return result;
}

int memopt_heap_each(memopt_heap_visit_fn visit, void *context) {
    int result = mo_library_enter(NULL, "walk");
    if (result < 0)
        return result;
    result = mo_library_walk(visit, context);
    mo_library_leave();
    return result;
}

/* --------------------------------------------------------- fork and exit */

static void each_spill_before(void) {
    for (struct memopt_heap *heap = heaps; heap != NULL; heap = heap->next)
        mo_spill_before_fork(heap);
}

static void each_spill_after(int in_child) {
    for (struct memopt_heap *heap = heaps; heap != NULL; heap = heap->next)
        mo_spill_after_fork(heap, in_child);
}

static void each_lock(int (*operation)(pthread_mutex_t *)) {
    for (struct memopt_heap *heap = heaps; heap != NULL; heap = heap->next) {
        operation(&heap->hook_lock);
        operation(&heap->checked_lock);
        for (unsigned i = 0; i < MO_HEAP_SHARDS; i++)
            operation(&heap->shards[i].lock);
    }
}

void mo_library_at_fork(struct mo_fork_hooks *hooks) {
    if (hooks->there)
        return;
    hooks->there = 1;
    hooks->next = fork_hooks;
    fork_hooks = hooks;
}

static void each_hook(int after, int in_child) {
    for (struct mo_fork_hooks *hooks = fork_hooks; hooks != NULL; hooks = hooks->next)
        if (after)
            hooks->after(in_child);
        else
            hooks->before();
}

/* fork() from inside memopt_heap_each(): the walk has the lock and keeps it. */
static _Thread_local int walking_fork __attribute__((tls_model("initial-exec")));
/* The handlers are registered once more after each backend's library, so that ours are
 * taken before its locks; what is registered last locks, and unlocks when all have run. */
static _Thread_local int fork_depth __attribute__((tls_model("initial-exec")));

int mo_library_fork_order(void) {
    return pthread_atfork(before_fork, after_fork_parent, after_fork_child) == 0 ? 0 : -ENOMEM;
}

static void before_fork(void) {
    if (fork_depth++ > 0)
        return;
    walking_fork = pthread_mutex_lock(&lock) == EDEADLK;
    each_hook(0, 0);
    pthread_mutex_lock(&mo_steps_lock);
    each_lock(pthread_mutex_lock);
    each_spill_before();
    mo_backends_before_fork();
}

static void after_fork_parent(void) {
    if (--fork_depth > 0)
        return;
    mo_backends_after_fork(0);
    each_spill_after(0);
    each_lock(pthread_mutex_unlock);
    pthread_mutex_unlock(&mo_steps_lock);
    each_hook(1, 0);
    if (!walking_fork)
        mo_library_leave();
}

static void after_fork_child(void) {
    if (--fork_depth > 0)
        return;
    mo_backends_after_fork(1);
    each_spill_after(1);
    each_lock(pthread_mutex_unlock);
    pthread_mutex_unlock(&mo_steps_lock);
    each_hook(1, 1);
    /* An error-checking mutex knows its owner by a number that is another one in
     * the child. */
    lock = (pthread_mutex_t)PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;
    if (walking_fork)
        pthread_mutex_lock(&lock);
    mo_count_fork_child();
}

/* What threads have not flushed yet reaches the ledger. */
static __attribute__((destructor)) void finish(void) {
    if (library.services == NULL || pthread_mutex_trylock(&lock) != 0)
        return;
    for (struct memopt_heap *heap = heaps; heap != NULL; heap = heap->next) {
        struct memopt_heap_statistics stats = MEMOPT_HEAP_STATISTICS_INIT;
        memopt_heap_stats(heap, &stats); /* leaves `committed` in the ledger */
        mo_count_flush_all(heap);
    }
    mo_library_leave();
}
