#!/bin/bash
# test_pool_checkers.sh - AddressSanitizer and Valgrind see into the pools: bugs
# planted in a program's use of each (tests/programs/planted_pools.c) are found
# where they happen, as in malloc's memory.
. "${top_srcdir:?}/tests/checkers.bash"
planted planted_pools
clean none

# technique NAME GIVE TAKE: both checkers find each bug in it; Valgrind says of a
# returned block where it was handed out (function TAKE) and came back (GIVE). (It
# takes a small function for a part of its caller, so that one is looked for.)
technique() {
    clean "$1-none"
    asan "$1-overflow" "use-after-poison" "WRITE of size 1" "in write_past_end"
    asan "$1-underflow" "use-after-poison" "WRITE of size 1" "in write_before_start"
    asan "$1-use_after_return" "use-after-poison" "WRITE of size 1" "in write_after_return"
    asan "$1-read_after_return" "use-after-poison" "READ of size 1" "in read_after_return"
    memcheck "$1-overflow" "Invalid write of size 1" "while_live"
    memcheck "$1-underflow" "Invalid write of size 1" "while_live"
    memcheck "$1-use_after_return" "Invalid write of size 1" "when_returned" \
        "0 bytes inside a block of size [0-9]+ free'd" "$2" "Block was alloc'd at" "$3"
    memcheck "$1-read_after_return" "Invalid read of size 1" "when_returned"
    memcheck "$1-uninitialised" "depends on uninitialised value" "read_uninitialised"
}
technique buffers memopt_buffers_return memopt_buffers_rent
technique arena memopt_arena_reset memopt_arena_alloc
technique freelist memopt_freelist_free memopt_freelist_alloc
technique objects memopt_objects_release memopt_objects_acquire
technique workspace memopt_workspace_end memopt_workspace_op
finish
