/*
 * sources.h - what the watch over the process looks at: where the figures are, and
 * what they say now (memopt/pressure.h explains each).
 *
 * Used by monitor.c, by one thread at a time. Reading allocates nothing.
 */
#ifndef MO_PRESSURE_SOURCES_H
#define MO_PRESSURE_SOURCES_H

#include <stddef.h>
#include <stdint.h>

enum mo_source {
    MO_SOURCE_RSS,
    MO_SOURCE_ADDRESS,
    MO_SOURCE_CGROUP,
    MO_SOURCE_PSI,
    MO_SOURCES,
};
enum { MO_SOURCE_PATH = 4096, MO_SOURCE_MILLION = 1000000 };

struct mo_sources {
    uint64_t budget; /* of RSS, bytes */
    char proc[MO_SOURCE_PATH], psi[MO_SOURCE_PATH];
    char cgroup[MO_SOURCE_PATH]; /* this process's directory; "": none */
    size_t cgroup_root;          /* length of the mount point in it */
    int cgroup_version;
};

/* Bytes; PSI: millionths. */
struct mo_reading {
    int level;            /* the watch's */
    uint64_t used, limit; /* limit 0: the source is not there now */
};

/* Finds the files. `proc` is "/proc" or a directory in its place; `budget`
 * UINT64_MAX: the machine's memory. 0, or -ENAMETOOLONG. */
int mo_sources_find(struct mo_sources *sources, const char *proc, uint64_t budget);
/* Fills `used` and `limit`. */
void mo_source_read(const struct mo_sources *sources, int source, struct mo_reading *reading);

#endif
