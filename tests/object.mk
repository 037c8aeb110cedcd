# Tests of reference counts, copy-on-write, lazy state, scopes (core/object).

# Memory checkers over libmemopt's memory: programs that are built by the scripts.
EXTRA_DIST += tests/checkers.bash
TESTS += tests/test_heap_checkers.sh
EXTRA_DIST += tests/test_heap_checkers.sh tests/programs/planted_heap.c

if HAVE_CMOCKA
object_tests = tests/test_cow tests/test_lazy tests/test_null tests/test_ref tests/test_scope
check_PROGRAMS += $(object_tests)
TESTS += $(object_tests)
valgrind_tests += $(object_tests)
tests_test_cow_SOURCES = tests/test_cow.c tests/object.h
tests_test_cow_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_cow_LDADD = libmemopt.la $(CMOCKA_LIBS)
check_PROGRAMS += tests/test_object_faults
TESTS += tests/test_object_faults
tests_test_object_faults_SOURCES = tests/test_object_faults.c tests/object.h tests/own_faults.h
tests_test_object_faults_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_object_faults_LDFLAGS = $(AM_LDFLAGS) -export-dynamic
tests_test_object_faults_LDADD = libmemopt.la $(CMOCKA_LIBS)
tests_test_lazy_SOURCES = tests/test_lazy.c tests/object.h
tests_test_lazy_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_lazy_LDADD = libmemopt.la $(CMOCKA_LIBS)
check_PROGRAMS += tests/test_first_use
TESTS += tests/test_first_use
tests_test_first_use_SOURCES = tests/test_first_use.c tests/object.h
tests_test_first_use_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_first_use_LDADD = libmemopt.la $(CMOCKA_LIBS)
tests_test_null_SOURCES = tests/test_null.c tests/object.h
tests_test_null_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_null_LDADD = libmemopt-train.la libmemopt.la $(CMOCKA_LIBS)
tests_test_ref_SOURCES = tests/test_ref.c tests/object.h
tests_test_ref_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_ref_LDADD = libmemopt.la $(CMOCKA_LIBS)
tests_test_scope_SOURCES = tests/test_scope.c tests/object.h
tests_test_scope_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_scope_LDADD = libmemopt.la $(CMOCKA_LIBS)
endif
TESTS += tests/test_object_checkers.sh tests/test_object_examples.sh
EXTRA_DIST += tests/test_object_checkers.sh tests/programs/planted_object.c \
	tests/test_object_examples.sh

check_PROGRAMS += tests/test_object_cxx
TESTS += tests/test_object_cxx
tests_test_object_cxx_SOURCES = tests/test_object_cxx.cc
tests_test_object_cxx_CPPFLAGS = $(tests_test_cxx_CPPFLAGS)
tests_test_object_cxx_CXXFLAGS = $(tests_test_cxx_CXXFLAGS)
tests_test_object_cxx_LDADD = libmemopt.la
