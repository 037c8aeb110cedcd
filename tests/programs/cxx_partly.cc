// cxx_partly.cc - a program that replaces some operators only, by PARTLY, in ways that
// work: each block still comes from malloc and goes to free. The guard allocator must
// have nothing to say of it (tests/test_guard.sh).
#include <cstdio>
#include <cstdlib>
#include <new>
#include <string>
#include <vector>

#ifndef __clang__ // to leave it out is the point
#pragma GCC diagnostic ignored "-Wsized-deallocation"
#endif
#define REPLACED __attribute__((noinline))

static long calls;

#if PARTLY == 1 // asks for more than it was asked for
REPLACED void *operator new(std::size_t size) {
    calls++;
    void *p = std::malloc(size + 8);
    if (p == nullptr)
        throw std::bad_alloc();
    return p;
}
#elif PARTLY == 2 // as the run-time's own
REPLACED void *operator new[](std::size_t size) {
    calls++;
    return ::operator new(size);
}
#elif PARTLY == 3
REPLACED void operator delete[](void *p) noexcept {
    calls++;
    ::operator delete(p);
}
#elif PARTLY == 4
REPLACED void operator delete(void *p, std::size_t) noexcept {
    calls++;
    std::free(p);
}
#elif PARTLY == 5
REPLACED void operator delete(void *p) noexcept {
    calls++;
    std::free(p);
}
#endif

struct Destroyed {
    char bytes[40];
    ~Destroyed() {
        bytes[0] = 0;
    }
};
struct alignas(64) Wide {
    char bytes[64];
};

int main() {
    volatile std::size_t count = 7;
    for (int i = 0; i < 10; i++) {
        delete new Destroyed;
        delete[] new Destroyed[count];
        delete[] new char[count];
        delete new (std::nothrow) Destroyed;
        delete[] new (std::nothrow) Destroyed[count];
        delete new Wide;
        delete[] new Wide[count];
        ::operator delete(::operator new(10), std::nothrow);
        ::operator delete[](::operator new[](10), std::nothrow);
        std::vector<std::string> strings;
        for (int j = 0; j < 100; j++)
            strings.push_back(std::string(100, 'x'));
    }
    return calls == 0;
}
