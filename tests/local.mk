# tests

include tests/report.mk
TESTS += tests/test_shown.sh tests/test_env.sh tests/test_run_trust.sh
EXTRA_DIST += tests/test_shown.sh tests/test_env.sh tests/test_run_trust.sh

# The core tests, which scripts/check runs under valgrind: append yours if it
# neither starts programs under other allocators nor faults on purpose.
valgrind_tests = $(report_tests)
include tests/lib.mk
print-valgrind-tests:
	@echo $(valgrind_tests)
PHONY_TARGETS += print-valgrind-tests
EXTRA_DIST += tests/check.h tests/lsan.supp

include tests/programs/local.mk

AM_TESTS_ENVIRONMENT = \
	top_srcdir='$(abs_top_srcdir)'; export top_srcdir; \
	top_builddir='$(abs_top_builddir)'; export top_builddir; \
	CC='$(CC)' CXX='$(CXX)' SANITIZE_CFLAGS='$(SANITIZE_CFLAGS)'; export CC CXX SANITIZE_CFLAGS; \
	COVERAGE_CFLAGS='$(COVERAGE_CFLAGS)'; export COVERAGE_CFLAGS;
if SANITIZED
AM_TESTS_ENVIRONMENT += \
	MEMOPT_PLUGIN_PATH='$(abs_top_builddir)/plugins-san/.libs'; export MEMOPT_PLUGIN_PATH; \
	ASAN_OPTIONS=allocator_may_return_null=1; export ASAN_OPTIONS; \
	TSAN_OPTIONS=allocator_may_return_null=1:detect_deadlocks=0:report_thread_leaks=0; export TSAN_OPTIONS; \
	LSAN_OPTIONS='suppressions=$(abs_top_srcdir)/tests/lsan.supp:print_suppressions=0'; \
	export LSAN_OPTIONS;
endif

if HAVE_CMOCKA
check_PROGRAMS += tests/test_pool
TESTS += tests/test_pool
tests_test_pool_SOURCES = tests/test_pool.c tests/own.h tests/own_faults.h
tests_test_pool_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_pool_LDFLAGS = $(AM_LDFLAGS) -export-dynamic
tests_test_pool_LDADD = core/libcore-own.la $(CMOCKA_LIBS)
endif

# Plugins with one defect each, see tests/bad_plugins/plugin.c.
bad_plugins = newer-major newer-minor older-major truncated tiny oversize no-symbol wrong-kind \
	unknown-kind bad-name bad-flags other-name no-version no-ops truncated-ops large-ops no-open half-heaps \
	only-heaps option-size no-settings bad-key bad-type bad-offset bad-enum bad-default undefined \
	missing-backend older-minor partial no-malloc counting-tracker idle-tracker empty-enum \
	no-help bad-min bad-max same-key output-key slow-figures \
	refusing refusing-size marks exits aborts
check_DATA += $(bad_plugins:%=tests/bad_plugins/alloc-%.so)
CLEANFILES += $(bad_plugins:%=tests/bad_plugins/alloc-%.so)
EXTRA_DIST += tests/bad_plugins/conform.c tests/bad_plugins/plugin.c
tests/bad_plugins/alloc-%.so: tests/bad_plugins/plugin.c include/memopt/plugin.h
	$(AM_V_CCLD)$(MKDIR_P) tests/bad_plugins && $(CC) -std=gnu17 -Wall -I$(top_srcdir)/include \
		-shared -fPIC -DNAME='"$*"' -DDEFECT_`echo $* | tr - _` -o $@ $<

if HAVE_CMOCKA
check_PROGRAMS += tests/test_registry
TESTS += tests/test_registry
tests_test_registry_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_registry_LDFLAGS = $(AM_LDFLAGS) -export-dynamic
tests_test_registry_LDADD = core/libcore-own.la $(CMOCKA_LIBS)

check_PROGRAMS += tests/test_backends
TESTS += tests/test_backends
tests_test_backends_SOURCES = tests/test_backends.c tests/own.h
tests_test_backends_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_backends_LDFLAGS = $(AM_LDFLAGS) -export-dynamic
tests_test_backends_LDADD = core/libcore-own.la $(CMOCKA_LIBS)
endif

if HAVE_CMOCKA
check_PROGRAMS += tests/test_mmap
TESTS += tests/test_mmap
tests_test_mmap_SOURCES = tests/test_mmap.c tests/own.h tests/own_faults.h
tests_test_mmap_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_mmap_LDFLAGS = $(AM_LDFLAGS) -export-dynamic
tests_test_mmap_LDADD = core/libcore-own.la $(CMOCKA_LIBS)

check_PROGRAMS += tests/test_arena
TESTS += tests/test_arena
tests_test_arena_SOURCES = tests/test_arena.c tests/own.h tests/own_faults.h
tests_test_arena_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_arena_LDFLAGS = $(AM_LDFLAGS) -export-dynamic
tests_test_arena_LDADD = core/libcore-own.la $(CMOCKA_LIBS)

