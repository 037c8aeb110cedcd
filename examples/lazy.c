/*
 * lazy.c - a table that is built when a thread first needs it, once; and one whose
 * file isn't there at first.
 *
 *     cc -o lazy lazy.c $(pkg-config --cflags --libs memopt) -pthread
 *     ./lazy
 */
#include <memopt/memopt.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { THREADS = 8, CRC_SIZE = 256 };

struct crc_table {
    unsigned row[CRC_SIZE];
};

static int build_crc(void *context, void *value, struct memopt_error *error) {
    struct crc_table *table = value;
    (void)context, (void)error;
    puts("the table is built");
    for (unsigned i = 0; i < CRC_SIZE; i++) {
        unsigned r = i;
        for (int bit = 0; bit < 8; bit++)
            r = r >> 1 ^ (r & 1 ? 0xedb88320u : 0);
        table->row[i] = r;
    }
    return 0;
}

static struct memopt_lazy crc_table =
    MEMOPT_LAZY_INIT(sizeof(struct crc_table), build_crc, NULL, NULL);

static unsigned crc32(const char *text) {
    struct memopt_error error;
    void *value;
    if (memopt_lazy_get(&crc_table, &value, &error) < 0) {
        fprintf(stderr, "lazy: %s\n", error.message);
        exit(1);
    }
    const struct crc_table *table = value;
    unsigned r = ~0u;
    while (*text != '\0')
        r = r >> 8 ^ table->row[(r ^ (unsigned char)*text++) & 0xff];
    return ~r;
}

static void *work(void *text) {
    if (crc32(text) != 0xcbf43926)
        exit(1);
    return NULL;
}

/* A build that can fail says why; whoever asks gets that, and may ask again. */
static int build_vocabulary(void *context, void *value, struct memopt_error *error) {
    FILE *file = fopen(context, "r");
    if (file == NULL) {
        error->code = -errno;
        snprintf(error->message, sizeof(error->message), "can't open the vocabulary: %s",
                 strerror(errno));
        return error->code;
    }
    int got = fscanf(file, "%15s", (char *)value);
    fclose(file);
    return got == 1 ? 0 : -ENODATA;
}

int main(void) {
    pthread_t threads[THREADS];
    char text[] = "123456789";
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, work, text);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    printf("crc32 = %08x\n", crc32(text));
    memopt_lazy_destroy(&crc_table, NULL);

    char path[] = "/tmp/memopt-lazy-XXXXXX";
    int fd = mkstemp(path);
    if (fd < 0)
        return 1;
    close(fd);
    unlink(path);
    struct memopt_lazy word = MEMOPT_LAZY_INIT(16, build_vocabulary, NULL, path);
    struct memopt_error error;
    void *value;
    if (memopt_lazy_get(&word, &value, &error) < 0)
        puts(error.message);
    FILE *file = fopen(path, "w");
    if (file == NULL)
        return 1;
    fputs("tensor\n", file);
    fclose(file);
    if (memopt_lazy_get(&word, &value, &error) == 0)
        printf("the word is %s\n", (char *)value);
    unlink(path);
    memopt_lazy_destroy(&word, NULL);
    return 0;
}
