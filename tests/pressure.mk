# Tests of purge hints, the pressure ladder (core/pressure), spilling (core/heap).
if HAVE_CMOCKA
check_PROGRAMS += tests/test_purge_hint
TESTS += tests/test_purge_hint
valgrind_tests += tests/test_purge_hint
tests_test_purge_hint_SOURCES = tests/test_purge_hint.c tests/heap_child.h
tests_test_purge_hint_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) $(JANSSON_CFLAGS)
tests_test_purge_hint_LDADD = libmemopt.la $(CMOCKA_LIBS) $(JANSSON_LIBS)

check_PROGRAMS += tests/test_proc
TESTS += tests/test_proc
valgrind_tests += tests/test_proc
tests_test_proc_SOURCES = tests/test_proc.c core/base/proc.c
tests_test_proc_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_proc_LDADD = $(CMOCKA_LIBS)

check_PROGRAMS += tests/test_pressure
TESTS += tests/test_pressure
valgrind_tests += tests/test_pressure tests/test_spill
tests_test_pressure_SOURCES = tests/test_pressure.c tests/heap_child.h
tests_test_pressure_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) $(JANSSON_CFLAGS)
tests_test_pressure_LDADD = libmemopt.la $(CMOCKA_LIBS) $(JANSSON_LIBS)

check_PROGRAMS += tests/test_pressure_faults
TESTS += tests/test_pressure_faults
tests_test_pressure_faults_SOURCES = tests/test_pressure_faults.c tests/heap_child.h
tests_test_pressure_faults_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_pressure_faults_LDFLAGS = $(AM_LDFLAGS) -export-dynamic
tests_test_pressure_faults_LDADD = libmemopt.la $(CMOCKA_LIBS)

check_PROGRAMS += tests/test_spill
TESTS += tests/test_spill
tests_test_spill_SOURCES = tests/test_spill.c tests/heap_child.h
tests_test_spill_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_spill_LDFLAGS = $(AM_LDFLAGS) -export-dynamic
tests_test_spill_LDADD = libmemopt.la $(CMOCKA_LIBS)
endif
TESTS += tests/test_pressure_examples.sh
EXTRA_DIST += tests/test_pressure_examples.sh

# Memory checkers over a program with planted bugs, built by the script.
TESTS += tests/test_spill_checkers.sh
EXTRA_DIST += tests/test_spill_checkers.sh tests/programs/planted_spill.c
check_PROGRAMS += tests/fill_disk
tests_fill_disk_LDADD = libmemopt.la
TESTS += tests/test_spill_full_disk.sh
EXTRA_DIST += tests/test_spill_full_disk.sh
