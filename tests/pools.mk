# Tests of pools and arenas (core/pool).
if HAVE_CMOCKA
pool_tests = tests/test_buffers tests/test_freelist tests/test_objects tests/test_pool_arena \
	tests/test_workspace
check_PROGRAMS += $(pool_tests)
TESTS += $(pool_tests)
valgrind_tests += $(pool_tests)
tests_test_buffers_SOURCES = tests/test_buffers.c tests/pool_heap.h
tests_test_buffers_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_buffers_LDFLAGS = $(AM_LDFLAGS) -export-dynamic
tests_test_buffers_LDADD = libmemopt.la $(CMOCKA_LIBS)
tests_test_freelist_SOURCES = tests/test_freelist.c tests/pool_heap.h
tests_test_freelist_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_freelist_LDFLAGS = $(AM_LDFLAGS) -export-dynamic
tests_test_freelist_LDADD = libmemopt.la $(CMOCKA_LIBS)
tests_test_objects_SOURCES = tests/test_objects.c tests/pool_heap.h
tests_test_objects_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_objects_LDFLAGS = $(AM_LDFLAGS) -export-dynamic
tests_test_objects_LDADD = libmemopt.la $(CMOCKA_LIBS)
tests_test_pool_arena_SOURCES = tests/test_pool_arena.c tests/pool_heap.h
tests_test_pool_arena_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_pool_arena_LDFLAGS = $(AM_LDFLAGS) -export-dynamic
tests_test_pool_arena_LDADD = libmemopt.la $(CMOCKA_LIBS)
tests_test_workspace_SOURCES = tests/test_workspace.c tests/pool_heap.h
tests_test_workspace_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_workspace_LDFLAGS = $(AM_LDFLAGS) -export-dynamic
tests_test_workspace_LDADD = libmemopt.la $(CMOCKA_LIBS)
endif

# Memory checkers over a program with planted bugs, built by the script.
TESTS += tests/test_pool_checkers.sh
EXTRA_DIST += tests/test_pool_checkers.sh tests/programs/planted_pools.c
TESTS += tests/test_pool_examples.sh
EXTRA_DIST += tests/test_pool_examples.sh
