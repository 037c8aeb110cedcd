# Tests of optimizers (core/optim).
EXTRA_DIST += scripts/optim-golden.py tests/data/optim-golden.txt \
	scripts/optim-paper-golden.py tests/data/optim-paper-golden.txt
if HAVE_CMOCKA
check_PROGRAMS += tests/test_optim_golden
TESTS += tests/test_optim_golden
valgrind_tests += tests/test_optim_golden
tests_test_optim_golden_SOURCES = tests/test_optim_golden.c tests/optim_noise.h
tests_test_optim_golden_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_optim_golden_LDADD = libmemopt-train.la libmemopt.la $(CMOCKA_LIBS)

check_PROGRAMS += tests/test_optim
TESTS += tests/test_optim
valgrind_tests += tests/test_optim
tests_test_optim_SOURCES = tests/test_optim.c tests/optim_noise.h tests/heap_child.h
tests_test_optim_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_optim_LDADD = libmemopt-train.la libmemopt.la $(CMOCKA_LIBS) -lm

check_PROGRAMS += tests/test_optim_place
TESTS += tests/test_optim_place
tests_test_optim_place_SOURCES = tests/test_optim_place.c tests/optim_noise.h
tests_test_optim_place_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_optim_place_LDADD = $(libmemopt_train_la_OBJECTS) $(libmemopt_train_la_LIBADD) $(CMOCKA_LIBS) -lm

check_PROGRAMS += tests/test_optim_kernels
TESTS += tests/test_optim_kernels
tests_test_optim_kernels_SOURCES = tests/test_optim_kernels.c tests/optim_noise.h
tests_test_optim_kernels_CFLAGS = $(AM_CFLAGS) -fno-tree-vectorize -ffp-contract=off $(CMOCKA_CFLAGS)
tests_test_optim_kernels_LDADD = libmemopt-train.la libmemopt.la $(CMOCKA_LIBS) -lm

check_PROGRAMS += tests/test_optim_faults
TESTS += tests/test_optim_faults
tests_test_optim_faults_SOURCES = tests/test_optim_faults.c tests/optim_noise.h tests/heap_child.h
tests_test_optim_faults_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_optim_faults_LDFLAGS = $(AM_LDFLAGS) -export-dynamic
tests_test_optim_faults_LDADD = libmemopt-train.la libmemopt.la $(CMOCKA_LIBS)
endif

check_PROGRAMS += tests/optim_program
tests_optim_program_LDADD = libmemopt-train.la libmemopt.la
TESTS += tests/test_optim_run.sh tests/test_optim_example.sh
EXTRA_DIST += tests/test_optim_run.sh tests/test_optim_example.sh
if HAVE_CMOCKA
check_PROGRAMS += tests/test_optim_wrap
TESTS += tests/test_optim_wrap
valgrind_tests += tests/test_optim_wrap
tests_test_optim_wrap_SOURCES = tests/test_optim_wrap.c tests/optim_rig.h tests/optim_noise.h
tests_test_optim_wrap_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_optim_wrap_LDADD = libmemopt-train.la libmemopt.la $(CMOCKA_LIBS)
endif
EXTRA_DIST += scripts/optim-sparse-golden.py tests/data/optim-sparse-golden.txt
if HAVE_CMOCKA
check_PROGRAMS += tests/test_optim_sparse
TESTS += tests/test_optim_sparse
valgrind_tests += tests/test_optim_sparse
tests_test_optim_sparse_SOURCES = tests/test_optim_sparse.c tests/optim_noise.h
tests_test_optim_sparse_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_optim_sparse_LDADD = libmemopt-train.la libmemopt.la $(CMOCKA_LIBS)
endif
EXTRA_DIST += scripts/optim-lbfgs-golden.py tests/data/optim-lbfgs-golden.txt
if HAVE_CMOCKA
check_PROGRAMS += tests/test_optim_lbfgs
TESTS += tests/test_optim_lbfgs
valgrind_tests += tests/test_optim_lbfgs
tests_test_optim_lbfgs_SOURCES = tests/test_optim_lbfgs.c tests/optim_noise.h
tests_test_optim_lbfgs_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_optim_lbfgs_LDADD = libmemopt-train.la libmemopt.la $(CMOCKA_LIBS) -lm
endif
if HAVE_CMOCKA
check_PROGRAMS += tests/test_optim_norms
TESTS += tests/test_optim_norms
tests_test_optim_norms_SOURCES = tests/test_optim_norms.c tests/optim_noise.h
tests_test_optim_norms_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) -ffp-contract=off -fno-tree-vectorize
tests_test_optim_norms_LDADD = libmemopt-train.la libmemopt.la $(CMOCKA_LIBS) -lm
endif
