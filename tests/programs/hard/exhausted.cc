// exhausted.cc - memory is really out: new throws, new(nothrow) gives NULL, and the program
// goes on. `exhausted limit` limits its own address space first; a library of the same code
// is loaded by loader.c.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

struct block {
    block *next;
    char room[60000];
};

static block *fill() { // until there is nothing left, and what is left of that in small ones
    block *all = nullptr;
    for (;;) {
        block *one = new (std::nothrow) block;
        if (one == nullptr)
            return all;
        one->next = all;
        all = one;
    }
}

// The compiler may leave a new and its delete out where it sees both.
static char *volatile kept;

static void *use(void *result) {
    block *all = fill();
    int thrown = 0;
    for (int i = 0; i < 3; i++) {
        try {
            kept = new char[50 << 20];
            delete[] kept;
        } catch (const std::bad_alloc &) {
            thrown++;
        }
        try {
            kept = static_cast<char *>(::operator new(1 << 30, std::align_val_t(4096)));
            ::operator delete(kept, std::align_val_t(4096));
        } catch (const std::bad_alloc &) {
            thrown++;
        }
    }
    kept = new (std::nothrow) char[50 << 20];
    bool nothrow = kept == nullptr;
    while (all != nullptr) {
        block *next = all->next;
        delete all;
        all = next;
    }
    *static_cast<int *>(result) = thrown == 6 && nothrow ? 1 : 0;
    return nullptr;
}

// The run-time's thread-local data: where it was loaded later, the C library allocates it at
// the first throw, and ends a program for which there is no memory.
static void throw_once() {
    try {
        throw 1;
    } catch (int) {
    }
}

// A thread that has had a block; some libraries crash, by hand too, if its first fails.
static pthread_barrier_t barrier;
static void *use_in_thread(void *result) {
    kept = new char[100];
    delete[] kept;
    throw_once();
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    return use(result);
}

extern "C" int exhaust(int limit);
extern "C" int exhaust(int limit) {
    int ok = 0, in_thread = 0, status = 1;
    pthread_t thread;
    pthread_barrier_init(&barrier, nullptr, 2);
    throw_once();
    pthread_create(&thread, nullptr, use_in_thread, &in_thread);
    pthread_barrier_wait(&barrier);
    if (limit) {
        struct rlimit small = {300u << 20, 300u << 20};
        setrlimit(RLIMIT_AS, &small);
    }
    use(&ok);
    pthread_barrier_wait(&barrier);
    pthread_join(thread, nullptr);
    pid_t pid = fork();
    if (pid == 0) {
        int in_child = 0;
        use(&in_child);
        _exit(in_child ? 0 : 2);
    }
    waitpid(pid, &status, 0);
    std::printf("main %d, thread %d, child %d\n", ok, in_thread, status);
    return 0;
}

#ifndef LIBRARY
int main(int argc, char **) {
    return exhaust(argc > 1);
}
#endif
