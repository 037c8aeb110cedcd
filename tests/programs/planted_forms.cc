// planted_forms.cc - blocks that are freed by another form than they were made by, or
// with another size or alignment, to be found by the guard allocator from outside
// (tests/test_guard.sh); and everything of the kind that is right.
//
// usage: planted_forms [in-thread | in-child] BUG
//
// "none" does what C++ and its library do in earnest: nothing may be said of it.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <functional>
#include <initializer_list>
#include <list>
#include <map>
#include <memory>
#include <memory_resource>
#include <new>
#include <pthread.h>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <unordered_map>
#include <vector>

#define NAMED __attribute__((noinline, visibility("default")))
#define KEEP_FRAME __asm__ volatile("" ::: "memory")

// The compiler is not to see what is planted.
template <typename T> static T *hide(T *p) {
    __asm__ volatile("" : "+r"(p));
    return p;
}

struct Small {
    char bytes[24];
};
struct Large {
    char bytes[40];
};
struct Destroyed { // new[] of it keeps the count
    char bytes[40];
    ~Destroyed() {
        bytes[0] = 0;
    }
};
struct alignas(64) Wide {
    char bytes[64];
};
struct alignas(128) Wider {
    char bytes[128];
};
struct alignas(64) WideDestroyed {
    char bytes[64];
    ~WideDestroyed() {
        bytes[0] = 0;
    }
};
struct Base {
    virtual ~Base() = default;
    char bytes[10];
};
struct Derived : Base {
    char more[100];
};
struct Second {
    virtual ~Second() = default;
    long second;
};
struct Both : Base, Second {
    std::string text = "longer than what a string keeps in itself";
};
struct alignas(64) WideDerived : Base {
    char more[100];
};
struct NoVirtual {
    char bytes[8];
};
struct Longer : NoVirtual {
    char more[56];
};
struct Thrower {
    char bytes[200];
    Thrower() {
        throw 42;
    }
};
// Ends with as many bytes as fit: an operator delete of its own says nothing of its size.
struct Trailing {
    std::size_t length;
    static Trailing *make(std::size_t length) {
        return new (::operator new(sizeof(Trailing) + length)) Trailing{ length };
    }
    static void operator delete(void *p) {
        ::operator delete(p);
    }
};

static void (*sized_free)(void *, std::size_t);
static void (*aligned_sized_free)(void *, std::size_t, std::size_t);

NAMED void sized(void *p, std::size_t size);
NAMED void sized(void *p, std::size_t size) {
    sized_free(p, size);
    KEEP_FRAME;
}
NAMED void aligned_sized(void *p, std::size_t alignment, std::size_t size);
NAMED void aligned_sized(void *p, std::size_t alignment, std::size_t size) {
    aligned_sized_free(p, alignment, size);
    KEEP_FRAME;
}
template <typename T> NAMED void one_delete(T *p) {
    delete hide(p);
    KEEP_FRAME;
}
template <typename T> NAMED void array_delete(T *p) {
    delete[] hide(p);
    KEEP_FRAME;
}
template <typename To, typename From> static To *as(From *p) {
    return reinterpret_cast<To *>(hide(p));
}

// ------------------------------------------------------------------- what is right

static void operators() {
    static const std::size_t sizes[] = { 0, 1, 8, 24, 100, 5000 };
    static const std::size_t alignments[] = { 1, 8, 16, 64, 4096 };
    for (std::size_t size : sizes) {
        ::operator delete(::operator new(size));
        ::operator delete(::operator new(size), size);
        ::operator delete[](::operator new[](size));
        ::operator delete[](::operator new[](size), size);
        ::operator delete(::operator new(size, std::nothrow), std::nothrow);
        ::operator delete[](::operator new[](size, std::nothrow), std::nothrow);
        ::operator delete(::operator new(size, std::nothrow), size);
        for (std::size_t bytes : alignments) {
            std::align_val_t a{ bytes };
            ::operator delete(::operator new(size, a), a);
            ::operator delete(::operator new(size, a), size, a);
            ::operator delete[](::operator new[](size, a), a);
            ::operator delete[](::operator new[](size, a), size, a);
            ::operator delete(::operator new(size, a, std::nothrow), a, std::nothrow);
            ::operator delete[](::operator new[](size, a, std::nothrow), a, std::nothrow);
        }
    }
    ::operator delete(nullptr);
    ::operator delete(nullptr, std::size_t{ 7 });
    ::operator delete[](nullptr, std::size_t{ 7 }, std::align_val_t{ 64 });
}

