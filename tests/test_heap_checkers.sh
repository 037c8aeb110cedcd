#!/bin/bash
# test_heap_checkers.sh - AddressSanitizer and Valgrind know a named heap's blocks
# on every backend as they know malloc's (core/heap/checked.c).
. "${top_srcdir:?}/tests/checkers.bash"
planted planted_heap
clean none
for allocator in libc pool mmap jemalloc; do
    [ -f "$top_builddir/plugins/.libs/alloc-$allocator.so" ] || continue
    if [ $allocator = jemalloc ]; then # its TLS needs room, and Valgrind replaces its malloc
        export GLIBC_TUNABLES=glibc.rtld.optional_static_tls=8192
        has_valgrind=no
    fi
    clean $allocator-none
    asan $allocator-overflow "use-after-poison|heap-buffer-overflow" "in main"
    asan $allocator-underflow "use-after-poison|heap-buffer-overflow" "in main"
    asan $allocator-use_after_free "use-after-poison|heap-use-after-free" "in main"
    memcheck $allocator-overflow "Invalid write of size 1"
    memcheck $allocator-underflow "Invalid write of size 1"
    # inside a block of malloc's, Valgrind names that
    if [ $allocator = libc ]; then
        memcheck $allocator-use_after_free "Invalid write of size 1" "memopt_heap_alloc"
    else
        memcheck $allocator-use_after_free "Invalid write of size 1" \
            "3 bytes inside a block of size 37 free'd" "by .*: memopt_heap_free"
    fi
    memcheck $allocator-uninitialised "depends on uninitialised value"
done
finish
