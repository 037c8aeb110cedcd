/*
 * memopt/plugin.h - the plugin author's manual.
 *
 * A plugin is a shared object that exports one constant, `memopt_plugin`:
 *
 *     MEMOPT_EXPORT const struct memopt_plugin memopt_plugin = {
 *         MEMOPT_PLUGIN_HEADER(MEMOPT_ALLOCATOR),
 *         .name = "mine", .version = "1.0", .summary = "bump pointer over one mapping",
 *         .options = options, .settings_size = sizeof(struct settings),
 *         .ops = &ops,
 *     };
 *
 * Nothing of the plugin runs before memopt has read that constant and checked
 * it. Build it with `cc -shared -fPIC $(pkg-config --cflags memopt)`; it links
 * against nothing of memopt's. Name the file `alloc-NAME.so`, `track-NAME.so`
 * or `report-NAME.so` and put it into $(pkg-config --variable=plugindir memopt),
 * a directory of $MEMOPT_PLUGIN_PATH or of `plugin_path` in memopt.ini; or name
 * its absolute path in the INI: `allocator = /home/me/alloc-mine.so`.
 * examples/plugin/ is a complete one.
 *
 * `memopt plugins --test FILE.so` runs the conformance suite on it, the one that
 * memopt's own plugins have to pass: what this file promises, a line for each case.
 *
 * Vocabulary
 *   backend     what an allocator plugin drives: libc, jemalloc, ...
 *   default heap  what the program's malloc uses
 *   heap        a part of a backend that can be measured, purged, destroyed apart
 *   live        bytes handed out and not yet freed (usable sizes)
 *   committed   bytes the backend holds from the system, in use or not
 *   resident    bytes of it that are in RAM
 *   purge       give unused memory back to the system
 *   tracker     sees allocation events; one link of a chain
 *   reporter    turns the finished report (memopt/report.h) into bytes
 *
 * Versions
 *   major 2, minor 0 (2026-12): option rows have flags; trackers are told of events by a
 *            struct, say by flags what they want, and have areas; heap_create() gets the
 *            host. A plugin of major 1 is refused; an allocator without heaps or a
 *            reporter that is built again with these headers is one of 2.0.
 *   Fields are only ever appended, to every struct here; each struct carries
 *   its own size. memopt copies what an older plugin has into a zeroed current
 *   struct and fills what is missing with the defaults named below, so an older
 *   minor keeps working. A newer major or minor than memopt's is refused.
 *
 * Who may call what
 *   Every pointer in these structs is constant data of the plugin's and must
 *   stay valid for the life of the process: plugins are never unloaded.
 *   Operations marked [program] run inside the program that is being watched;
 *   [memopt] in the memopt command or in a program that called memopt_report().
 *   [program] operations must not call malloc and friends, nor anything that
 *   does (stdio, dlopen after open(), locale): the program's malloc may be what
 *   called them. host->alloc() gives memory that is not the program's.
 */
#ifndef MEMOPT_PLUGIN_H
#define MEMOPT_PLUGIN_H

#include <memopt/error.h>
#include <memopt/report.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MEMOPT_ABI_MAJOR 2
#define MEMOPT_ABI_MINOR 0

#define MEMOPT_EXPORT __attribute__((visibility("default")))

enum memopt_plugin_kind {
    MEMOPT_ALLOCATOR = 1,
    MEMOPT_TRACKER = 2,
    MEMOPT_REPORTER = 3,
};

/* ---------------------------------------------------------------- options */

/* The type of an option says how its text is read and what C type the field
 * of the settings struct has.
 *
 *   type      in the INI            field      when unset
 *   BOOL      yes no true false ... int        -1
 *   INT       -5                    int64_t    INT64_MIN
 *   SIZE      4096, 64KiB, 1.5GiB   uint64_t   UINT64_MAX      bytes
 *   DURATION  250ms, 2s, 1h         uint64_t   UINT64_MAX      nanoseconds
 *   RATIO     0.8, 80%              double     NaN             0.8
 *   NUMBER    1e-3                  double     NaN
 *   ENUM      one of .choices       int        -1              index
 *   LIST      a, b, c               struct memopt_list  count 0
 *   PATH      /a/file               const char *        NULL   absolute after
 *             reading: a relative one is taken from the directory of the file
 *             that names it, `~/` is the home directory
 *   STRING    any                   const char *        NULL
 */
