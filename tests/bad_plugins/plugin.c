/*
 * plugin.c - one small allocator plugin with one defect, chosen by the file it
 * is built as: alloc-newer-major.so is built with -DDEFECT_newer_major. For
 * test_registry.c, which knows the names and what is said of each.
 */
#include <memopt/plugin.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* What runs as soon as it is loaded, before anybody has looked at it. */
__attribute__((constructor, unused)) static void begin(void) {
#ifdef DEFECT_marks
    const char *mark = getenv("TRUST_MARK");
    if (mark != NULL)
        close(open(mark, O_WRONLY | O_CREAT, 0644));
#endif
#ifdef DEFECT_exits
    exit(0);
#endif
#ifdef DEFECT_aborts
    abort();
#endif
}

/* A bump pointer over a fixed buffer: the size, then the block. */
static _Alignas(16) char memory[1 << 16];
static size_t used;

static void *give(size_t size) {
    size_t need = 16 + ((size + 15) & ~(size_t)15);
    if (size > sizeof(memory) || need > sizeof(memory) - used)
        return NULL;
    char *at = memory + used;
    used += need;
    memcpy(at, &size, sizeof(size));
    return at + 16;
}

static void take(void *p) {
    memset(p, 0xdd, 1);
}

static void *give_aligned(size_t alignment, size_t size) {
    return alignment <= 16 ? give(size) : NULL;
}

static size_t size_of(void *p) {
    size_t size;
    memcpy(&size, (char *)p - 16, sizeof(size));
    return size;
}

__attribute__((unused)) static int open_it(const struct memopt_host *host, const void *settings,
                                           struct memopt_malloc *ret_malloc,
                                           struct memopt_error *error) {
    (void)host, (void)settings, (void)error;
#ifdef DEFECT_refusing
    /* In the program, not where memopt tries it before. */
    if (getenv("MEMOPT_RUN") != NULL) {
        strcpy(error->message, "no way");
        return error->code = -EIO;
    }
#endif
#ifdef DEFECT_refusing_size
    strcpy(error->message, "'size' is 3000, not a power of two");
    return error->code = -EINVAL;
#endif
#ifndef DEFECT_no_malloc
    ret_malloc->malloc = give;
#endif
    ret_malloc->free = take;
    ret_malloc->aligned_alloc = give_aligned;
    ret_malloc->usable_size = size_of;
    return 0;
}

struct settings {
    uint64_t size;
    int word;
};
#define OPTION MEMOPT_OPT_SIZE(struct settings, size, "size", "64KiB", "1KiB", NULL, "a size")

#if defined(DEFECT_bad_key)
static const struct memopt_option options[] = {
    MEMOPT_OPT_SIZE(struct settings, size, "Size", NULL, NULL, NULL, "a size"), MEMOPT_OPT_END};
#elif defined(DEFECT_bad_type)
static const struct memopt_option options[] = {{.key = "size", .type = 99, .help = "a size"},
                                               MEMOPT_OPT_END};
#elif defined(DEFECT_bad_flags)
static const struct memopt_option options[] = {
    {.key = "size", .type = MEMOPT_SIZE, .help = "a size", .flags = 0x10}, MEMOPT_OPT_END};
#elif defined(DEFECT_bad_offset)
static const struct memopt_option options[] = {
    {.key = "size", .type = MEMOPT_SIZE, .offset = sizeof(struct settings), .help = "a size"},
    MEMOPT_OPT_END};
#elif defined(DEFECT_bad_enum)
static const struct memopt_option options[] = {
    MEMOPT_OPT_ENUM(struct settings, word, "word", NULL, NULL, "a word"), MEMOPT_OPT_END};
#elif defined(DEFECT_empty_enum)
static const char *const no_words[] = {NULL};
static const struct memopt_option options[] = {
    MEMOPT_OPT_ENUM(struct settings, word, "word", NULL, no_words, "a word"), MEMOPT_OPT_END};
#elif defined(DEFECT_no_help)
static const struct memopt_option options[] = {
    MEMOPT_OPT_SIZE(struct settings, size, "size", NULL, NULL, NULL, NULL), MEMOPT_OPT_END};
#elif defined(DEFECT_bad_min)
static const struct memopt_option options[] = {
    MEMOPT_OPT_SIZE(struct settings, size, "size", NULL, "4 KIBI", NULL, "a size"), MEMOPT_OPT_END};
#elif defined(DEFECT_bad_max)
static const struct memopt_option options[] = {
    MEMOPT_OPT_SIZE(struct settings, size, "size", NULL, "4KiB", "1KiB", "a size"), MEMOPT_OPT_END};
#elif defined(DEFECT_same_key)
static const struct memopt_option options[] = {OPTION, OPTION, MEMOPT_OPT_END};
#elif defined(DEFECT_output_key)
static const struct memopt_option options[] = {
    MEMOPT_OPT_BOOL(struct settings, word, "output", NULL, "a word"), MEMOPT_OPT_END};
#elif defined(DEFECT_bad_default)
static const struct memopt_option options[] = {
    MEMOPT_OPT_SIZE(struct settings, size, "size", "12Q", NULL, NULL, "a size"), MEMOPT_OPT_END};
#else
static const struct memopt_option options[] = {OPTION, MEMOPT_OPT_END};
#endif

#ifdef DEFECT_undefined
extern void this_function_is_nowhere(void);
void (*needed)(void) = this_function_is_nowhere;
#endif

