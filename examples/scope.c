/*
 * scope.c - a checkpoint is written in several steps, each of which may fail: a
 * scope undoes what was begun, and keeps the file only if all went well.
 *
 *     cc -o scope scope.c $(pkg-config --cflags --libs memopt)
 *     ./scope
 */
#include <memopt/memopt.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct memopt_heap *heap;

static void say(void *text) {
    printf("  undone: %s\n", (char *)text);
}

static void remove_file(void *path) {
    unlink(path);
    puts("  the file is removed");
}

/* Writes `count` numbers to a file; `fail_at` says which step goes wrong. */
static int write_checkpoint(char *path, size_t count, int fail_at) {
    memopt_auto(scope) struct memopt_scope scope = MEMOPT_SCOPE_INIT(heap);
    struct memopt_error error;
    memopt_scope_push(&scope, say, "step 1", NULL); /* the first few can't fail */

    double *numbers = memopt_scope_alloc(&scope, NULL, count * sizeof(*numbers));
    if (numbers == NULL || fail_at == 2)
        return -ENOMEM; /* here, and everywhere below: all that was pushed is run */
    for (size_t i = 0; i < count; i++)
        numbers[i] = (double)i / 2;

    memopt_auto(fclose) FILE *file = fopen(path, "w");
    if (file == NULL)
        return -errno;
    if (memopt_scope_push_on_error(&scope, remove_file, path, &error) < 0)
        return error.code; /* and the file is removed already */
    if (fwrite(numbers, sizeof(*numbers), count, file) != count || fflush(file) != 0 ||
        fail_at == 3)
        return -EIO;

    memopt_scope_commit(&scope); /* the file stays */
    return 0;
}

/* A function that makes something for its caller hands over an owned handle. */
static struct memopt_owned make_greeting(const char *name) {
    memopt_auto(owned) struct memopt_owned text =
        memopt_owned_block(heap, memopt_heap_alloc(heap, strlen(name) + 8));
    if (text.p == NULL)
        return (struct memopt_owned)MEMOPT_OWNED_INIT;
    sprintf(text.p, "hello, %s", name);
    return memopt_owned_move(&text);
}

int main(void) {
    struct memopt_error error;
    if (memopt_heap_open("scratch", NULL, &heap, &error) < 0) {
        fprintf(stderr, "scope: %s\n", error.message);
        return 1;
    }
    char path[] = "/tmp/memopt-scope-XXXXXX";
    int fd = mkstemp(path);
    if (fd < 0)
        return 1;
    close(fd);
    for (int fail_at = 2; fail_at <= 4; fail_at++) {
        printf("failing at step %d:\n", fail_at);
        int code = write_checkpoint(path, 100, fail_at);
        printf("  %s, the file is %s\n", code < 0 ? strerror(-code) : "success",
               access(path, F_OK) == 0 ? "there" : "not there");
    }
    unlink(path);
    {
        memopt_auto(owned) struct memopt_owned text = make_greeting("scope");
        puts(text.p == NULL ? "no memory" : (char *)text.p);
    }
    struct memopt_heap_statistics stats = MEMOPT_HEAP_STATISTICS_INIT;
    memopt_heap_stats(heap, &stats);
    printf("%llu blocks are left\n", (unsigned long long)stats.live_blocks);
    return memopt_heap_destroy(heap, NULL) < 0;
}