enum memopt_option_type {
    MEMOPT_BOOL = 1,
    MEMOPT_INT,
    MEMOPT_SIZE,
    MEMOPT_DURATION,
    MEMOPT_RATIO,
    MEMOPT_NUMBER,
    MEMOPT_ENUM,
    MEMOPT_LIST,
    MEMOPT_PATH,
    MEMOPT_STRING,
};

struct memopt_list {
    size_t count;
    const char *const *items;
};

/* One row is everything memopt knows of an option: INI parsing, checks,
 * `memopt plugins NAME`, --set and the manual are made from it. A table ends
 * with a row whose key is NULL. */
struct memopt_option {
    const char *key;       /* lower case, words joined by '_' */
    uint32_t type;         /* enum memopt_option_type */
    uint32_t offset;       /* of the field in the settings struct */
    const char *value;     /* the default as a user would write it; NULL: unset */
    const char *min, *max; /* the inclusive range, written likewise; NULL: open */
    const char *const
        *choices;     /* ENUM: the words; LIST: the allowed items or NULL; ends with NULL */
    const char *unit; /* what a bare number counts, for INT and NUMBER; or NULL */
    const char *help; /* one sentence, lower case, no full stop */
    uint32_t flags;   /* 0; memopt marks rows of its own sections by them */
};

#ifdef __cplusplus
#define MEMOPT_OPTION_AT(S, F, CTYPE) ((uint32_t)offsetof(S, F))
#else
/* The field must have the C type that goes with the option's. */
#define MEMOPT_OPTION_AT(S, F, CTYPE)                                                              \
    ((uint32_t)(offsetof(S, F) + 0 * sizeof(char[_Generic(((S *)0)->F, CTYPE : 1, default : -1)])))
#endif
/* MEMOPT_OPT_SIZE(struct settings, chunk, "chunk", "2MiB", "4KiB", "1GiB", "bytes mapped at once")
 */
#define MEMOPT_OPT_BOOL(S, F, K, V, H)                                                             \
    { K, MEMOPT_BOOL, MEMOPT_OPTION_AT(S, F, int), V, NULL, NULL, NULL, NULL, H, 0 }
#define MEMOPT_OPT_INT(S, F, K, V, LO, HI, U, H)                                                   \
    { K, MEMOPT_INT, MEMOPT_OPTION_AT(S, F, int64_t), V, LO, HI, NULL, U, H, 0 }
#define MEMOPT_OPT_SIZE(S, F, K, V, LO, HI, H)                                                     \
    { K, MEMOPT_SIZE, MEMOPT_OPTION_AT(S, F, uint64_t), V, LO, HI, NULL, NULL, H, 0 }
#define MEMOPT_OPT_DURATION(S, F, K, V, LO, HI, H)                                                 \
    { K, MEMOPT_DURATION, MEMOPT_OPTION_AT(S, F, uint64_t), V, LO, HI, NULL, NULL, H, 0 }
#define MEMOPT_OPT_RATIO(S, F, K, V, LO, HI, H)                                                    \
    { K, MEMOPT_RATIO, MEMOPT_OPTION_AT(S, F, double), V, LO, HI, NULL, NULL, H, 0 }
#define MEMOPT_OPT_NUMBER(S, F, K, V, LO, HI, U, H)                                                \
    { K, MEMOPT_NUMBER, MEMOPT_OPTION_AT(S, F, double), V, LO, HI, NULL, U, H, 0 }
#define MEMOPT_OPT_ENUM(S, F, K, V, CH, H)                                                         \
    { K, MEMOPT_ENUM, MEMOPT_OPTION_AT(S, F, int), V, NULL, NULL, CH, NULL, H, 0 }
