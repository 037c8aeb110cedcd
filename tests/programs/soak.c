/*
 * soak.c - threads that allocate in every way, free each other's blocks, and fork,
 * for as long as is asked.
 *
 * usage: soak ROUNDS [SEED]
 *
 * A thread's round is some thousand calls; 0 rounds go on until the program is killed.
 * Every block is filled, and checked when it goes. It prints "ready" after the first
 * round and "done" at its end, and exits 0. It aborts if a block has changed, if a
 * child ended otherwise than it was told to, or if it holds far more memory at the end
 * than after the first quarter: what is live at once stays the same.
 */
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(CONDITION)                                                                           \
    do {                                                                                           \
        if (!(CONDITION)) {                                                                        \
            fprintf(stderr, "soak: line %d: %s\n", __LINE__, #CONDITION);                          \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

enum { THREADS = 4, SLOTS = 1500, CALLS = 4000 };

/* What is in a slot belongs to whoever has taken it out. */
struct block {
    size_t size;
    unsigned char fill, body[];
};
static struct block *_Atomic slots[SLOTS];
static unsigned long rounds;
static atomic_ulong finished; /* rounds of all threads */

static unsigned next(unsigned *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* Mostly small, at times some hundred kilobytes. */
static size_t any_size(unsigned *state) {
    unsigned kind = next(state) % 200;
    if (kind == 0)
        return sizeof(struct block) + 1 + next(state) % 300000;
    if (kind < 20)
        return sizeof(struct block) + 1 + next(state) % 9000;
    return sizeof(struct block) + 1 + next(state) % 600;
}

static void check(const struct block *block) {
    size_t body = block->size - sizeof(*block);
    CHECK(body > 0 && block->body[0] == block->fill && block->body[body / 2] == block->fill &&
          block->body[body - 1] == block->fill);
}

static void fill(struct block *block, size_t size, unsigned *state) {
    block->size = size;
    block->fill = (unsigned char)next(state);
    memset(block->body, block->fill, size - sizeof(*block));
}

static struct block *make(unsigned *state) {
    size_t size = any_size(state), align = (size_t)64 << next(state) % 4;
    void *p = NULL;
    switch (next(state) % 8) {
    case 0:
        p = calloc(1, size);
        for (size_t i = 0; p && i < size; i++)
            CHECK(((unsigned char *)p)[i] == 0);
        break;
    case 1: p = aligned_alloc(align, size); break;
    case 2: CHECK(posix_memalign(&p, align, size) == 0); break;
    case 3: p = memalign(align, size); break;
    case 4: p = realloc(NULL, size); break;
    default: p = malloc(size);
    }
    CHECK(p && malloc_usable_size(p) >= size);
    fill(p, size, state);
    return p;
}

static struct block *resize(struct block *block, unsigned *state) {
    size_t size = any_size(state), least = size < block->size ? size : block->size;
    unsigned char value = block->fill;
    block = realloc(block, size);
    CHECK(block && block->body[0] == value && block->body[least - sizeof(*block) - 1] == value);
    fill(block, size, state);
    return block;
}

/* Calls on blocks that any thread may have made. */
static void use(unsigned *state, unsigned calls) {
    for (unsigned i = 0; i < calls; i++) {
        unsigned slot = next(state) % SLOTS;
        struct block *block = atomic_exchange(&slots[slot], NULL);
        if (!block) {
            block = make(state);
        } else {
            check(block);
            if (next(state) % 4 == 0) {
                block = resize(block, state);
            } else {
                free(block);
                block = next(state) % 3 ? make(state) : NULL;
            }
        }
        struct block *was = atomic_exchange(&slots[slot], block);
        if (was) { /* somebody else was as quick */
            check(was);
            free(was);
        }
    }
}

static void start_child(unsigned *state) {
    int want = (int)(next(state) % 100);
    pid_t child = fork();
    if (child < 0 && errno == EAGAIN)
        return;
    CHECK(child >= 0);
    if (child == 0) {
        use(state, 200);
        if (want % 2)
            _exit(want);
        exit(want);
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0)
        CHECK(errno == EINTR);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == want);
}

static size_t resident(void) {
    FILE *file = fopen("/proc/self/statm", "re");
    CHECK(file);
    unsigned long size, pages;
    CHECK(fscanf(file, "%lu %lu", &size, &pages) == 2);
    fclose(file);
    return (size_t)pages * (size_t)sysconf(_SC_PAGESIZE);
}

static void *thread(void *argument) {
    unsigned state = (unsigned)(uintptr_t)argument;
    for (unsigned long round = 0; rounds == 0 || round < rounds; round++) {
        use(&state, CALLS);
        if (round % 4 == 0)
            start_child(&state);
        atomic_fetch_add(&finished, 1);
    }
    return NULL;
}

int main(int argc, char **argv) {
    CHECK(argc > 1);
    rounds = strtoul(argv[1], NULL, 10);
    unsigned seed = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 1;
    use(&seed, CALLS);
    puts("ready");
    fflush(stdout); /* or each child would say it again */

    pthread_t threads[THREADS];
    for (unsigned i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, thread, (void *)(uintptr_t)(seed + i)) == 0);
    size_t quarter = 0;
    while (rounds == 0 || atomic_load(&finished) < rounds * THREADS) {
        if (!quarter && atomic_load(&finished) >= rounds)
            quarter = resident();
        usleep(10000);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    if (quarter)
        CHECK(resident() <= 2 * quarter + ((size_t)64 << 20));
    for (unsigned i = 0; i < SLOTS; i++)
        free(atomic_exchange(&slots[i], NULL));
    puts("done");
    return 0;
}
