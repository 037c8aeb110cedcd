# Tests of core/train, and of schedules. The library's own sources, so that faults
# reach them.
if HAVE_CMOCKA
check_PROGRAMS += tests/test_train
TESTS += tests/test_train
valgrind_tests += tests/test_train
tests_test_train_SOURCES = tests/test_train.c tests/report_faults.h core/tensor/dtype.c \
	core/train/batch.c core/train/checkpoint.c core/train/run.c
tests_test_train_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_train_LDFLAGS = $(AM_LDFLAGS) $(fault_ldflags)
tests_test_train_LDADD = core/train/libkernel.la core/libcore-own.la $(CMOCKA_LIBS) -lm
endif
TESTS += tests/test_train_examples.sh
EXTRA_DIST += tests/test_train_examples.sh

EXTRA_DIST += scripts/schedule-golden.py tests/data/schedule-golden.txt
if HAVE_CMOCKA
check_PROGRAMS += tests/test_schedule
TESTS += tests/test_schedule
valgrind_tests += tests/test_schedule
tests_test_schedule_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_schedule_LDADD = libmemopt-train.la libmemopt.la $(CMOCKA_LIBS) -lm
endif
