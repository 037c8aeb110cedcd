/*
 * xthread.c - memory freed by other threads than allocated it.
 *
 * usage: xthread [THREADS [ROUNDS]]
 *
 * Every thread owns a tray of blocks, replaces blocks of it at random (free,
 * then malloc of another size), and after each round exchanges its tray for
 * that of whichever thread came by last. So most blocks are freed by a thread
 * that did not allocate them, with no lock and no waiting of our own: what is
 * measured is the allocator. The number of operations is fixed.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { SLOTS = 512, REPLACE = 2048, MAX_THREADS = 256, MAILBOXES = 16 };

struct tray {
    unsigned char *block[SLOTS];
};
static struct tray *_Atomic mailbox[MAILBOXES];
static unsigned rounds = 300;

static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static unsigned char *new_block(uint64_t r) {
    /* mostly small, one in 32 up to 8 KiB */
    size_t size = 8 + (size_t)(r >> 8) % 256;
    if (r % 32 == 0)
        size += (size_t)(r >> 20) % 8192;
    unsigned char *block = malloc(size);
    if (!block)
        abort();
    block[0] = (unsigned char)size;
    block[size - 1] = block[0];
    return block;
}

static void *worker(void *argument) {
    uint64_t state = 88172645463325252u + (uintptr_t)argument * 2654435761u;
    struct tray *tray = malloc(sizeof *tray);
    if (!tray)
        abort();
    for (int i = 0; i < SLOTS; i++)
        tray->block[i] = new_block(next_random(&state));
    for (unsigned round = 0; round < rounds; round++) {
        for (int i = 0; i < REPLACE; i++) {
            uint64_t r = next_random(&state);
            unsigned char **slot = &tray->block[r % SLOTS];
            free(*slot);
            *slot = new_block(r >> 9);
        }
        struct tray *other = atomic_exchange(&mailbox[next_random(&state) % MAILBOXES], tray);
        if (other) {
            tray = other;
        } else {
            tray = malloc(sizeof *tray);
            if (!tray)
                abort();
            for (int i = 0; i < SLOTS; i++)
                tray->block[i] = new_block(next_random(&state));
        }
    }
    for (int i = 0; i < SLOTS; i++)
        free(tray->block[i]);
    free(tray);
    return NULL;
}

int main(int argc, char **argv) {
    unsigned threads = argc > 1 ? (unsigned)atoi(argv[1]) : 32;
    if (argc > 2)
        rounds = (unsigned)atoi(argv[2]);
    if (threads < 1 || threads > MAX_THREADS) {
        fprintf(stderr, "xthread: 1 to %d threads\n", MAX_THREADS);
        return 2;
    }
    pthread_t id[MAX_THREADS];
    for (unsigned i = 0; i < threads; i++) {
        if (pthread_create(&id[i], NULL, worker, (void *)(uintptr_t)(i + 1)) != 0)
            abort();
    }
    for (unsigned i = 0; i < threads; i++)
        pthread_join(id[i], NULL);
    for (int i = 0; i < MAILBOXES; i++) {
        struct tray *tray = atomic_load(&mailbox[i]);
        for (int k = 0; tray && k < SLOTS; k++)
            free(tray->block[k]);
        free(tray);
    }
    printf("%u threads, %u rounds of %d replacements\n", threads, rounds, REPLACE);
    return 0;
}
