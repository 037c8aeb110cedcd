#!/bin/bash
# test_spill_checkers.sh - AddressSanitizer and Valgrind see into spilled blocks:
# bugs planted in a program (tests/programs/planted_spill.c) are found where they
# happen, as in malloc's memory.
case $(stat -f -c %T /var/tmp) in
tmpfs | ramfs) echo "no disk at /var/tmp"; exit 77 ;;
esac
. "${top_srcdir:?}/tests/checkers.bash"
planted planted_spill
clean none
asan overflow "use-after-poison" "WRITE of size 1" "in write_past_end"
asan use_after_free "use-after-poison" "WRITE of size 1" "in write_after_free"
memcheck overflow "Invalid write of size 1" "write_past_end|main"
memcheck use_after_free "Invalid write of size 1" "inside a block of size 8,192 free'd" \
    "memopt_heap_free" "Block was alloc'd at" "memopt_heap_alloc"
memcheck uninitialised "depends on uninitialised value" "read_uninitialised|main"
finish
