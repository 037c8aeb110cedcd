/*
 * ledger.h - the crash-safe record of one process, and the file of all records of a run:
 * their layout.
 *
 * A run has one file, DIR/ledgers: a page of its own (struct mo_ledgers), then a record for
 * each process, `stride` bytes apart. It is sparse and far larger than it will ever be
 * filled, so that a process takes a place in it by one addition to a counter and needs no
 * file of its own, which is what costs time. memopt makes it before the program starts.
 *
 * A record is mapped MAP_SHARED by its program: what is written stays in the page cache
 * when the program is killed, so it is never "flushed". Blocks are allocated before they
 * are written to (fallocate): a full disk is an error that is handled, not a SIGBUS. At the
 * start that is the header and, where something is counted, the first slots; the rest when it
 * is needed.
 *
 * As long as a process has its record mapped, the kernel holds a lock on it: an open file
 * description lock on the record's first byte, which goes with the last mapping of what was
 * opened: the record's, and that of the file's first page, which a forked child keeps, so
 * that its parent's record is over only when it is, too. So memopt
 * can tell, without asking who or where the process is, that nothing more will be written,
 * fold the record into the report and give its blocks back while the program runs
 * (core/import/run.c).
 *
 * A record is a header, one page, in which a directory says where its areas are. An area is
 * a range of the record for elements of one kind: it has room for `limit` bytes, of which the
 * first `backed` have blocks and the first `used` hold something. It grows in place, so what
 * is in it never moves; where it can't grow, full_at says since when. The core's are
 *
 *   notes     NUL-ended texts, each begun with a level byte; at level EVENT the first line is
 *             the event's kind, a blank and when it happened: nanoseconds since the record was
 *             begun, in decimal
 *   heaps     struct mo_ledger_heap
 *   threads   slots: a struct mo_ledger_thread, then the states of those who keep one for each
 *             thread. Slot 0 is of all threads that have ended.
 *
 * and the states within a slot, which are entries of the directory with MO_AREA_IN_SLOT:
 * "memopt.counts" (core/account/tally.h) and one named after each tracker. Further areas are
 * trackers' (TRACKER.NAME).
 *
 * The reader (reader.h) trusts nothing in it, and reads what is used. Integers are
 * native-endian: the reader is on the same machine. Offsets are from the start of the record.
 *
 * Threads: a thread's slot has one writer; header fields are written at start,
 * by the exit hook, or with atomic operations as marked.
 */
#ifndef MO_LEDGER_LEDGER_H
#define MO_LEDGER_LEDGER_H

#include <memopt/error.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define MO_LEDGER_MAGIC "memoptL\n"
#define MO_LEDGER_VERSION 4u

#define MO_LEDGERS_NAME "ledgers"
#define MO_LEDGERS_MAGIC "memoptR\n"
enum {
    MO_LEDGERS_PAGE = 4096,
    MO_LEDGERS_PIDS = 16384,       /* bits */
    MO_LEDGERS_STRIDE_MIN = 65536, /* where files must be small (RLIMIT_FSIZE) */
    MO_LEDGERS_STRIDE_MAX = 1 << 30,
};

/* The first page of a run's file. Its first record is at `stride`. */
struct mo_ledgers {
    char magic[8];
    uint32_t version, reserved;
    uint64_t stride, room;   /* room: records that the file's size allows */
    _Atomic uint64_t count;  /* places that have been taken */
    _Atomic uint64_t failed; /* of these, taken by processes that could not have a record */
    uint64_t reserved2[2];
    /* A bit for each process number (modulo their count) that has taken a place. Where it is
     * set already, the process may have been another program before. */
    _Atomic uint64_t pids[MO_LEDGERS_PIDS / 64];
};
_Static_assert(sizeof(struct mo_ledgers) <= MO_LEDGERS_PAGE, "one page");

/* After the levels of notes (enum memopt_note_level). */
enum { MO_LEDGER_EVENT = 4, MO_LEDGER_KIND = 32 /* bytes of a kind, with its end */ };

/* An exit status that is not known. */
#define MO_LEDGER_STATUS_UNKNOWN INT32_MIN

enum mo_ledger_state {
    MO_LEDGER_RUNNING = 1, /* or killed: the writer can't tell */
    MO_LEDGER_EXITED = 2,  /* it said how it ended */
};

