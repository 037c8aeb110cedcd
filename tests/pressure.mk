# Tests of the same part of libmemopt: see core/.
if HAVE_CMOCKA
check_PROGRAMS += tests/test_purge_hint
TESTS += tests/test_purge_hint
valgrind_tests += tests/test_purge_hint
tests_test_purge_hint_SOURCES = tests/test_purge_hint.c tests/heap_child.h
tests_test_purge_hint_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) $(JANSSON_CFLAGS)
tests_test_purge_hint_LDADD = libmemopt.la $(CMOCKA_LIBS) $(JANSSON_LIBS)
endif
TESTS += tests/test_pressure_examples.sh
EXTRA_DIST += tests/test_pressure_examples.sh