check_PROGRAMS += tests/test_guard
TESTS += tests/test_guard
tests_test_guard_SOURCES = tests/test_guard.c tests/own.h tests/own_faults.h
tests_test_guard_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_guard_LDFLAGS = $(AM_LDFLAGS) -export-dynamic
tests_test_guard_LDADD = core/libcore-own.la $(CMOCKA_LIBS)
endif

if HAVE_CMOCKA
check_PROGRAMS += tests/test_dispatch tests/test_counted tests/test_ledger_writer \
	tests/test_environment
TESTS += tests/test_dispatch tests/test_counted tests/test_ledger_writer tests/test_environment
valgrind_tests += tests/test_dispatch tests/test_counted tests/test_ledger_writer \
	tests/test_environment
tests_test_counted_SOURCES = tests/test_counted.c $(core_dispatch_sources)
tests_test_counted_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_counted_LDADD = core/libcore-own.la $(CMOCKA_LIBS)
tests_test_dispatch_SOURCES = tests/test_dispatch.c $(core_dispatch_sources)
tests_test_dispatch_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_dispatch_LDADD = core/libcore-own.la $(CMOCKA_LIBS)
tests_test_ledger_writer_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_ledger_writer_LDADD = core/libcore-own.la $(CMOCKA_LIBS)
check_PROGRAMS += tests/test_limit
TESTS += tests/test_limit
# not under valgrind, which gives up on the alignment that nothing can have
tests_test_limit_SOURCES = tests/test_limit.c $(account_sources)
tests_test_limit_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_limit_LDADD = core/libcore-own.la $(CMOCKA_LIBS)
tests_test_environment_SOURCES = tests/test_environment.c preload/environment.c \
	core/base/preload.c
tests_test_environment_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_environment_LDADD = $(CMOCKA_LIBS)
endif

if HAVE_CMOCKA
check_PROGRAMS += tests/test_heap
TESTS += tests/test_heap
tests_test_heap_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_heap_LDADD = libmemopt.la $(CMOCKA_LIBS)

check_PROGRAMS += tests/test_heap_config tests/test_heap_faults
TESTS += tests/test_heap_config tests/test_heap_faults
valgrind_tests += tests/test_heap_config
tests_test_heap_config_SOURCES = tests/test_heap_config.c tests/heap_child.h
tests_test_heap_config_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) $(JANSSON_CFLAGS)
tests_test_heap_config_LDADD = libmemopt.la $(CMOCKA_LIBS) $(JANSSON_LIBS)
tests_test_heap_faults_SOURCES = tests/test_heap_faults.c tests/heap_child.h
tests_test_heap_faults_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_heap_faults_LDFLAGS = $(AM_LDFLAGS) -export-dynamic
tests_test_heap_faults_LDADD = libmemopt.la $(CMOCKA_LIBS)
endif

if HAVE_CMOCKA
check_PROGRAMS += tests/test_target
TESTS += tests/test_target
valgrind_tests += tests/test_target
tests_test_target_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_target_LDADD = core/libcore-launch.la core/libcore-own.la $(CMOCKA_LIBS)
endif

check_PROGRAMS += tests/test_fork
TESTS += tests/test_fork
tests_test_fork_LDADD = libmemopt.la

check_PROGRAMS += tests/heap_program
tests_heap_program_LDADD = libmemopt.la
TESTS += tests/test_heap_run.sh tests/test_heap_example.sh tests/test_heap_man.sh
EXTRA_DIST += tests/test_heap_run.sh tests/test_heap_example.sh tests/test_heap_man.sh

check_PROGRAMS += tests/test_cxx
TESTS += tests/test_cxx
tests_test_cxx_SOURCES = tests/test_cxx.cc
tests_test_cxx_CPPFLAGS = -I$(top_srcdir)/include
tests_test_cxx_CXXFLAGS = -std=c++17 -Wall -Wextra -Wshadow -Wconversion $(SANITIZE_CFLAGS)
tests_test_cxx_LDADD = libmemopt-train.la libmemopt.la

# Every plugin through the suite that is installed.
TESTS += cli/conformance
EXTRA_DIST += tests/conformance-run.sh tests/plugin-manual.sh tests/test_conformance.sh
TESTS += tests/plugin-manual.sh
if !SANITIZED
TESTS += tests/conformance-run.sh tests/test_conformance.sh
endif
if HAVE_CMOCKA
check_PROGRAMS += tests/test_contest tests/test_lsan tests/test_samples
TESTS += tests/test_contest tests/test_lsan tests/test_samples
valgrind_tests += tests/test_contest tests/test_lsan tests/test_samples
tests_test_samples_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_samples_LDADD = core/libcore-launch.la core/libcore-own.la $(CMOCKA_LIBS)
tests_test_contest_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_contest_LDADD = core/libcore-launch.la core/libcore-own.la $(CMOCKA_LIBS)
tests_test_lsan_SOURCES = tests/test_lsan.c tests/report_faults.h
tests_test_lsan_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_lsan_LDFLAGS = $(AM_LDFLAGS) $(fault_ldflags)
tests_test_lsan_LDADD = core/libcore-import.la core/libcore-own.la $(CMOCKA_LIBS)
endif