#define MEMOPT_OPT_LIST(S, F, K, V, CH, H)                                                         \
    { K, MEMOPT_LIST, MEMOPT_OPTION_AT(S, F, struct memopt_list), V, NULL, NULL, CH, NULL, H, 0 }
#define MEMOPT_OPT_PATH(S, F, K, V, H)                                                             \
    { K, MEMOPT_PATH, MEMOPT_OPTION_AT(S, F, const char *), V, NULL, NULL, NULL, NULL, H, 0 }
#define MEMOPT_OPT_STRING(S, F, K, V, H)                                                           \
    { K, MEMOPT_STRING, MEMOPT_OPTION_AT(S, F, const char *), V, NULL, NULL, NULL, NULL, H, 0 }
#define MEMOPT_OPT_END                                                                             \
    { NULL, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, 0 }

/* ------------------------------------------------------------------- host */

enum memopt_note_level { MEMOPT_NOTE_INFO = 1, MEMOPT_NOTE_WARNING = 2, MEMOPT_NOTE_ERROR = 3 };

/* What memopt offers a plugin. Any thread may call any of it; none of it goes
 * through the backend or the program's malloc. */
struct memopt_host {
    uint32_t abi_major, abi_minor;
    uint32_t size;       /* of this struct as memopt knows it */
    uint32_t in_program; /* 1: inside the watched program; 0: in the memopt command */
    /* Zeroed memory, 16-byte aligned, never freed; NULL: out of memory. For
     * what lives as long as the process. */
    void *(*alloc)(size_t size);
    /* Says something in the report (and, at level ERROR, on stderr at once). */
    void (*note)(int level, const char *format, ...) __attribute__((format(printf, 2, 3)));
    /* Fills `error` (NULL: nothing) and returns `code`, a negative errno. */
    int (*fail)(struct memopt_error *error, int code, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
    /* [program] Says what happened to the program: "KIND: TEXT" on stderr at once,
     * and an event of its process in the report, which survives the program's
     * death. `kind` is a word of [a-z0-9-], at most 31 bytes: "overflow",
     * "double-free", ...; the text may have several lines. In the report lines
     * "    #N PATH+0xOFFSET" become a stack (memopt/report.h), each below a line
     * "  allocated by thread TID:", "  freed by thread TID:" or other words of its fault; their
     * functions get names if a line "  build-id HEX PATH" says which file PATH was. May be
     * called from a signal handler if the format is "%s". */
    void (*event)(const char *kind, const char *format, ...) __attribute__((format(printf, 2, 3)));
    /* [program] In a tracker's open(): room for `limit` elements of `unit` bytes in the
     * process's ledger, under a name of [a-z0-9-] that report() finds it by. The address stays
     * for the life of the process, the room may be less than was asked for. Nothing of it may
     * be touched before area_back(). NULL, and why: there is none. */
    void *(*area)(const char *name, uint32_t version, uint32_t unit, uint64_t limit,
                  struct memopt_error *error);
    /* [program] The first `count` elements of an area may be used from now on, and report()
     * will see as many; they begin as zeros. Any thread, no lock, async-signal-safe; a system
     * call now and then. 0 or a negative errno: -ENOSPC: it is full. */
    int (*area_back)(void *area, uint64_t count);
    /* [program] Nanoseconds since the process's ledger was begun, to a few milliseconds. No
     * system call. */
    uint64_t (*clock)(void);
};

/* ------------------------------------------------------------- allocators */

/* By which form a block comes and goes. */
enum memopt_form {
    MEMOPT_BY_MALLOC = 0, /* C's: malloc and its family; free_sized, free_aligned_sized */
    MEMOPT_BY_NEW = 1,    /* C++'s new and delete, nothrow and aligned ones too */
    MEMOPT_BY_NEW_ARRAY = 2,
};

/* The default heap as plain functions, so that dispatch costs one indirect
 * call and a library's own function can stand here. [program], any thread.
 *
 *   must      malloc, free, aligned_alloc, usable_size
 *   contract  16-byte alignment (smaller for requests under 16 bytes as the
 *             program's ABI allows); malloc(0) gives a pointer of its own, as
 *             NULL is taken for failure, for whatever size; free(NULL) is
 *             never called; realloc is called with p != NULL and size > 0 only;
 *             aligned_alloc with a power of two >= sizeof(void *) and any size;
 *             calloc's product has been checked for overflow; on failure NULL
 *             (errno need not be set: dispatch sets ENOMEM) and, in realloc,
 *             the old block untouched. free should leave errno as it was, also where
 *             the kernel refuses to take memory back. usable_size is stable
 *             for the life of the block and all of it may be written.
 *   missing   calloc: malloc + memset. realloc: malloc + memcpy + free.
 */
struct memopt_malloc {
    size_t size; /* of this struct, set by memopt before open() */
    void *(*malloc)(size_t size);
    void *(*calloc)(size_t count, size_t size);
    void *(*realloc)(void *p, size_t size);
    void (*free)(void *p);
    void *(*aligned_alloc)(size_t alignment, size_t size);
    size_t (*usable_size)(void *p);
    /* usable_size() of what malloc or calloc gave for fewer bytes than this
     * depends on nothing but the size that was asked for, so that it need not be asked
     * each time. 0: it depends. */
    size_t sized_below;
    /* What C++ and C23 say of a block besides its address, for a backend that
     * checks it (guard). May be NULL, which costs nothing. [program]
     *   made_by    after operator new or new[] got the block from malloc or aligned_alloc;
     *              by: MEMOPT_BY_NEW or MEMOPT_BY_NEW_ARRAY; MEMOPT_BY_MALLOC: the C++
     *              run-time got it, memory being short, and maybe by another form
     *   freed_by   just before free(p), by a form that says more than free: all of delete
     *              and delete[], free_sized (by: MEMOPT_BY_MALLOC, alignment 0) and
     *              free_aligned_sized. size: what it says that was asked of malloc or
     *              aligned_alloc, which get 1 for an empty aligned block; SIZE_MAX: it
     *              doesn't say. alignment: likewise; 0: it doesn't say.
     * `p` is not NULL, but may be any address, as in free. free itself is never
     * announced: a C++ run-time of its own in a library may end its delete in our free,
     * and start its new in our malloc. */
    void (*made_by)(void *p, unsigned by);
    void (*freed_by)(void *p, size_t size, size_t alignment, unsigned by);
};

/* A backend's or a heap's own figures, in bytes; MEMOPT_UNKNOWN where it has
 * none. Definitions per backend are in its manual section. */
#define MEMOPT_UNKNOWN UINT64_MAX
struct memopt_figures {
    size_t size;          /* of this struct, set by the caller */
    uint64_t live;        /* handed out, usable sizes */
    uint64_t committed;   /* held from the system for it: live + free + bookkeeping */
    uint64_t resident;    /* in RAM */
    uint64_t retained;    /* address space or unmapped pages kept for reuse */
    uint64_t peak;        /* highest live, where the backend records it */
    double fragmentation; /* 1 - live/committed by the backend's definition; NaN: unknown */
};
/* All unknown: what figures() is to be called with, and may leave as it is. */
#define MEMOPT_FIGURES_INIT                                                                        \
    {                                                                                              \
        sizeof(struct memopt_figures), MEMOPT_UNKNOWN, MEMOPT_UNKNOWN, MEMOPT_UNKNOWN,             \
            MEMOPT_UNKNOWN, MEMOPT_UNKNOWN, __builtin_nan("")                                      \
    }

/* What a new heap is made from. Strings belong to the caller and are gone
 * after heap_create() returns. */
struct memopt_heap_params {
    size_t size; /* of this struct */
    const char *name;
    uint64_t limit; /* bytes, UINT64_MAX: none; enforced by memopt, here as a hint */
    void *region;   /* caller's memory to allocate from, or NULL */
    size_t region_size;
};

/* Called once for each variable the backend wants in the program's environment.
 * `mode` '=': set; '+': append to what is there with `separator` between. */
typedef void (*memopt_setenv_fn)(void *context, const char *name, const char *value, char mode,
                                 const char *separator);

enum {
    /* dispatch may hand the program's malloc to `library` by preloading it, as
     * nothing but its own symbols is needed (binding = direct) */
    MEMOPT_ALLOCATOR_DIRECT = 1u << 0,
    /* the library's static TLS is too large for dlopen: memopt run must preload
     * it behind the shim */
    MEMOPT_ALLOCATOR_PRELOAD = 1u << 1,
    /* can't be the default heap (it needs a region, ...) */
    MEMOPT_ALLOCATOR_HEAPS_ONLY = 1u << 2,
    /* malloc sets errno to ENOMEM when it fails and free takes NULL, as C has
     * them: dispatch jumps straight to them. Without it, it looks first. */
    MEMOPT_ALLOCATOR_C_CALLS = 1u << 3,
};

struct memopt_allocator_ops {
    size_t size; /* sizeof(struct memopt_allocator_ops) */
    uint32_t flags;
    uint32_t reserved;

