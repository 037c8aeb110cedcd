/* scope.c - scopes of the buffer pool: the buffers rented through one hang in a
 * list, newest first (see buffers.h). */
#include "core/pool/buffers.h"

#include "core/base/error.h"

#include <errno.h>

static struct mo_buffer *inside(struct memopt_buffer *shown) {
    return (struct mo_buffer *)(void *)shown;
}

void mo_buffer_leave_scope(struct mo_buffer *buffer) {
    if (buffer->scope_next != NULL)
        buffer->scope_next->scope_previous = buffer->scope_previous;
    else
        buffer->scope->last =
            buffer->scope_previous == NULL ? NULL : &buffer->scope_previous->shown;
    if (buffer->scope_previous != NULL)
        buffer->scope_previous->scope_next = buffer->scope_next;
    buffer->scope = NULL;
}

int memopt_buffer_scope_rent(struct memopt_buffer_scope *scope, int dtype, unsigned rank,
                             const size_t *shape, struct memopt_buffer **ret_buffer,
                             struct memopt_error *error) {
    if (scope == NULL)
        return mo_fail(error, -EINVAL, "renting through a scope needs one");
    int code = memopt_buffers_rent(scope->pool, dtype, rank, shape, ret_buffer, error);
    if (code < 0)
        return code;
    struct mo_buffer *buffer = inside(*ret_buffer);
    struct mo_buffer *last = scope->last == NULL ? NULL : inside(scope->last);
    buffer->scope = scope;
    buffer->scope_next = NULL;
    buffer->scope_previous = last;
    if (last != NULL)
        last->scope_next = buffer;
    scope->last = &buffer->shown;
    return 0;
}

int memopt_buffer_scope_keep(struct memopt_buffer_scope *scope, struct memopt_buffer *shown,
                             struct memopt_error *error) {
    if (scope == NULL || shown == NULL)
        return mo_fail(error, -EINVAL, "keeping a buffer needs a scope and a buffer");
    if (shown->data == NULL || inside(shown)->scope != scope)
        return mo_fail(error, -ENOENT, "the buffer is not in this scope");
    mo_buffer_leave_scope(inside(shown));
    return 0;
}

int memopt_buffer_scope_end(struct memopt_buffer_scope *scope, struct memopt_error *error) {
    int code = 0;
    while (scope != NULL && scope->last != NULL) {
        int now = memopt_buffers_return(scope->pool, scope->last, code == 0 ? error : NULL);
        if (code == 0)
            code = now;
    }
    return code;
}

void memopt_buffer_scope_cleanup(struct memopt_buffer_scope *scope) {
    memopt_buffer_scope_end(scope, NULL);
}