# The memopt command as its users have it.
# ThreadSanitizer has nothing to find in it: the command has one thread, and a sanitized
# library can't be preloaded.
if !ENABLE_TSAN
TESTS += tests/test_run.sh tests/test_many_commands.sh tests/test_summary.sh
endif
EXTRA_DIST += tests/run_lib.sh tests/run_signals.py tests/test_run.sh \
	tests/test_many_commands.sh tests/test_summary.sh

include tests/config.mk
# The guard allocator over a program with planted bugs, built like any program.
check_PROGRAMS += tests/planted
tests_planted_SOURCES = tests/programs/planted.c
tests_planted_CFLAGS = $(PROGRAM_CFLAGS) -O1
tests_planted_LDFLAGS = -export-dynamic
check_PROGRAMS += tests/planted_forms
tests_planted_forms_SOURCES = tests/programs/planted_forms.cc
tests_planted_forms_CXXFLAGS = $(PLAIN_CXXFLAGS)
tests_planted_forms_CPPFLAGS =
tests_planted_forms_LDFLAGS = -pthread -export-dynamic
check_PROGRAMS += tests/cxx_partly_1 tests/cxx_partly_2 tests/cxx_partly_3 \
	tests/cxx_partly_4 tests/cxx_partly_5
tests_cxx_partly_1_SOURCES = tests/programs/cxx_partly.cc
tests_cxx_partly_1_CXXFLAGS = $(PLAIN_CXXFLAGS)
tests_cxx_partly_1_CPPFLAGS = -DPARTLY=1
tests_cxx_partly_1_LDFLAGS =
tests_cxx_partly_2_SOURCES = tests/programs/cxx_partly.cc
tests_cxx_partly_2_CXXFLAGS = $(PLAIN_CXXFLAGS)
tests_cxx_partly_2_CPPFLAGS = -DPARTLY=2
tests_cxx_partly_2_LDFLAGS =
tests_cxx_partly_3_SOURCES = tests/programs/cxx_partly.cc
tests_cxx_partly_3_CXXFLAGS = $(PLAIN_CXXFLAGS)
tests_cxx_partly_3_CPPFLAGS = -DPARTLY=3
tests_cxx_partly_3_LDFLAGS =
tests_cxx_partly_4_SOURCES = tests/programs/cxx_partly.cc
tests_cxx_partly_4_CXXFLAGS = $(PLAIN_CXXFLAGS)
tests_cxx_partly_4_CPPFLAGS = -DPARTLY=4
tests_cxx_partly_4_LDFLAGS =
tests_cxx_partly_5_SOURCES = tests/programs/cxx_partly.cc
tests_cxx_partly_5_CXXFLAGS = $(PLAIN_CXXFLAGS)
tests_cxx_partly_5_CPPFLAGS = -DPARTLY=5
tests_cxx_partly_5_LDFLAGS =
if !ENABLE_TSAN
TESTS += tests/test_guard.sh
endif
EXTRA_DIST += tests/test_guard.sh
if !ENABLE_TSAN
TESTS += tests/test_cli.sh tests/test_compare.sh tests/test_compare_runs.sh \
	tests/test_compare_screen.sh
endif
EXTRA_DIST += tests/run_lib.sh tests/run_signals.py \
	tests/test_cli.sh tests/test_compare.sh tests/test_compare_runs.sh \
	tests/test_compare_screen.sh tests/test_run.sh

# The command once more, with faults.
check_PROGRAMS += tests/memopt_faults
tests_memopt_faults_SOURCES = tests/memopt_faults.c $(cli_memopt_SOURCES)
tests_memopt_faults_CFLAGS = $(cli_memopt_CFLAGS)
tests_memopt_faults_LDFLAGS = $(AM_LDFLAGS) \
	-Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup,--wrap=asprintf \
	-Wl,--wrap=mmap,--wrap=open,--wrap=openat,--wrap=fopen,--wrap=opendir,--wrap=mkdtemp \
	-Wl,--wrap=dlopen,--wrap=fork,--wrap=pipe2,--wrap=socketpair
tests_memopt_faults_LDADD = $(cli_memopt_LDADD)
if !ENABLE_TSAN
TESTS += tests/test_run_faults.sh
endif
EXTRA_DIST += tests/test_run_faults.sh

include tests/pools.mk
include tests/pressure.mk
include tests/object.mk
include tests/train.mk
include tests/store.mk
include tests/optim.mk
if !ENABLE_TSAN
TESTS += tests/test_man_examples.sh
endif
EXTRA_DIST += tests/test_man_examples.sh
