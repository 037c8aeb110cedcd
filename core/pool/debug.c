/* debug.c - patterns and reports of misuse: see debug.h. */
#include "core/pool/debug.h"

#include "core/base/error.h"
#include "core/base/poison.h"

#include <errno.h>
#include <string.h>

int mo_debug_init(struct mo_pool_debug *debug, const char *kind, const char *name, int mode,
                  memopt_misuse_fn callback, void *context, struct memopt_error *error) {
    if (name == NULL)
        name = kind;
    if (name[0] == '\0' || strlen(name) >= MO_POOL_NAME_MAX)
        return mo_fail(error, -EINVAL, "'%s' is no name for a pool: 1 to %d bytes were expected",
                       name, MO_POOL_NAME_MAX - 1);
    if (mode < MEMOPT_DEBUG_AUTO || mode > MEMOPT_DEBUG_OFF)
        return mo_fail(error, -EINVAL, "%s: debug is %d, not one of enum memopt_debug", name, mode);
    strcpy(debug->name, name);
    debug->on = mode == MEMOPT_DEBUG_ON || (mode == MEMOPT_DEBUG_AUTO && mo_checked());
    debug->callback = callback;
    debug->context = context;
    atomic_init(&debug->count, 0);
    return 0;
}

void mo_pattern_fill(void *p, size_t size, int pattern) {
    if (!mo_checked())
        memset(p, pattern, size);
}

const void *mo_pattern_broken(const void *p, size_t size, int pattern) {
    const unsigned char *bytes = p;
    if (mo_checked() || size == 0)
        return NULL;
    /* All bytes are the pattern if the first is and each is as the one before. */
    if (bytes[0] == pattern && memcmp(bytes, bytes + 1, size - 1) == 0)
        return NULL;
    size_t i = 0;
    while (bytes[i] == pattern)
        i++;
    return bytes + i;
}

int mo_misuse(struct mo_pool_debug *debug, int kind, const void *data, size_t bytes,
              const void *address, struct memopt_error *error) {
    static const struct {
        int code;
        const char *what;
    } kinds[] = {
        [MEMOPT_MISUSE_FOREIGN] = {-EINVAL, "is not from this pool"},
        [MEMOPT_MISUSE_TWICE] = {-EALREADY, "was returned before"},
        [MEMOPT_MISUSE_OVERFLOW] = {-EOVERFLOW, "was written past its end"},
        [MEMOPT_MISUSE_UNDERFLOW] = {-EOVERFLOW, "was written before its beginning"},
        [MEMOPT_MISUSE_AFTER_RETURN] = {-EOVERFLOW, "was written after it had been returned"},
    };
    atomic_fetch_add_explicit(&debug->count, 1, memory_order_relaxed);
    struct memopt_error own = MEMOPT_ERROR_INIT;
    if (error == NULL)
        error = &own;
    ptrdiff_t offset = data == NULL ? 0 : (const char *)address - (const char *)data;
    int code = kinds[kind].code;
    if (data == NULL)
        mo_fail(error, code, "%s: %p %s", debug->name, address, kinds[kind].what);
    else if (code == -EOVERFLOW)
        mo_fail(error, code, "%s: %p of %zu bytes %s: first at byte %td", debug->name, data, bytes,
                kinds[kind].what, offset);
    else
        mo_fail(error, code, "%s: %p of %zu bytes %s", debug->name, data, bytes, kinds[kind].what);
    if (debug->callback != NULL) {
        struct memopt_misuse misuse = {
            .size = sizeof(misuse),
            .kind = kind,
            .pool = debug->name,
            .address = address,
            .bytes = bytes,
            .offset = offset,
            .text = error->message,
        };
        debug->callback(debug->context, &misuse);
    }
    return code;
}