    /* [memopt] File names of the library behind the backend, best first, ending
     * with NULL; NULL: none is needed. Each is looked for beside the plugin first,
     * then where dlopen looks. And the Debian package that has it, for messages. */
    const char *const *libraries;
    const char *package;

    /* [memopt] May be NULL. Says what the program's environment must hold for
     * these settings, before it starts. */
    int (*environment)(const struct memopt_host *host, const void *settings, memopt_setenv_fn set,
                       void *context, struct memopt_error *error);

    /* [program] Must be there. Loads the library, applies the settings and
     * fills `ret_malloc`. Called once a process, before any other thread can
     * call into the plugin, never from inside malloc. May use dlopen. After a
     * failure nothing else of the plugin is called. Values that can't be are refused
     * with -EINVAL, -ERANGE or -ENOTSUP and a message that has the 'key': memopt
     * finds them before the program starts, by an open() in a separate process, unless
     * the plugin has MEMOPT_ALLOCATOR_PRELOAD. */
    int (*open)(const struct memopt_host *host, const void *settings,
                struct memopt_malloc *ret_malloc, struct memopt_error *error);

    /* [program] Fills what it knows of the whole backend. Missing: all unknown.
     * Returns 0 or a negative errno. May take locks; not called in fork. */
    int (*figures)(struct memopt_figures *figures);
    /* [program] Gives unused memory back. Returns how many bytes went, as far as
     * the backend can tell, else 0. Missing: does nothing. */
    uint64_t (*purge)(void);

