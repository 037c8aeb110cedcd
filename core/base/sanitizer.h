/*
 * sanitizer.h - the run-time libraries of sanitizers, whose malloc a program that is
 * built with one must keep.
 *
 * Used by the memopt command, which looks at the program's file, and by preload, which
 * finds itself in one that another program has started.
 */
#ifndef MO_BASE_SANITIZER_H
#define MO_BASE_SANITIZER_H

#include <stddef.h>
#include <string.h>

enum mo_sanitizer {
    MO_SANITIZER_NONE,
    MO_SANITIZER_ADDRESS,
    MO_SANITIZER_LEAK,
    MO_SANITIZER_THREAD,
    MO_SANITIZER_MEMORY,
    MO_SANITIZER_HWADDRESS,
};

static const struct {
    const char *library; /* what its file's name begins with */
    const char *symbol;
    enum mo_sanitizer sanitizer;
} mo_sanitizers[] = {
    {"libasan.so", "__asan_init", MO_SANITIZER_ADDRESS},
    {"libclang_rt.asan", "__asan_init", MO_SANITIZER_ADDRESS},
    {"libhwasan.so", "__hwasan_init", MO_SANITIZER_HWADDRESS},
    {"libclang_rt.hwasan", "__hwasan_init", MO_SANITIZER_HWADDRESS},
    {"libtsan.so", "__tsan_init", MO_SANITIZER_THREAD},
    {"libclang_rt.tsan", "__tsan_init", MO_SANITIZER_THREAD},
    {"libclang_rt.msan", "__msan_init", MO_SANITIZER_MEMORY},
    {"liblsan.so", "__lsan_init", MO_SANITIZER_LEAK},
    {"libclang_rt.lsan", "__lsan_init", MO_SANITIZER_LEAK},
};
enum { MO_SANITIZERS = sizeof(mo_sanitizers) / sizeof(mo_sanitizers[0]) };

/* `path` may be a plain name. */
static inline enum mo_sanitizer mo_sanitizer_of_library(const char *path) {
    const char *slash = strrchr(path, '/'), *name = slash == NULL ? path : slash + 1;
    for (size_t i = 0; i < MO_SANITIZERS; i++)
        if (strncmp(name, mo_sanitizers[i].library, strlen(mo_sanitizers[i].library)) == 0)
            return mo_sanitizers[i].sanitizer;
    return MO_SANITIZER_NONE;
}

static inline const char *mo_sanitizer_name(enum mo_sanitizer sanitizer) {
    static const char *const names[] = {
        [MO_SANITIZER_NONE] = "none",
        [MO_SANITIZER_ADDRESS] = "AddressSanitizer",
        [MO_SANITIZER_LEAK] = "LeakSanitizer",
        [MO_SANITIZER_THREAD] = "ThreadSanitizer",
        [MO_SANITIZER_MEMORY] = "MemorySanitizer",
        [MO_SANITIZER_HWADDRESS] = "HWAddressSanitizer",
    };
    return names[sanitizer];
}

#endif