static void classes() {
    volatile std::size_t count = 7, zero = 0;
    one_delete(new Small);
    one_delete(new Wide);
    array_delete(new Small[count]);
    array_delete(new Destroyed[count]);
    array_delete(new Destroyed[zero]);
    array_delete(new Wide[count]);
    array_delete(new Wide[zero]);
    array_delete(new WideDestroyed[count]);
    array_delete(new WideDestroyed[zero]);
    array_delete(new std::string[count]);
    one_delete<Base>(new Derived);
    one_delete<Base>(new Both);
    one_delete<Second>(new Both);
    one_delete<Base>(new WideDerived);
    one_delete(Trailing::make(100));
    array_delete(new int[count][3]);
    array_delete(new Destroyed[count][3]);
    for (int i = 0; i < 3; i++)
        try {
            one_delete(new Thrower);
        } catch (int) {
        }
    try {
        array_delete(new Thrower[count]);
    } catch (int) {
    }
}

template <typename T> static void fill(T &container) {
    for (int i = 0; i < 500; i++)
        container.emplace_back(100, static_cast<char>('a' + i % 26));
}

static void library() {
    std::vector<std::string> strings;
    fill(strings);
    std::stable_sort(strings.begin(), strings.end());
    std::inplace_merge(strings.begin(), strings.begin() + 200, strings.end());
    strings.shrink_to_fit();
    std::list<std::string> list;
    fill(list);
    std::map<std::string, std::vector<Wide>> map;
    std::unordered_map<std::string, std::unique_ptr<Base>> hash;
    for (const std::string &string : strings) {
        map[string].resize(3);
        hash[string] = std::make_unique<Derived>();
    }
    auto shared = std::make_shared<Wide>();
    std::shared_ptr<Base> deleted(new Derived);
    auto array = std::make_unique<Destroyed[]>(5);
    std::function<std::size_t()> function = [strings] { return strings.size(); };
    std::function<std::size_t()> copy = function;
    if (copy() != 500)
        std::abort();
    std::vector<Wide> none(0);
    std::allocator<Wide> wide;
    wide.deallocate(wide.allocate(0), 0);
    std::allocator<Small> small;
    small.deallocate(small.allocate(0), 0);

    std::pmr::memory_resource *resource = std::pmr::new_delete_resource();
    for (std::size_t alignment = 1; alignment <= 4096; alignment *= 2)
        for (std::size_t size : std::initializer_list<std::size_t>{0, 1, 40, 5000})
            resource->deallocate(resource->allocate(size, alignment), size, alignment);
    std::pmr::monotonic_buffer_resource monotonic;
    std::pmr::unsynchronized_pool_resource pools;
    std::pmr::synchronized_pool_resource shared_pools;
    for (std::pmr::memory_resource *of :
         std::initializer_list<std::pmr::memory_resource *>{ &monotonic, &pools, &shared_pools }) {
        std::pmr::vector<std::pmr::string> in(of);
        fill(in);
        std::pmr::vector<Wide> aligned(100, of);
    }
}

static void c23() {
    void *p = nullptr;
    sized(std::malloc(40), 40);
    sized(std::calloc(4, 10), 40);
    sized(std::realloc(std::malloc(10), 40), 40);
    sized(std::malloc(0), 0);
    sized(nullptr, 7);
    aligned_sized(std::aligned_alloc(64, 128), 64, 128);
    aligned_sized(std::aligned_alloc(64, 0), 64, 0);
    aligned_sized(std::aligned_alloc(16, 16), 16, 16);
    aligned_sized(nullptr, 64, 7);
    if (posix_memalign(&p, 256, 100) == 0)
        aligned_sized(p, 256, 100);
    sized(std::realloc(std::aligned_alloc(64, 128), 300), 300);
    std::free(::operator new(10)); // nobody says what free is for
}

// Memory is out, and the new-handler finds some.
static void *reserve;
static void handler() {
    std::free(reserve);
    reserve = nullptr;
    std::set_new_handler(nullptr);
}