    /* Separate heaps. [program] All of them or none: with none, memopt builds
     * heaps over the default heap by keeping a list. Any thread may call any
     * operation of one heap at once, but destroy. The contracts are those of
     * struct memopt_malloc. */
    int (*heap_create)(const struct memopt_host *host, const struct memopt_heap_params *params,
                       void **ret_heap, struct memopt_error *error);
    void (*heap_destroy)(void *heap); /* frees everything in it */
    void *(*heap_malloc)(void *heap, size_t size);
    void *(*heap_calloc)(void *heap, size_t count, size_t size);
    void *(*heap_realloc)(void *heap, void *p, size_t size);
    void *(*heap_aligned_alloc)(void *heap, size_t alignment, size_t size);
    void (*heap_free)(void *heap, void *p);
    size_t (*heap_usable_size)(void *heap, void *p);
    int (*heap_figures)(void *heap, struct memopt_figures *figures); /* may be NULL */
    uint64_t (*heap_purge)(void *heap);                              /* may be NULL */

    /* [program] fork. Each may be NULL. before_fork runs in the forking thread
     * with the stdio lock held, so that a backend's locks come after it; the
     * child has that one thread only. A library with handlers of its own
     * (pthread_atfork) leaves them NULL. */
    void (*before_fork)(void);
    void (*after_fork_parent)(void);
    void (*after_fork_child)(void);

