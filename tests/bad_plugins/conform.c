/*
 * conform.c - plugins that load and don't do what memopt/plugin.h promises: one defect
 * each, which tests/test_conformance.sh defines. Without one they conform.
 */
#include <memopt/plugin.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifdef REPORTER

#define PUT(...)                                                                                   \
    do {                                                                                           \
        int r = output->printf(output, __VA_ARGS__);                                               \
        if (r < 0)                                                                                 \
            return FAILED(r);                                                                      \
    } while (0)
#ifdef SWALLOWS
#define FAILED(R) ((void)(R), 0)
#elif defined OTHER_ERROR
#define FAILED(R) ((void)(R), -EIO)
#else
#define FAILED(R) (R)
#endif

static int plain_write(const struct memopt_host *host, const void *settings,
                       const struct memopt_report *report, struct memopt_output *output,
                       struct memopt_error *error) {
    (void)host, (void)settings, (void)error;
    PUT("processes: %zu\n", report->process_count);
#ifdef CLOCK
    PUT("%lld\n", (long long)time(NULL));
#endif
#ifdef OPENS
    if (open("/dev/null", O_RDONLY) < 0)
        return -errno;
#endif
#ifdef REFUSES_EMPTY
    if (report->process_count == 0)
        return -ENODATA;
#endif
#ifdef SILENT
    return 0;
#endif
    for (size_t i = 0; i < report->process_count; i++) {
#ifdef STRIDE
        const struct memopt_process *process = &report->processes[i];
        if (process->pid < 0 || process->pid > 1000000)
            return 0;
#else
        const struct memopt_process *process =
            (const void *)((const char *)report->processes + i * report->process_size);
#endif
#ifdef NULL_STRING
        PUT("%zu\n", strlen(process->program));
#else
        PUT("%s\n", process->program != NULL ? process->program : "-");
#endif
#ifdef UNKNOWN
        PUT("%llu\n", (unsigned long long)process->peak_rss);
#else
        if (process->peak_rss != MEMOPT_UNKNOWN)
            PUT("%llu\n", (unsigned long long)process->peak_rss);
#endif
    }
    return 0;
}

static const struct memopt_reporter_ops ops = {
    .size = sizeof(ops), .default_output = "stderr", .write = plain_write};

#elif defined TRACKER /* counts, and keeps sizes in an area */

enum { SIZES = 1024 };
struct state {
    uint64_t allocations, frees;
};
static const struct memopt_host *plain_host;
static uint64_t *sizes;
static _Atomic int backed;

static int plain_open(const struct memopt_host *host, const void *settings, void **ret_self,
                      struct memopt_error *error) {
    (void)settings;
    plain_host = host;
    *ret_self = &sizes;
#ifdef BAD_NAME
    sizes = host->area("Sizes of mine", 1, sizeof(*sizes), SIZES, error);
#else
    sizes = host->area("sizes", 1, sizeof(*sizes), SIZES, error);
#endif
    return sizes == NULL ? -ENOSPC : 0;
}

static void plain_alloc(void *self, void *thread, const struct memopt_event_info *info) {
    struct state *state = thread;
    (void)self;
#ifdef CALLS_MALLOC
    void *volatile p = malloc(1);
    free(p);
#endif
#ifdef ERRNO
    errno = EIO;
#endif
#ifdef LATE
    sizes = plain_host->area("late", 1, sizeof(*sizes), SIZES, NULL);
#endif
#ifdef ABORTS
    if (info->event == MEMOPT_EVENT_RESTORE)
        abort();
#endif
#ifdef OVERFLOWS
    state += 4;
#endif
#ifndef UNBACKED
    if (!backed && plain_host->area_back(sizes, SIZES) == 0)
        backed = 1;
#endif
    sizes[state->allocations++ % SIZES] = info->asked;
}

static void plain_free(void *self, void *thread, const struct memopt_event_info *info) {
    (void)self, (void)info;
    ((struct state *)thread)->frees++;
}

static void plain_fork_child(void *self) {
    (void)self;
#ifndef STALE
    backed = 0;
#endif
}

static int plain_report(const struct memopt_host *host, const void *settings,
                        const struct memopt_ledger_section *section, struct memopt_report *report,
                        struct memopt_process *process, struct memopt_error *error) {
    static const struct memopt_histogram_bin bin;
    size_t count = 0;
    int64_t tid;
    (void)settings, (void)report;
    const uint64_t *kept = section->area(section, "sizes", 1, sizeof(*kept), &count);
    for (size_t i = 0; i < section->thread_count; i++) {
        const struct state *state = section->thread(section, i, &tid);
#ifdef TRUSTS_SIZE
        if (state == NULL)
#else
        if (state == NULL || section->thread_size < sizeof(*state))
#endif
            continue;
        process->counts.allocations += state->allocations;
        process->counts.frees += state->frees;
    }
#ifdef TRUSTS_COUNT
    process->histogram = &bin;
    process->histogram_size = sizeof(bin);
    process->histogram_count = (size_t)(process->counts.allocations % (1u << 20));
#endif
#ifdef NO_AREA
    if (kept == NULL)
        return *(volatile int *)NULL;
#endif
#ifdef NO_MESSAGE
    if (process->counts.allocations > 1000000)
        return -EINVAL;
#endif
    return 0;
}

