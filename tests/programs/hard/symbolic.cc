// symbolic.cc - a library, linked with -Bsymbolic, that replaces operator new and delete for
// the whole program: its blocks are not malloc's.
#include <cstdlib>
#include <new>

void *operator new(std::size_t size) {
    char *p = static_cast<char *>(std::malloc(size + 64));
    if (p == nullptr)
        throw std::bad_alloc();
    return p + 64;
}
void operator delete(void *p) noexcept {
    if (p != nullptr)
        std::free(static_cast<char *>(p) - 64);
}
void operator delete(void *p, std::size_t) noexcept {
    ::operator delete(p);
}

extern "C" int *make();
extern "C" void unmake(int *p);
extern "C" int *make() {
    return new int(7);
}
extern "C" void unmake(int *p) {
    delete p;
}
