// addresses_cxx.cc - the same of operator new and delete: addresses.c.
#include <cstdio>
#include <new>

static void *(*volatile const new_plain)(std::size_t) = &::operator new;
static void *(*volatile const new_array)(std::size_t) = &::operator new[];
static void *(*volatile const new_nothrow)(std::size_t, const std::nothrow_t &) noexcept =
    &::operator new;
static void *(*volatile const new_aligned)(std::size_t, std::align_val_t) = &::operator new;
static void (*volatile const delete_plain)(void *) noexcept = &::operator delete;
static void (*volatile const delete_array)(void *) noexcept = &::operator delete[];
static void (*volatile const delete_sized)(void *, std::size_t) noexcept = &::operator delete;
static void (*volatile const delete_aligned)(void *, std::align_val_t) noexcept =
    &::operator delete;

int main() {
    for (int i = 0; i < 1000; i++) {
        delete_plain(new_plain(100));
        delete_array(new_array(100));
        delete_sized(new_nothrow(100, std::nothrow), 100);
        delete_aligned(new_aligned(100, std::align_val_t(64)), std::align_val_t(64));
    }
    std::puts("new and delete");
    return 0;
}
