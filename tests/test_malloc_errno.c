/*
 * test_malloc_errno.c - free() leaves errno alone, whatever the kernel answers.
 *
 * Each case runs in a child of its own: it allocates blocks of many sizes, makes the
 * kernel refuse to take memory back, and frees the blocks in several orders by one of
 * the names that free a block. By itself it shows that glibc does so (2.33 and later);
 * tests/test_shim_*.sh run it with every backend.
 */
#include <dlfcn.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MARK = 77, TOTAL = 24 << 20, MOST = 1500, LEAST = 3 };
enum { MAPS_MAX = 300000 }; /* more would take too long to use up */

static const size_t sizes[] = {1,     24,    100,    500,    1024,    3000,    5000,
                               20000, 70000, 200000, 700000, 1500000, 5 << 20, 20 << 20};
enum { SIZES = sizeof sizes / sizeof sizes[0] };

struct block {
    void *p;
    size_t size;
};
static struct block blocks[SIZES * MOST];
static size_t count;
static const char *kernel_name, *way_name;

static _Noreturn void bad(const char *what, size_t size) {
    fprintf(stderr, "%s, %s: %s (a block of %zu bytes)\n", kernel_name, way_name, what, size);
    _exit(1);
}

/* --------------------------------------------------------------- the kernel */

static void as_it_is(void) {
}

/* Every call that takes memory back, or changes what a page may do, fails. */
static void refuses(void) {
#define REFUSE(NAME)                                                                               \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##NAME, 0, 1),                                         \
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOMEM)
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        REFUSE(munmap),
        REFUSE(madvise),
        REFUSE(mprotect),
        REFUSE(mremap),
        REFUSE(mmap),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof rules / sizeof rules[0], rules};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        bad("there is no seccomp filter", 0);
}

static long map_limit(void) {
    long limit = 0;
    FILE *file = fopen("/proc/sys/vm/max_map_count", "r");
    if (file == NULL || fscanf(file, "%ld", &limit) != 1)
        limit = 0;
    if (file != NULL)
        fclose(file);
    return limit;
}
static long maps;

/* vm.max_map_count is reached: what would split a mapping fails. */
static void out_of_mappings(void) {
    if (maps < 1 || maps > MAPS_MAX)
        return;
    size_t page = (size_t)sysconf(_SC_PAGESIZE), all = 2 * (size_t)maps * page;
    char *region = mmap(NULL, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (region == MAP_FAILED)
        bad("there is no address space", 0);
    size_t at = page;
    while (at < all && mprotect(region + at, page, PROT_READ) == 0)
        at += 2 * page;
    if (at >= all)
        bad("the limit of mappings was not reached", 0);
}

static const struct {
    const char *name;
    void (*prepare)(void);
    int every_way; /* else by free alone */
} kernels[] = {
    {"the kernel as it is", as_it_is, 0},
    {"the kernel refuses", refuses, 1},
    {"no mapping is left", out_of_mappings, 0},
};

/* ------------------------------------------------------------- ways to free */

typedef void (*free_fn)(void *);
typedef void (*sized_fn)(void *, size_t);
static void *symbol; /* what the way's name stands for */

static void plainly(struct block block) {
    ((free_fn)(uintptr_t)symbol)(block.p);
}

static void with_size(struct block block) {
    ((sized_fn)(uintptr_t)symbol)(block.p, block.size);
}

static void by_realloc(struct block block) {
    if (realloc(block.p, 0) != NULL)
        bad("realloc to nothing returned a block", block.size);
}

static void by_reallocarray(struct block block) {
    if (reallocarray(block.p, 0, 8) != NULL)
        bad("reallocarray to nothing returned a block", block.size);
}

static const struct {
    const char *name;
    void (*drop)(struct block block);
    int looked_up; /* skipped where there is no such name */
    int thread;    /* by another thread than the one that allocated */
} ways[] = {
    {"free", plainly, 1, 0},       {"free", plainly, 1, 1},
    {"cfree", plainly, 1, 0},      {"__libc_free", plainly, 1, 0},
    {"_ZdlPv", plainly, 1, 0},     {"_ZdaPv", plainly, 1, 0},
    {"_ZdlPvm", with_size, 1, 0},  {"free_sized", with_size, 1, 0},
    {"realloc", by_realloc, 0, 0}, {"reallocarray", by_reallocarray, 0, 0},
};

/* -------------------------------------------------------------------- cases */

static void allocate(void) {
    for (size_t i = 0; i < SIZES; i++) {
        size_t n = TOTAL / SIZES / sizes[i];
        n = n < LEAST ? LEAST : n > MOST ? MOST : n;
        for (size_t k = 0; k < n; k++) {
            void *p = malloc(sizes[i]);
            if (p == NULL)
                bad("malloc failed", sizes[i]);
            *(volatile char *)p = 1;
            ((volatile char *)p)[sizes[i] - 1] = 1;
            blocks[count++] = (struct block){p, sizes[i]};
        }
    }
}

static size_t kernel, way;

static void drop(size_t i) {
    errno = MARK;
    ways[way].drop(blocks[i]);
    if (errno != MARK)
        bad(strerrordesc_np(errno), blocks[i].size);
}

/* Holes first, then what lies between them, from the end on. */
static void *drop_all(void *unused) {
    (void)unused;
    free(malloc(1)); /* what an allocator keeps per thread is made while it can be */
    kernels[kernel].prepare();
    for (size_t i = 1; i < count; i += 2)
        drop(i);
    for (size_t i = count; i-- > 0;)
        if (i % 2 == 0)
            drop(i);
    return NULL;
}

static void one_case(void) {
    pthread_t thread;
    allocate();
    if (!ways[way].thread) {
        drop_all(NULL);
    } else if (pthread_create(&thread, NULL, drop_all, NULL) != 0 ||
               pthread_join(thread, NULL) != 0) {
        bad("no thread", 0);
    }
    _exit(0);
}

int main(void) {
    int failed = 0;
    maps = map_limit();
    for (kernel = 0; kernel < sizeof kernels / sizeof kernels[0]; kernel++) {
        for (way = 0; way < sizeof ways / sizeof ways[0]; way++) {
            kernel_name = kernels[kernel].name;
            way_name = ways[way].name;
            if (!kernels[kernel].every_way && strcmp(way_name, "free") != 0)
                continue;
            symbol = dlsym(RTLD_DEFAULT, way_name);
            if (ways[way].looked_up && symbol == NULL)
                continue;
            int status = -1;
            pid_t child = fork();
            if (child == 0)
                one_case();
            if (waitpid(child, &status, 0) != child || status != 0) {
                fprintf(stderr, "%s, %s: status %#x\n", kernel_name, way_name, (unsigned)status);
                failed = 1;
            }
        }
    }
    return failed;
}
