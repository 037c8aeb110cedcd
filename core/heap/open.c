/*
 * open.c - the list of heaps: how a heap is planned, opened, found and destroyed; the walk;
 * fork, and the end of the process (see heap.h).
 */
#include "core/heap/heap.h"
#include "core/heap/section.h"
#include "core/heap/spill.h"

#include "core/base/error.h"
#include "core/runtime/fork.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define DEFAULT_NAME "default"

struct memopt_heap *mo_heaps;

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
    struct mo_config *config = mo_runtime_config(section);
    struct mo_option_table table = mo_section_heap.table;
    struct mo_settings_heap settings;
    int code = mo_config_fill(config, section, table, &settings, error);
    if (code < 0)
        return code;

    plan->allocator = options.allocator != NULL    ? options.allocator
                      : settings.allocator != NULL ? settings.allocator
                                                   : mo_runtime_allocator();
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
    const char *spill_dir =
        mo_config_get(mo_runtime_config("pressure"), "pressure", "spill_dir", NULL);
    plan->spill_dir = options.spill_dir != NULL              ? options.spill_dir
                      : spill_dir == NULL || *spill_dir == 0 ? NULL
                                                             : spill_dir;
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
        const struct mo_program_services *services = mo_runtime_services();
        if (heap->backend->is_process && services->malloc != NULL)
            heap->malloc = *services->malloc;
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
    int code = plugin->ops.allocator.heap_create(&mo_host, &params, &heap->native, error);
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
static void choose_counters(struct memopt_heap *heap) {
    const struct mo_program_services *services = mo_runtime_services();
    struct mo_ledger_heap *slot = NULL;
    if (services != NULL && heap->is_default)
        slot = services->default_heap;
    if (services != NULL && slot == NULL)
        slot = services->heap_slot(heap->name, heap->allocator);
    heap->central = slot != NULL ? slot : &heap->own;
    if (heap->account != NULL)
        heap->number = slot != NULL ? services->heap_number(slot) : UINT32_MAX;
}

static void begin_counters(struct memopt_heap *heap, const struct plan *plan) {
    const struct mo_program_services *services = mo_runtime_services();
    if (!heap->is_default && services != NULL && services->alloc != NULL)
        heap->account = services;
    choose_counters(heap);
    if (heap->is_default && services != NULL && services->default_heap != NULL) {
        atomic_store(&heap->mode, MO_HEAP_PROGRAMS); /* its limit is the shim's, and stands */
        return;
    }
    atomic_store(&heap->central->limit, plan->limit);
    atomic_store(&heap->central->committed, MEMOPT_UNKNOWN);
    int mode = plan->limit == MEMOPT_NO_LIMIT ? 0 : MO_HEAP_LIMITED;
    if (plan->spills)
        mode |= MO_HEAP_LIMITED | MO_HEAP_SPILLS;
    atomic_store(&heap->mode, mode);
    heap->peak_estimated = !(mode & MO_HEAP_LIMITED);
}

/* fork: a slot is the parent's, and changes with it. The child goes on in one of its own with
 * what was counted. */
static void keep_counters(void) {
    for (struct memopt_heap *heap = mo_heaps; heap != NULL; heap = heap->next)
        if (heap->central != &heap->own && atomic_load(&heap->mode) != MO_HEAP_PROGRAMS)
            memcpy(&heap->own, heap->central, sizeof(heap->own));
}

static void move_counters(void) {
    for (struct memopt_heap *heap = mo_heaps; heap != NULL; heap = heap->next) {
        if (heap->central == &heap->own)
            continue;
        choose_counters(heap);
        if (heap->central != &heap->own && atomic_load(&heap->mode) != MO_HEAP_PROGRAMS)
            memcpy(heap->central, &heap->own, sizeof(heap->own));
    }
}

static void each_lock(void (*operation)(pthread_mutex_t *)) {
    for (struct memopt_heap *heap = mo_heaps; heap != NULL; heap = heap->next) {
        operation(&heap->hook_lock);
        operation(&heap->checked_lock);
        for (unsigned i = 0; i < MO_HEAP_SHARDS; i++)
            operation(&heap->shards[i].lock);
    }
}

static void before_fork(void) {
    mo_fork_lock(&mo_steps_lock);
    each_lock(mo_fork_lock);
    keep_counters();
}

static void after_fork(int in_child) {
    if (in_child)
        move_counters();
    each_lock(mo_fork_unlock);
    mo_fork_unlock(&mo_steps_lock);
    if (in_child)
        mo_count_fork_child();
}

/* Before the first heap. */
static int begin(struct memopt_error *error) {
    static const struct mo_fork_hooks hooks = {
        .rank = MO_FORK_HEAP, .before = before_fork, .after = after_fork};
    int code = mo_count_start();
    if (code < 0)
        return mo_fail(error, code, "can't make a thread key: %s", strerror(-code));
    return mo_fork_register(&hooks, error);
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
    const struct mo_program_services *services = mo_runtime_services();
    if (is_default && services != NULL)
        plan.allocator = services->allocator != NULL ? services->allocator : "libc";
    code = mo_backend_open(plan.allocator, &backend, error);
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
    struct memopt_heap **last = &mo_heaps;
    while (*last != NULL)
        last = &(*last)->next;
    *last = heap;
    *ret_heap = heap;
    return 0;
}