__attribute__((unused)) static void *no_heap(void *heap, size_t size) {
    (void)heap, (void)size;
    return NULL;
}

#if defined(DEFECT_counting_tracker) || defined(DEFECT_idle_tracker)
#define KIND MEMOPT_TRACKER
static void alloc(void *self, void *thread, const struct memopt_event_info *info) {
    (void)self, (void)thread, (void)info;
}
static const struct memopt_tracker_ops ops = {
    .size = sizeof(ops),
#ifdef DEFECT_counting_tracker
    .flags = MEMOPT_TRACKER_COUNTS,
#endif
    .alloc = alloc,
};
#elif defined(DEFECT_output_key)
#define KIND MEMOPT_REPORTER
static int write_it(const struct memopt_host *host, const void *settings,
                    const struct memopt_report *report, struct memopt_output *output,
                    struct memopt_error *error) {
    (void)host, (void)settings, (void)report, (void)output, (void)error;
    return 0;
}
static const struct memopt_reporter_ops ops = {.size = sizeof(ops), .write = write_it};
#else
#define KIND MEMOPT_ALLOCATOR
#ifdef DEFECT_slow_figures
/* Takes half a second of CPU time. */
static int slow_figures(struct memopt_figures *figures) {
    struct timespec time;
    do {
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    } while (time.tv_sec == 0 && time.tv_nsec < 500000000);
    figures->live = 1;
    return 0;
}
#endif
static const struct memopt_allocator_ops ops = {
#if defined(DEFECT_truncated_ops)
    .size = offsetof(struct memopt_allocator_ops, open),
#elif defined(DEFECT_large_ops)
    .size = sizeof(ops) + 8,
#elif defined(DEFECT_older_minor)
    /* as a plugin from before figures() was there has it */
    .size = offsetof(struct memopt_allocator_ops, figures),
    .figures = (int (*)(struct memopt_figures *))1,
    .heap_malloc = no_heap,
#else
    .size = sizeof(ops),
#endif
#ifdef DEFECT_only_heaps
    .flags = MEMOPT_ALLOCATOR_HEAPS_ONLY,
#endif
#ifdef DEFECT_half_heaps
    .heap_malloc = no_heap,
#elif !defined(DEFECT_older_minor)
    .heap_malloc = 1 ? NULL : no_heap,
#endif
#ifndef DEFECT_no_open
    .open = open_it,
#endif
#ifdef DEFECT_slow_figures
    .figures = slow_figures,
#endif
#ifdef DEFECT_missing_backend
    .libraries = (const char *const[]){"libmemopt-not-there.so.1", NULL},
    .package = "libnotthere1",
#endif
#ifdef DEFECT_refusing_size
    .libraries = (const char *const[]){"libm.so.6", NULL},
#endif
};
#endif

#if defined(DEFECT_no_symbol)
MEMOPT_EXPORT const struct memopt_plugin another_name = {
#elif defined(DEFECT_tiny)
MEMOPT_EXPORT const int tiny __asm__("memopt_plugin") = 1;
static const struct memopt_plugin unused __attribute__((used)) = {
#elif defined(DEFECT_older_major)
/* As a plugin built for ABI 1.1 has it, whose option rows had 64 bytes. */
MEMOPT_EXPORT const struct {
    uint32_t abi_major, abi_minor, size, kind, option_size, reserved;
    const char *name, *version, *summary;
    const void *options;
    size_t settings_size;
    const void *ops;
} older __asm__("memopt_plugin") = {
    1, 1, 72, MEMOPT_ALLOCATOR, 64, 0, "older-major", "1", "older", NULL, 0, &ops};
static const struct memopt_plugin unused __attribute__((used)) = {
#elif defined(DEFECT_truncated)
/* The fields of ABI 2.0 up to `version`. */
MEMOPT_EXPORT const struct {
    uint32_t abi_major, abi_minor, size, kind, option_size, reserved;
    const char *name, *version;
} truncated __asm__("memopt_plugin") = {2, 0, 40, MEMOPT_ALLOCATOR, 72, 0, "truncated", "1"};
static const struct memopt_plugin unused __attribute__((used)) = {
#else
MEMOPT_EXPORT const struct memopt_plugin memopt_plugin = {
#endif
    .abi_major = MEMOPT_ABI_MAJOR
#ifdef DEFECT_newer_major
                 + 1
#endif
    ,
    .abi_minor = MEMOPT_ABI_MINOR
#ifdef DEFECT_newer_minor
                 + 1
#endif
    ,
#ifdef DEFECT_oversize
    .size = sizeof(struct memopt_plugin) + 8,
#else
    .size = sizeof(struct memopt_plugin),
#endif
#if defined(DEFECT_wrong_kind)
    .kind = MEMOPT_REPORTER,
#elif defined(DEFECT_unknown_kind)
    .kind = 9,
#else
    .kind = KIND,
#endif
#ifdef DEFECT_option_size
    .option_size = 8,
#else
    .option_size = sizeof(struct memopt_option),
#endif
#if defined(DEFECT_bad_name)
    .name = "Bad Name",
#elif defined(DEFECT_other_name)
    .name = "another",
#else
    .name = NAME,
#endif
#ifndef DEFECT_no_version
    .version = "1.2",
#endif
    .summary = "a plugin of the tests",
    .options = options,
#ifndef DEFECT_no_settings
    .settings_size = sizeof(struct settings),
#endif
#ifndef DEFECT_no_ops
    .ops = &ops,
#endif
};