static void exhausted() {
    volatile std::size_t huge = static_cast<std::size_t>(-1) / 4;
    // with a limit of 100 MiB the second is had by the handler only
    reserve = std::malloc(60 << 20);
    std::set_new_handler(handler);
    array_delete(new char[60 << 20]);
    reserve = std::realloc(reserve, 60 << 20);
    std::set_new_handler(handler);
    array_delete(new (std::nothrow) char[60 << 20]);
    // the run-time asks for a multiple of the alignment
    std::size_t odd = (60 << 20) + 1;
    reserve = std::realloc(reserve, 60 << 20);
    std::set_new_handler(handler);
    ::operator delete[](::operator new[](odd, std::align_val_t{ 64 }), odd, std::align_val_t{ 64 });
    reserve = std::realloc(reserve, 60 << 20);
    std::set_new_handler(handler);
    ::operator delete(::operator new(odd, std::align_val_t{ 64 }, std::nothrow), odd,
                      std::align_val_t{ 64 });
    std::set_new_handler(nullptr);
    try {
        array_delete(new char[huge]);
    } catch (const std::bad_alloc &) {
    }
    if (::operator new(huge, std::nothrow) != nullptr)
        std::abort();
    std::free(reserve);
}

static void none() {
    operators();
    classes();
    library();
    c23();
    exhausted();
}

// ------------------------------------------------------------------- what is wrong

static const struct {
    const char *name;
    void (*plant)();
} bugs[] = {
    { "none", none },
    { "delete-size", [] { one_delete(as<Small>(new Large)); } },
    { "delete-base", [] { one_delete<NoVirtual>(new Longer); } },
    { "delete-array-size",
      [] { ::operator delete[](hide(::operator new[](80)), std::size_t{ 72 }); } },
    { "delete-of-array", [] { one_delete(new Small[5]); } },
    { "delete-of-one-array", [] { one_delete(new Small[1]); } },
    { "array-delete", [] { array_delete(new Small); } },
    { "nothrow-array", [] { one_delete(new (std::nothrow) Small[5]); } },
    { "aligned-array", [] { one_delete(new Wide[2]); } },
    { "delete-alignment", [] { one_delete(as<Wide>(new Wider)); } },
    { "aligned-delete",
      [] { ::operator delete(hide(::operator new(100)), std::align_val_t{ 64 }); } },
    { "aligned-size",
      [] {
          std::align_val_t a{ 64 };
          ::operator delete(hide(::operator new(128, a)), std::size_t{ 64 }, a);
      } },
    { "free-sized", [] { sized(std::malloc(40), 41); } },
    { "free-sized-realloc", [] { sized(std::realloc(std::malloc(40), 400), 40); } },
    { "free-sized-aligned", [] { sized(std::aligned_alloc(64, 128), 128); } },
    { "free-aligned-size", [] { aligned_sized(std::aligned_alloc(64, 128), 64, 64); } },
    { "free-aligned-alignment", [] { aligned_sized(std::aligned_alloc(64, 128), 32, 128); } },
    { "free-aligned-malloc", [] { aligned_sized(std::malloc(128), 64, 128); } },
};

static void *plant(void *bug) {
    for (const auto &row : bugs)
        if (std::strcmp(row.name, static_cast<const char *>(bug)) == 0) {
            row.plant();
            return bug;
        }
    return nullptr;
}

int main(int argc, char **argv) {
    char *bug = argv[argc - 1];
    const char *where = argc > 2 ? argv[1] : "";
    // not in every C library; the shim has them
    *reinterpret_cast<void **>(&sized_free) = dlsym(RTLD_DEFAULT, "free_sized");
    *reinterpret_cast<void **>(&aligned_sized_free) = dlsym(RTLD_DEFAULT, "free_aligned_sized");
    if (sized_free == nullptr || aligned_sized_free == nullptr) {
        sized_free = [](void *p, std::size_t) { std::free(p); };
        aligned_sized_free = [](void *p, std::size_t, std::size_t) { std::free(p); };
    }
    if (std::strcmp(where, "in-child") == 0) {
        pid_t child = fork();
        if (child == 0) {
            if (fork() == 0) {
                plant(bug);
                _exit(0);
            }
            int status = 0;
            wait(&status);
            _exit(WIFSIGNALED(status) ? WTERMSIG(status) : 0);
        }
        int status = 0;
        waitpid(child, &status, 0);
        std::printf("grandchild: signal %d\n", WEXITSTATUS(status));
        return 0;
    }
    if (std::strcmp(where, "in-thread") == 0) {
        pthread_t thread;
        if (pthread_create(&thread, nullptr, plant, bug) != 0)
            return 2;
        void *known = nullptr;
        pthread_join(thread, &known);
        return known == nullptr ? 2 : 0;
    }
    return plant(bug) == nullptr ? 2 : 0;
}