enum { MO_AREAS = 20 };
enum { MO_AREA_IN_SLOT = 1 }; /* flags: see below */

/* One entry of the directory; name "": none. With MO_AREA_IN_SLOT `unit` bytes at `offset`
 * in each slot of "threads", and nothing of the rest. */
struct mo_area {
    char name[40];
    uint32_t version, unit; /* of what is in it; bytes of an element */
    uint64_t offset;        /* a whole number of pages */
    uint64_t limit;         /* bytes; likewise */
    _Atomic uint64_t backed, used;
    _Atomic uint64_t full_at; /* ns since the record was begun, at least 1; 0: never */
    uint32_t flags, reserved;
};
_Static_assert(sizeof(struct mo_area) == 96, "as readers have it");

#define MO_AREA_NOTES "notes"
#define MO_AREA_HEAPS "heaps"
#define MO_AREA_THREADS "threads"
/* Where the core's are in the directory. */
enum { MO_NOTES, MO_HEAPS, MO_THREADS, MO_CORE_AREAS };

/* Counters of a named heap; written with relaxed atomics by libmemopt. */
struct mo_ledger_heap {
    _Atomic uint32_t used; /* 0 free, 1 in use, 2 destroyed */
    uint32_t reserved;
    char name[64];
    char allocator[32];
    _Atomic uint64_t limit, live_bytes, peak_bytes, live_blocks, allocations, frees, refused;
    _Atomic uint64_t committed;
};

/* What the backend said of itself while the process lived, at the last time that it was
 * asked. */
struct mo_ledger_figures {
    _Atomic uint32_t sequence; /* odd while it is written; 0: never asked */
    uint32_t reserved;
    uint64_t live, committed, resident, retained, peak;
    double fragmentation;
};

/* What is counted of the process as a whole, where its threads are (core/account/tally.h). */
struct mo_ledger_totals {
    int64_t inherited_bytes, inherited_blocks; /* live at the fork this process came from */
    _Atomic int64_t live;                   /* sum of threads' `flushed`, and what is inherited */
    _Atomic int64_t peak;                   /* highest of `live` */
    _Atomic uint32_t threads, threads_peak; /* that have counted something, now and at most */
};

struct mo_ledger_header {
    char magic[8];
    uint32_t version, header_size;
    _Atomic uint32_t state; /* enum mo_ledger_state */
    uint32_t binding;       /* 0 none, 1 direct, 2 dispatch */
    int64_t pid, ppid;
    uint64_t start_time, end_time; /* ns since the epoch; the end to a tick of the kernel's */
    /* To tell exec from a process number that was given again, where a ledger of that number
     * was there already: when the ledger was begun and when the process was, in ns since
     * boot, the latter to a clock tick; 0: not looked up. */
    uint64_t begun, process_start;
    uint64_t parent; /* forked: the place of its parent's record in the file */
    char exe[512];
    char command[1024]; /* argv joined by blanks, cut */
    char allocator[64], allocator_version[64];
    struct mo_ledger_figures figures;
    struct mo_ledger_totals totals;
    uint64_t boot_bytes;       /* served before the backend was there */
    _Atomic uint64_t failures; /* allocations the backend refused; counted by dispatch */
    int32_t exit_status;       /* what exit() or _exit() was called with, when state is EXITED; or
                                * MO_LEDGER_STATUS_UNKNOWN */
    uint32_t forked;               /* by ppid, without an exec since */
    char name[16];                 /* the kernel's of the process when the ledger was begun */
    _Atomic uint32_t shares_slots; /* threads counted in one slot: counts may miss events */
    uint32_t locked; /* the kernel could: without the lock a record is read at the end only */
    struct mo_area areas[MO_AREAS];
};
_Static_assert(sizeof(struct mo_ledger_header) <= MO_LEDGERS_PAGE, "the header is one page");

/* Every thread slot begins with this; trackers' states follow, 64-byte aligned. */
struct mo_ledger_thread {
    _Atomic int64_t tid; /* 0: free */
    uint32_t ending;     /* its destructors ran: free once the kernel knows no such thread */
    uint32_t reserved[13];
};

#endif
