// cxx_own_new.cc - a program that replaces the two operators that the C++ standard
// makes all others of, with ones whose blocks only they can free.
//
// Each form must come here, also those that it leaves to the run-time. Exits 0 and
// prints what was allocated and freed. Run by tests/shim.bash.
#include <cstdio>
#include <cstdlib>
#include <new>
#include <string>
#include <vector>

static long made, freed;
static const std::size_t header = 32;

#ifndef __clang__ // to leave it out is the point
#pragma GCC diagnostic ignored "-Wsized-deallocation"
#endif

// not inlined: the compiler would see through the trick and warn
__attribute__((noinline)) void *operator new(std::size_t size) {
    char *p = static_cast<char *>(std::malloc(size + header));
    if (p == nullptr)
        throw std::bad_alloc();
    made++;
    return p + header;
}
__attribute__((noinline)) void operator delete(void *p) noexcept {
    if (p == nullptr)
        return;
    freed++;
    std::free(static_cast<char *>(p) - header);
}

struct Plain {
    char bytes[40];
};
struct Destroyed { // arrays of it are deleted with their size
    char bytes[40];
    ~Destroyed() {
        bytes[0] = 0;
    }
};

static void say(const char *what) {
    std::printf("%s: %ld made, %ld freed\n", what, made, freed);
}

int main() {
    made = freed = 0; // an allocator that is written in C++ has used it, too
    delete new Plain;
    say("new");
    delete[] new Plain[3];
    say("new[]");
    delete[] new Destroyed[3];
    say("new[], sized");
    delete new (std::nothrow) Plain;
    say("nothrow");
    delete[] new (std::nothrow) Plain[3];
    say("nothrow []");
    ::operator delete(::operator new(10), std::nothrow);
    ::operator delete[](::operator new[](10), std::nothrow);
    say("delete, nothrow");
    {
        std::vector<std::string> strings;
        for (int i = 0; i < 100; i++)
            strings.push_back(std::string(100, 'x'));
    }
    say("a library");
    return made == freed ? 0 : 1;
}
