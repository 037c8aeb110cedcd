#!/bin/bash
# test_object_checkers.sh - AddressSanitizer and Valgrind find mistakes with
# reference counts, copy-on-write buffers, lazy state and scopes.
. "${top_srcdir:?}/tests/checkers.bash"
planted planted_object
clean none
asan ref_overflow "use-after-poison" "in references"
asan ref_dead "use-after-poison" "in references"
asan ref_freed "use-after-poison" "in references"
memcheck ref_overflow "Invalid write of size 1" "references"
memcheck ref_dead "Invalid write of size 1" "inside a block of size" "memopt_ref_new"
memcheck ref_freed "Invalid write of size 1" "free'd"

asan lazy_overflow "use-after-poison" "in lazy_state"
asan lazy_reset "use-after-poison" "in lazy_state"
asan lazy_destroyed "use-after-poison" "in lazy_state"
memcheck lazy_overflow "Invalid write of size 4" "lazy_state"
memcheck lazy_reset "Invalid write of size 4" "lazy_state"
memcheck lazy_destroyed "Invalid write of size 4" "free'd" "memopt_heap_free"
memcheck lazy_uninitialised "depends on uninitialised value"

for bug in scope_overflow scope_early scope_ended owned_reset; do
    asan $bug "use-after-poison" "in scopes"
    memcheck $bug "Invalid write of size 1" "scopes"
done
memcheck scope_ended "free'd" "memopt_scope_end"
memcheck scope_uninitialised "depends on uninitialised value"

asan cow_overflow "use-after-poison" "in copy_on_write"
memcheck cow_overflow "Invalid write of size 1" "copy_on_write"
for bug in cow_shared cow_stale cow_destroyed; do
    asan $bug "SEGV on unknown address" "caused by a WRITE" "in copy_on_write"
    memcheck $bug "Process terminating with default action of signal 11" "copy_on_write"
done
finish
