/*
 * proc.h - what the kernel says of processes and of memory: /proc and the cgroup file systems.
 *
 * The parsers take text that ends with a NUL, read no further, accept only whole
 * decimal numbers that fit, and touch their outputs only on success (0; else
 * -EINVAL). The readers read a bounded part of a file into the caller's buffer
 * and allocate nothing: they are for moments when there is no memory.
 *
 * Used by core/pressure, core/render, core/import, core/launch and cli. Any thread.
 */
#ifndef MO_BASE_PROC_H
#define MO_BASE_PROC_H

#include <stddef.h>
#include <stdint.h>

/* Bytes. */
struct mo_proc_memory {
    uint64_t mapped;   /* counts against RLIMIT_AS */
    uint64_t resident; /* RSS */
    uint64_t file;     /* of it, what files (and shared memory) hold */
};
/* /proc/self/statm */
int mo_proc_parse_statm(const char *text, uint64_t page, struct mo_proc_memory *ret);

struct mo_proc_stat {
    char name[64]; /* the kernel's, of the program; it may hold anything */
    char state;    /* 'R', 'S' … 'Z': a zombie, 'X': dead */
    int64_t parent;
    uint64_t start; /* ns since boot, to a clock tick: tells a number that was given again apart */
    uint64_t children_faults; /* page faults of children that it has waited for */
};
/* /proc/PID/stat; `tick`: ns */
int mo_proc_parse_stat(const char *text, uint64_t tick, struct mo_proc_stat *ret);

/* Bytes: the largest resident size until now, and the one of now. */
struct mo_proc_sizes {
    uint64_t peak, resident;
};
/* /proc/PID/status; -EINVAL, too, of a process that has no memory any more */
int mo_proc_parse_status(const char *text, struct mo_proc_sizes *ret);
/* Part of the last ten seconds in which some task waited for memory, 0 to 1:
 * /proc/pressure/memory, memory.pressure. */
int mo_proc_parse_psi(const char *text, double *ret_some);
/* A file of one number; "max" is UINT64_MAX. */
int mo_proc_parse_value(const char *text, uint64_t *ret_value);
/* The number behind `key` at the beginning of a line, and blanks: memory.stat,
 * /proc/meminfo ("MemTotal:", in KiB). */
int mo_proc_parse_key(const char *text, const char *key, uint64_t *ret_value);
/* /proc/self/cgroup: the path of the hierarchy that has `controller`; "" is
 * version 2's. */
int mo_proc_parse_cgroup(const char *text, const char *controller, char *ret_path, size_t size);
/* /proc/self/mountinfo: where the hierarchy with `controller` is mounted ("":
 * version 2), and which of its directories is there. */
int mo_proc_parse_mount(const char *text, const char *controller, char *ret_root, size_t root_size,
                        char *ret_point, size_t point_size);

/* At most size - 1 bytes of the file, and a NUL. Returns how many, or -errno. */
int mo_proc_read(const char *path, char *buffer, size_t size);
/* The same, of /proc/PID/NAME. */
int mo_proc_read_of(int64_t pid, const char *name, char *buffer, size_t size);
/* Where the link /proc/PID/exe leads, cut at size - 1 bytes; "" on failure: the length or
 * -errno. */
int mo_proc_read_exe(int64_t pid, char *buffer, size_t size);
int mo_proc_read_stat(int64_t pid, struct mo_proc_stat *ret);   /* 0 or -errno */
int mo_proc_read_sizes(int64_t pid, struct mo_proc_sizes *ret); /* 0 or -errno */
/* This process's; `proc` is "/proc" or a directory in its place. 0 or -errno. */
int mo_proc_read_memory(const char *proc, struct mo_proc_memory *ret);

#endif
