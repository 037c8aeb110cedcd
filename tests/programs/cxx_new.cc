// cxx_new.cc - every form of operator new and delete.
//
// Prints a line for each group; exits 0. Run with and without memopt by
// tests/shim.bash. Asks malloc_usable_size, so a form that went past the shim
// to another allocator's own operator new would fail here.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <malloc.h>
#include <new>
#include <vector>

static int failures;
#define CHECK(CONDITION)                                                                           \
    do {                                                                                           \
        if (!(CONDITION)) {                                                                        \
            fprintf(stderr, "cxx_new: line %d: %s\n", __LINE__, #CONDITION);                       \
            failures++;                                                                            \
        }                                                                                          \
    } while (0)

static const std::align_val_t wide{ 128 };
static void *volatile sink; // so that the compiler leaves the calls in
static volatile std::size_t huge = static_cast<std::size_t>(PTRDIFF_MAX) - 4096;

static void *good(void *p, std::size_t size, std::size_t alignment = 16) {
    CHECK(p);
    CHECK(reinterpret_cast<std::uintptr_t>(p) % alignment == 0);
    CHECK(malloc_usable_size(p) >= size); // malloc's and operator new's heap are one
    std::memset(p, 0x5a, size);
    return p;
}

static int handler_calls;
static void *reserve;
static void handler() {
    handler_calls++;
    std::free(reserve);
    reserve = nullptr;
    if (handler_calls == 3)
        std::set_new_handler(nullptr); // now it must throw
}

template <typename Function> static bool throws(Function function) {
    try {
        function();
    } catch (const std::bad_alloc &) {
        return true;
    }
    return false;
}

struct alignas(64) Wide {
    char bytes[100];
};
struct Thrower {
    char bytes[200];
    Thrower() {
        throw 42;
    }
};

int main() {
    using std::nothrow;
    for (int i = 0; i < 1000; i++) {
        ::operator delete(good(::operator new(40), 40));
        ::operator delete[](good(::operator new[](40), 40));
        ::operator delete(good(::operator new(40, nothrow), 40), nothrow);
        ::operator delete[](good(::operator new[](40, nothrow), 40), nothrow);
        ::operator delete(good(::operator new(40), 40), std::size_t{ 40 });
        ::operator delete[](good(::operator new[](40), 40), std::size_t{ 40 });
        ::operator delete(good(::operator new(40, wide), 40, 128), wide);
        ::operator delete[](good(::operator new[](40, wide), 40, 128), wide);
        ::operator delete(good(::operator new(40, wide, nothrow), 40, 128), wide, nothrow);
        ::operator delete[](good(::operator new[](40, wide, nothrow), 40, 128), wide, nothrow);
        ::operator delete(good(::operator new(40, wide), 40, 128), std::size_t{ 40 }, wide);
        ::operator delete[](good(::operator new[](40, wide), 40, 128), std::size_t{ 40 }, wide);
        ::operator delete(nullptr);
        ::operator delete[](nullptr, std::size_t{ 8 }, wide);
        void *empty = ::operator new(0), *other = ::operator new(0);
        CHECK(empty && other && empty != other);
        ::operator delete(empty);
        ::operator delete(other);
        Wide *w = new Wide, *many = new Wide[7];
        CHECK(reinterpret_cast<std::uintptr_t>(w) % 64 == 0);
        CHECK(reinterpret_cast<std::uintptr_t>(many) % 64 == 0);
        delete w;
        delete[] many;
    }
    std::puts("20 forms");

    CHECK(throws([] { sink = ::operator new(huge); }));
    CHECK(throws([] { sink = ::operator new[](huge); }));
    CHECK(throws([] { sink = ::operator new(huge, wide); }));
    CHECK(throws([] { sink = ::operator new[](huge, wide); }));
    CHECK(::operator new(huge, nothrow) == nullptr);
    CHECK(::operator new[](huge, nothrow) == nullptr);
    CHECK(::operator new(huge, wide, nothrow) == nullptr);
    CHECK(::operator new[](huge, wide, nothrow) == nullptr);
    CHECK(throws([] { std::vector<char> v(huge); }));
    std::puts("bad_alloc");

    // the handler is called again and again until it gives up
    reserve = std::malloc(1000);
    std::set_new_handler(handler);
    CHECK(throws([] { sink = ::operator new(huge); }));
    CHECK(handler_calls == 3);
    handler_calls = 0;
    std::set_new_handler(handler);
    CHECK(::operator new(huge, nothrow) == nullptr);
    CHECK(handler_calls == 3);
    handler_calls = 0;
    std::set_new_handler(handler);
    CHECK(throws([] { sink = ::operator new(huge, wide); }));
    CHECK(handler_calls == 3);
    std::set_new_handler(nullptr);
    std::puts("new_handler");

    // a constructor that throws: the block goes back
    std::size_t caught = 0;
    for (int i = 0; i < 1000; i++) {
        try {
            delete new Thrower;
        } catch (int) {
            caught++;
        }
    }
    CHECK(caught == 1000);
    std::puts("throwing constructor");
    return failures != 0;
}