static const struct memopt_tracker_ops ops = {.size = sizeof(ops),
                                              .state_version = 1,
                                              .thread_size = sizeof(struct state),
                                              .open = plain_open,
                                              .alloc = plain_alloc,
                                              .free = plain_free,
                                              .fork_child = plain_fork_child,
                                              .report = plain_report};

#else /* an allocator over the C library's, by its own names and not by the program's */

static struct memopt_malloc libc;

static void *plain_malloc(size_t size) {
#ifdef NULL_ZERO
    if (size == 0)
        return NULL;
#endif
#ifdef CALLS_MALLOC
    void *volatile p = malloc(1);
    free(p);
#endif
#ifdef EXITS
    if (size > 20000)
        _exit(0);
#endif
    return libc.malloc(size);
}

static void *plain_calloc(size_t count, size_t size) {
#ifdef DIRTY
    return plain_malloc(count * size);
#else
    return libc.calloc(count, size);
#endif
}

static void *plain_realloc(void *p, size_t size) {
#ifdef LOSES
    libc.free(p);
    return plain_malloc(size);
#elif defined FREES_ON_FAILURE
    void *fresh = libc.realloc(p, size);
    if (fresh == NULL)
        memset(p, 0, 64);
    return fresh;
#else
    return libc.realloc(p, size);
#endif
}

static void *plain_aligned_alloc(size_t alignment, size_t size) {
#ifdef HANGS
    if (alignment == 4096)
        for (;;)
            pause();
#endif
#ifdef MISALIGNED
    if (alignment > 65536)
        return libc.malloc(size);
#endif
    return libc.aligned_alloc(alignment, size);
}

static size_t plain_usable_size(void *p) {
#ifdef GROWS
    static size_t calls;
    return libc.usable_size(p) + (++calls > 450);
#endif
#ifdef CRASHES
    return *(volatile size_t *)NULL;
#endif
    return libc.usable_size(p);
}

#ifdef ERRNO
static int plain_quick_figures(struct memopt_figures *figures) {
    (void)figures;
    errno = EIO;
    return 0;
}
#endif

static int plain_open(const struct memopt_host *host, const void *settings,
                      struct memopt_malloc *ret_malloc, struct memopt_error *error) {
    (void)settings;
    void *handle = dlopen("libc.so.6", RTLD_NOW | RTLD_LOCAL);
#ifdef OPEN_FAILS
    handle = NULL;
#endif
#ifdef OPEN_CRASHES
    abort();
#endif
    if (handle == NULL)
        return host->fail(error, -ENOENT, "there is no C library");
    libc.malloc = (void *(*)(size_t))dlsym(handle, "malloc");
    libc.calloc = (void *(*)(size_t, size_t))dlsym(handle, "calloc");
    libc.realloc = (void *(*)(void *, size_t))dlsym(handle, "realloc");
    libc.free = (void (*)(void *))dlsym(handle, "free");
    libc.aligned_alloc = (void *(*)(size_t, size_t))dlsym(handle, "memalign");
    libc.usable_size = (size_t(*)(void *))dlsym(handle, "malloc_usable_size");
    ret_malloc->malloc = plain_malloc;
    ret_malloc->calloc = plain_calloc;
    ret_malloc->realloc = plain_realloc;
    ret_malloc->free = libc.free;
    ret_malloc->aligned_alloc = plain_aligned_alloc;
    ret_malloc->usable_size = plain_usable_size;
    return 0;
}

static const struct memopt_allocator_ops ops = {
    .size = sizeof(ops),
    .open = plain_open,
#ifdef ERRNO
    .quick_figures = plain_quick_figures,
#endif
};

#endif

MEMOPT_EXPORT const struct memopt_plugin memopt_plugin = {
#ifdef REPORTER
    MEMOPT_PLUGIN_HEADER(MEMOPT_REPORTER),
#elif defined TRACKER
    MEMOPT_PLUGIN_HEADER(MEMOPT_TRACKER),
#else
    MEMOPT_PLUGIN_HEADER(MEMOPT_ALLOCATOR),
#endif
    .name = "plain",
    .version = "1.0",
    .summary = "for tests of the conformance suite",
    .ops = &ops,
};
