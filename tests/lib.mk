# Tests of lib/.
if HAVE_CMOCKA
lib_tests = tests/test_atomic tests/test_nearest tests/test_tlsf
check_PROGRAMS += $(lib_tests)
TESTS += $(lib_tests)
valgrind_tests += $(lib_tests)
tests_test_atomic_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_atomic_LDADD = $(CMOCKA_LIBS)
tests_test_nearest_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_nearest_LDADD = lib/libmo-own.la $(CMOCKA_LIBS)
tests_test_tlsf_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_tlsf_LDADD = lib/libmo-own.la $(CMOCKA_LIBS)
endif
TESTS += tests/test_lib.sh
EXTRA_DIST += tests/test_lib.sh