struct memopt_heap *mo_heap_find(const char *name) {
    struct memopt_heap *heap = mo_heaps;
    while (heap != NULL && strcmp(heap->name, name) != 0)
        heap = heap->next;
    return heap;
}

int mo_heap_open(const char *name, const struct memopt_heap_options *options,
                 struct memopt_heap **ret_heap, struct memopt_error *error) {
    struct memopt_heap *heap = mo_heap_find(name);
    if (heap == NULL) {
        mo_runtime_own_begin();
        int code = mo_runtime_start(error);
        if (code == 0)
            code = begin(error);
        if (code == 0)
            code = create(name, options, &heap, error);
        mo_runtime_own_end();
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
        code = mo_runtime_enter(error, "open a heap");
    if (code < 0)
        return code;
    code = mo_heap_open(name, options, ret_heap, error);
    mo_runtime_leave();
    return code;
}

struct memopt_heap *memopt_heap_find(const char *name) {
    int had_it = mo_runtime_lock();
    struct memopt_heap *heap = name == NULL ? NULL : mo_heap_find(name);
    mo_runtime_unlock(had_it);
    return heap;
}

struct memopt_heap *memopt_heap_default(struct memopt_error *error) {
    struct memopt_heap *heap = memopt_heap_find(DEFAULT_NAME);
    if (heap == NULL && memopt_heap_open(DEFAULT_NAME, NULL, &heap, error) < 0)
        return NULL;
    return heap;
}

/* ---------------------------------------------------------- ending a heap */

static struct mo_heap_end *ends; /* what wants to hear of it */

void mo_heap_at_end(struct mo_heap_end *end) {
    if (end->there)
        return;
    end->there = 1;
    end->next = ends;
    ends = end;
}

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

/* Trackers hear of all its blocks at once. */
static void tell_end(struct memopt_heap *heap) {
    struct memopt_heap_statistics stats = MEMOPT_HEAP_STATISTICS_INIT;
    memopt_heap_stats(heap, &stats);
    uint64_t bytes = stats.live_bytes + stats.spilled_bytes - atomic_load(&heap->charged);
    if (stats.live_blocks > 0)
        heap->account->destroy(heap->number, stats.live_blocks, bytes);
}

int memopt_heap_destroy(struct memopt_heap *heap, struct memopt_error *error) {
    if (heap == NULL)
        return 0;
    if (heap->is_default)
        return mo_fail(error, -EINVAL, "the default heap can't be destroyed");
    int code = mo_runtime_enter(error, "destroy a heap");
    if (code < 0)
        return code;
    struct memopt_heap **at = &mo_heaps;
    while (*at != heap)
        at = &(*at)->next;
    *at = heap->next;
    mo_step_forget(heap);
    for (struct mo_heap_end *end = ends; end != NULL; end = end->next)
        end->ends(heap);
    if (heap->account != NULL)
        tell_end(heap);
    heap->ops->destroy(heap);
    end_counters(heap);
    destroy_locks(heap);
    if (heap->mapped_region != NULL)
        munmap(heap->mapped_region, heap->mapped_size);
    munmap(heap, sizeof(*heap));
    mo_runtime_leave();
    return 0;
}

/* ------------------------------------------------------------------- walk */

int mo_heap_walk(memopt_heap_visit_fn visit, void *context) {
    int result = 0;
    for (struct memopt_heap *heap = mo_heaps; heap != NULL && result == 0; heap = heap->next) {
        struct memopt_heap_statistics stats = MEMOPT_HEAP_STATISTICS_INIT;
        memopt_heap_stats(heap, &stats);
        result = visit(context, heap, &stats);
    }
    return result;
}

int memopt_heap_each(memopt_heap_visit_fn visit, void *context) {
    int result = mo_runtime_enter(NULL, "walk");
    if (result < 0)
        return result;
    result = mo_heap_walk(visit, context);
    mo_runtime_leave();
    return result;
}

/* ----------------------------------------------------- the process's end */

/* What threads have not flushed yet reaches the ledger. */
static __attribute__((destructor)) void finish(void) {
    if (mo_heaps == NULL || mo_runtime_services() == NULL || mo_runtime_try_enter() != 0)
        return;
    for (struct memopt_heap *heap = mo_heaps; heap != NULL; heap = heap->next) {
        struct memopt_heap_statistics stats = MEMOPT_HEAP_STATISTICS_INIT;
        memopt_heap_stats(heap, &stats); /* leaves `committed` in the ledger */
        mo_count_flush_all(heap);
    }
    mo_runtime_leave();
}
