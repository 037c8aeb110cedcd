/*
 * own_faults.h - makes the N-th memory system call of a plugin fail. The test
 * program defines the functions and exports them (-export-dynamic), so plugins
 * call these. Not with sanitizers, whose run-time wraps the same functions.
 */
#ifndef TESTS_OWN_FAULTS_H
#define TESTS_OWN_FAULTS_H

#include <errno.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FAULTS_EXPORT __attribute__((visibility("default")))

enum { FAULT_MMAP = 1, FAULT_MUNMAP = 2, FAULT_MREMAP = 4, FAULT_MPROTECT = 8, FAULT_MADVISE = 16 };

static struct {
    int kinds;    /* which calls count */
    long nth;     /* the one that fails; 0: none */
    int for_good; /* and all after it */
    long count;
    long fired;
} faults;

static inline void faults_arm(int kinds, long nth, int for_good) {
    faults.kinds = kinds;
    faults.nth = nth;
    faults.for_good = for_good;
    faults.count = faults.fired = 0;
}

static int faults_hit(int kind) {
    if (faults.nth == 0 || (faults.kinds & kind) == 0)
        return 0;
    faults.count++;
    if (faults.count != faults.nth && !(faults.for_good && faults.count > faults.nth))
        return 0;
    faults.fired++;
    errno = ENOMEM;
    return 1;
}

FAULTS_EXPORT void *mmap(void *address, size_t size, int protection, int flags, int fd,
                         off_t offset) {
    if (faults_hit(FAULT_MMAP))
        return MAP_FAILED;
    return (void *)syscall(SYS_mmap, address, size, protection, flags, fd, offset);
}

FAULTS_EXPORT int munmap(void *address, size_t size) {
    return faults_hit(FAULT_MUNMAP) ? -1 : (int)syscall(SYS_munmap, address, size);
}

FAULTS_EXPORT void *mremap(void *address, size_t old_size, size_t size, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    void *target = (flags & MREMAP_FIXED) != 0 ? va_arg(arguments, void *) : NULL;
    va_end(arguments);
    if (faults_hit(FAULT_MREMAP))
        return MAP_FAILED;
    return (void *)syscall(SYS_mremap, address, old_size, size, flags, target);
}

FAULTS_EXPORT int mprotect(void *address, size_t size, int protection) {
    return faults_hit(FAULT_MPROTECT) ? -1 : (int)syscall(SYS_mprotect, address, size, protection);
}

FAULTS_EXPORT int madvise(void *address, size_t size, int advice) {
    return faults_hit(FAULT_MADVISE) ? -1 : (int)syscall(SYS_madvise, address, size, advice);
}

#endif