    /* [program] The version of the library behind the backend, for the report;
     * called after open(). NULL: there is no library, or it doesn't tell. */
    const char *(*backend_version)(void);

    /* [program] As figures, but without a system call, which a program that has
     * shut itself in would die of; what takes one is left unknown. With a tracker it is
     * called now and then by a thread that has just allocated and is in no other call of the
     * backend. It must keep errno. Missing: the report has no figures of the backend's. */
    int (*quick_figures)(struct memopt_figures *figures);
};

/* --------------------------------------------------------------- trackers */

/* How a block came or went. */
enum memopt_event {
    MEMOPT_EVENT_MALLOC = 0,
    MEMOPT_EVENT_CALLOC = 1,
    MEMOPT_EVENT_ALIGNED = 2,
    MEMOPT_EVENT_REALLOC = 3, /* in free: the old block; in alloc: the new one */
    MEMOPT_EVENT_FREE = 4,
    MEMOPT_EVENT_RESTORE = 5, /* in alloc: a realloc failed, the old block lives on */
    MEMOPT_EVENT_DESTROY = 6, /* in free: a heap went with all of its blocks: `asked` of them,
                               * with `usable` bytes; p is NULL */
};

/* What happened, as a tracker hears of it. Fields are only ever appended. */
struct memopt_event_info {
    uint32_t size;  /* of this struct */
    int32_t event;  /* enum memopt_event */
    void *p;        /* the block; refused: NULL */
    size_t asked;   /* bytes asked for; free: 0, but see MEMOPT_EVENT_DESTROY */
    size_t usable;  /* what the backend says the block has, with MEMOPT_TRACKER_USABLE or
                     * _COUNTS in somebody's flags; else 0 */
    uint32_t heap;  /* 0: the program's malloc; else a named heap's number in this process */
    uint32_t stack; /* 0: not known */
    uint32_t tick;  /* 0: not known */
    uint32_t reserved;
    uint64_t weight; /* how many events this one stands for: 1 */
};

/* What a tracker needs to be done for it, once an event, however many trackers there are. */
enum {
    /* All allocations are counted, by memopt itself, and the counts are in the report
     * (`counts`, `threads`, `histogram` in struct memopt_process, `heaps`). A tracker that
     * needs no more has no alloc and no free. */
    MEMOPT_TRACKER_COUNTS = 1u << 0,
    /* `usable` in struct memopt_event_info; it costs a call of the backend. */
    MEMOPT_TRACKER_USABLE = 1u << 1,
};

/* What a tracker left in a process's ledger, as the memopt command sees it. Everything in it
 * was written by a program that may have crashed or lied: check what you read. */
struct memopt_ledger_section {
    size_t size; /* of this struct */
    /* The i-th thread's state, thread_size bytes, or NULL; its thread id (0: all that have
     * ended). The size is the ledger's: it may differ from yours. */
    const void *(*thread)(const struct memopt_ledger_section *section, size_t i, int64_t *ret_tid);
    size_t thread_count, thread_size;
    /* The elements in use of an area that the tracker asked for in open(), or NULL: there is
     * none of that name, version and unit, or nothing is in it. */
    const void *(*area)(const struct memopt_ledger_section *section, const char *name,
                        uint32_t version, uint32_t unit, size_t *ret_count);
    const void *opaque;
};

/* A tracker hears of every block, of the program's malloc and of its named heaps, after it is
 * allocated and before it is freed, in the thread that does it. It keeps what it learns in the
 * ledger, a shared file mapping that survives the program's death: counters a thread in
 * `thread` (thread_size zeroed bytes, 64-byte aligned, one per thread), the rest in areas
 * (struct memopt_host). State must hold no pointers. Trackers form a chain in the order of
 * `trackers = a, b`; a link without an operation is passed over.
 *
 * alloc and free are the hot path: no locks, no system calls as a rule, no
 * shared counters. They may be interrupted by a signal handler that allocates,
 * in the same thread: leave nothing half-done that a second call would trip
 * over. They must keep errno. */
struct memopt_tracker_ops {
    size_t size;            /* sizeof(struct memopt_tracker_ops) */
    uint32_t flags;         /* MEMOPT_TRACKER_… */
    uint32_t state_version; /* of what is in `thread`, for report() */
    size_t thread_size;     /* bytes of ledger for each thread; may be 0 */

