# Tests of the same part of libmemopt: see core/.

# Memory checkers over libmemopt's memory: programs that are built by the scripts.
EXTRA_DIST += tests/checkers.bash
TESTS += tests/test_heap_checkers.sh
EXTRA_DIST += tests/test_heap_checkers.sh tests/programs/planted_heap.c
