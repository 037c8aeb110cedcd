/*
 * kernel.h - system calls as they are, without the C library around them.
 *
 * For what runs in the watched program on paths that it didn't ask for: no cancellation
 * point, errno stays as it is, nobody's interposed function is in between; and a child
 * that has just been forked needs no page of the C library's code for it, each of which it
 * would have to fault in anew. Not for what blocks.
 */
#ifndef MO_BASE_KERNEL_H
#define MO_BASE_KERNEL_H

#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* What the call returns: -ERRNO if it failed. */
static inline long mo_kernel(long number, long a, long b, long c, long d, long e, long f) {
#if defined __x86_64__
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
#elif defined __aarch64__
    register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b,
                     x2 __asm__("x2") = c, x3 __asm__("x3") = d, x4 __asm__("x4") = e,
                     x5 __asm__("x5") = f;
    __asm__ volatile("svc 0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory");
    return x0;
#else
#error "system calls have to be written for this machine"
#endif
}

static inline int mo_kernel_open(const char *path, int flags) {
    return (int)mo_kernel(SYS_openat, AT_FDCWD, (long)path, flags, 0, 0, 0);
}

static inline void mo_kernel_close(int fd) {
    mo_kernel(SYS_close, fd, 0, 0, 0, 0, 0);
}

static inline long mo_kernel_read(int fd, void *bytes, size_t size) {
    return mo_kernel(SYS_read, fd, (long)bytes, (long)size, 0, 0, 0);
}

/* NULL if it failed; *ret_code: -ERRNO. */
static inline void *mo_kernel_map(void *at, size_t size, int protection, int flags, int fd,
                                  uint64_t offset, int *ret_code) {
    long result = mo_kernel(SYS_mmap, (long)at, (long)size, protection, flags, fd, (long)offset);
    *ret_code = result < 0 && result > -4096 ? (int)result : 0;
    return *ret_code == 0 ? (void *)result : NULL;
}

static inline int mo_kernel_pid(void) {
    return (int)mo_kernel(SYS_getpid, 0, 0, 0, 0, 0, 0);
}

static inline uint64_t mo_kernel_clock(clockid_t clock) {
    struct timespec t = {0, 0};
    mo_kernel(SYS_clock_gettime, clock, (long)&t, 0, 0, 0, 0);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

#endif