    /* [program] Missing: self is NULL. The one place to ask the host for areas. */
    int (*open)(const struct memopt_host *host, const void *settings, void **ret_self,
                struct memopt_error *error);
    /* [program] hot. Missing: nothing. `info` is gone after the call. */
    void (*alloc)(void *self, void *thread, const struct memopt_event_info *info);
    void (*free)(void *self, void *thread, const struct memopt_event_info *info);
    /* [program] The backend refused: nothing was allocated. Missing: nothing. */
    void (*refused)(void *self, void *thread, const struct memopt_event_info *info);
    /* [program] A thread has ended: fold its state into that of all ended
     * threads. One call at a time. Missing: the state is kept as it is and the
     * next thread goes on with it. */
    void (*thread_end)(void *self, void *ended_threads, void *thread);
    /* [program] In the child of a fork, which has one thread and a ledger of its own: the
     * threads' states are zero and the areas empty, at their old addresses, and hold nothing
     * until they are backed anew. Blocks of the parent's may still be freed. May not allocate.
     * Missing: nothing. */
    void (*fork_child)(void *self);
    /* [memopt] Puts what the section says into the process's part of the report. Memory:
     * memopt_report_alloc(). Missing: nothing but what MEMOPT_TRACKER_COUNTS gives. */
    int (*report)(const struct memopt_host *host, const void *settings,
                  const struct memopt_ledger_section *section, struct memopt_report *report,
                  struct memopt_process *process, struct memopt_error *error);
};

/* -------------------------------------------------------------- reporters */

/* Where a reporter's bytes go. write() returns 0 or a negative errno, which the
 * reporter hands on; memopt keeps the file's name from appearing unless all
 * went well. */
struct memopt_output {
    size_t size;
    void *opaque;
    int (*write)(struct memopt_output *output, const void *bytes, size_t count);
    int (*printf)(struct memopt_output *output, const char *format, ...)
        __attribute__((format(printf, 2, 3)));
    int is_terminal; /* 1: colours and the terminal's width are welcome */
    int columns;
};

/* A reporter is a pure function of the report, whose tables memopt/report.h describes: it
 * opens nothing, reads no clock and never knows where the data came from. Its section has, besides its own
 * options, `output` (where to: stderr, stdout or a path with %p %t %e). */
struct memopt_reporter_ops {
    size_t size;                /* sizeof(struct memopt_reporter_ops) */
    const char *default_output; /* "stderr", "stdout" or a path pattern */
    /* [memopt] Must be there. */
    int (*write)(const struct memopt_host *host, const void *settings,
                 const struct memopt_report *report, struct memopt_output *output,
                 struct memopt_error *error);
};

/* ------------------------------------------------------------- descriptor */

struct memopt_plugin {
    uint32_t abi_major; /* MEMOPT_ABI_MAJOR at the time of building */
    uint32_t abi_minor;
    uint32_t size;        /* sizeof(struct memopt_plugin) */
    uint32_t kind;        /* enum memopt_plugin_kind */
    uint32_t option_size; /* sizeof(struct memopt_option) */
    uint32_t reserved;
    const char *name;                    /* [a-z0-9-]+, what the INI calls it */
    const char *version;                 /* the plugin's own */
    const char *summary;                 /* one line, lower case, no full stop */
    const struct memopt_option *options; /* ends with MEMOPT_OPT_END; NULL: none */
    size_t settings_size;                /* of the struct the options fill; 0 without options */
    const void *ops; /* struct memopt_{allocator,tracker,reporter}_ops, by kind */
};

#define MEMOPT_PLUGIN_SYMBOL "memopt_plugin"
#define MEMOPT_PLUGIN_HEADER(KIND)                                                                 \
    .abi_major = MEMOPT_ABI_MAJOR, .abi_minor = MEMOPT_ABI_MINOR,                                  \
    .size = (uint32_t)sizeof(struct memopt_plugin), .kind = (KIND),                                \
    .option_size = (uint32_t)sizeof(struct memopt_option), .reserved = 0

/* For an allocator whose malloc is one of its heaps, such as all heaps are: the functions of
 * struct memopt_malloc, made from those of its heaps, which are called PREFIX_heap_malloc
 * and so on. HEAP is an expression, the default heap. open() calls
 * PREFIX_default_heap(ret_malloc). */
#define MEMOPT_DEFAULT_HEAP(PREFIX, HEAP)                                                          \
    static void *PREFIX##_malloc(size_t size) {                                                    \
        return PREFIX##_heap_malloc(HEAP, size);                                                   \
    }                                                                                              \
    static void *PREFIX##_calloc(size_t count, size_t size) {                                      \
        return PREFIX##_heap_calloc(HEAP, count, size);                                            \
    }                                                                                              \
    static void *PREFIX##_realloc(void *p, size_t size) {                                          \
        return PREFIX##_heap_realloc(HEAP, p, size);                                               \
    }                                                                                              \
    static void *PREFIX##_aligned_alloc(size_t alignment, size_t size) {                           \
        return PREFIX##_heap_aligned_alloc(HEAP, alignment, size);                                 \
    }                                                                                              \
    static void PREFIX##_free(void *p) {                                                           \
        PREFIX##_heap_free(HEAP, p);                                                               \
    }                                                                                              \
    static size_t PREFIX##_usable_size(void *p) {                                                  \
        return PREFIX##_heap_usable_size(HEAP, p);                                                 \
    }                                                                                              \
    static void PREFIX##_default_heap(struct memopt_malloc *ret_malloc) {                          \
        ret_malloc->malloc = PREFIX##_malloc;                                                      \
        ret_malloc->calloc = PREFIX##_calloc;                                                      \
        ret_malloc->realloc = PREFIX##_realloc;                                                    \
        ret_malloc->aligned_alloc = PREFIX##_aligned_alloc;                                        \
        ret_malloc->free = PREFIX##_free;                                                          \
        ret_malloc->usable_size = PREFIX##_usable_size;                                            \
    }                                                                                              \
    struct memopt_malloc /* the semicolon */

extern MEMOPT_EXPORT const struct memopt_plugin memopt_plugin;

#if !defined(__cplusplus) && UINTPTR_MAX == UINT64_MAX
/* The layout of ABI 2.0 is frozen. */
_Static_assert(sizeof(struct memopt_option) == 72, "ABI: append only, and bump the minor");
_Static_assert(offsetof(struct memopt_plugin, name) == 24, "ABI: append only");
_Static_assert(sizeof(struct memopt_plugin) == 72, "ABI: append only, and bump the minor");
_Static_assert(offsetof(struct memopt_malloc, sized_below) == 56, "ABI: append only");
_Static_assert(sizeof(struct memopt_malloc) == 80, "ABI: append only, and bump the minor");
_Static_assert(sizeof(struct memopt_figures) == 56, "ABI: append only, and bump the minor");
_Static_assert(sizeof(struct memopt_allocator_ops) == 184, "ABI: append only, and bump the minor");
_Static_assert(sizeof(struct memopt_tracker_ops) == 80, "ABI: append only, and bump the minor");
_Static_assert(sizeof(struct memopt_event_info) == 56, "ABI: append only");
_Static_assert(sizeof(struct memopt_reporter_ops) == 24, "ABI: append only, and bump the minor");
#endif

#ifdef __cplusplus
}
#endif
#endif
