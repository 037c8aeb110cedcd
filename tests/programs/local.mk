# What programs see under the shim: the tests of tests/shim.bash and
# tests/test_real_programs.sh, and the programs they run. Those are plain
# programs in every build: no sanitizer, no compiler that knows malloc.
PLAIN_CFLAGS = -std=gnu17 $(WARN_CFLAGS) -O1 -fno-builtin
PLAIN_CXXFLAGS = -std=gnu++17 $(WARN_CFLAGS) -O1 -fno-builtin -fsized-deallocation
shim_tests = tests/test_shim_libc.sh tests/test_shim_jemalloc.sh tests/test_shim_tcmalloc.sh \
	tests/test_shim_mimalloc.sh tests/test_shim_pool.sh tests/test_shim_arena.sh \
	tests/test_shim_mmap.sh tests/test_shim_guard.sh
check_PROGRAMS += tests/programs/pool_library
tests_programs_pool_library_CFLAGS = $(PLAIN_CFLAGS) -fno-pie
tests_programs_pool_library_LDFLAGS = -no-pie -pthread
TESTS += tests/test_pool_library.sh
EXTRA_DIST += tests/test_pool_library.sh
TESTS += $(shim_tests) tests/test_real_programs.sh tests/test_example_plugin.sh tests/test_layers.sh
EXTRA_DIST += $(shim_tests) tests/shim.bash tests/test_real_programs.sh tests/test_example_plugin.sh tests/test_layers.sh
# what test_real_programs.sh gives its programs to do, and what judges the reports
EXTRA_DIST += tests/real/Job.hs tests/real/Job.java tests/real/job.go tests/real/job.js \
	tests/real/job.lua tests/real/job.php tests/real/job.rb tests/real/nginx.conf \
	tests/real/page.html tests/real/report.py tests/real/requests.py
check_PROGRAMS += tests/programs/behaviour tests/programs/cxx_new tests/programs/cxx_own_new \
	tests/programs/cxx_exceptions tests/programs/static
check_PROGRAMS += tests/programs/soak
tests_programs_soak_CFLAGS = $(PLAIN_CFLAGS)
tests_programs_soak_LDFLAGS = -pthread
TESTS += tests/test_soak.sh
EXTRA_DIST += tests/test_soak.sh
tests_programs_behaviour_CFLAGS = $(PLAIN_CFLAGS)
tests_programs_behaviour_LDFLAGS = -pthread
tests_programs_cxx_new_SOURCES = tests/programs/cxx_new.cc
tests_programs_cxx_new_CXXFLAGS = $(PLAIN_CXXFLAGS)
tests_programs_cxx_new_CPPFLAGS =
tests_programs_cxx_new_LDFLAGS =
tests_programs_cxx_own_new_SOURCES = tests/programs/cxx_own_new.cc
tests_programs_cxx_own_new_CXXFLAGS = $(PLAIN_CXXFLAGS)
tests_programs_cxx_own_new_CPPFLAGS =
tests_programs_cxx_own_new_LDFLAGS =
tests_programs_cxx_exceptions_SOURCES = tests/programs/cxx_exceptions.cc
tests_programs_cxx_exceptions_CXXFLAGS = $(PLAIN_CXXFLAGS)
tests_programs_cxx_exceptions_CPPFLAGS =
tests_programs_cxx_exceptions_LDFLAGS = -pthread
check_PROGRAMS += tests/programs/own_malloc tests/programs/own_malloc_whole
tests_programs_own_malloc_CFLAGS = $(PLAIN_CFLAGS)
tests_programs_own_malloc_LDFLAGS = -pthread
tests_programs_own_malloc_whole_SOURCES = tests/programs/own_malloc.c
tests_programs_own_malloc_whole_CFLAGS = $(PLAIN_CFLAGS) -DWHOLE
tests_programs_own_malloc_whole_LDFLAGS = -pthread
tests_programs_static_CFLAGS = $(PLAIN_CFLAGS)
tests_programs_static_LDFLAGS = -all-static
# Programs that broke memopt: the test builds them, each as it needs.
hard_programs = addresses.c addresses_cxx.cc deep.c early.cc early_main.c ends.c \
	exhausted.cc filtered.c shares.c \
	fork_in_handler.c loader.c symbolic.cc symbolic_main.cc wrap.c wrapped.c
TESTS += tests/test_hard_programs.sh
EXTRA_DIST += tests/test_hard_programs.sh $(hard_programs:%=tests/programs/hard/%)
check_LTLIBRARIES += tests/programs/hook.la
tests_programs_hook_la_SOURCES = tests/programs/hook.c
tests_programs_hook_la_CFLAGS = $(PLAIN_CFLAGS)
# -rpath: libtool makes a shared object of a check library only with one
tests_programs_hook_la_LDFLAGS = -module -avoid-version -shared -rpath /nowhere
# What programs see of malloc. They pass by themselves, as glibc is the reference.
what_programs_see = tests/test_malloc_errno tests/test_malloc_threads
check_PROGRAMS += $(what_programs_see)
TESTS += $(what_programs_see)
tests_test_malloc_errno_CFLAGS = $(PLAIN_CFLAGS)
tests_test_malloc_errno_LDFLAGS = -pthread
tests_test_malloc_threads_CFLAGS = $(PLAIN_CFLAGS)
tests_test_malloc_threads_LDFLAGS = -pthread
if HAVE_CMOCKA
check_PROGRAMS += tests/test_semantics tests/test_malloc_cancel
TESTS += tests/test_semantics tests/test_malloc_cancel
tests_test_semantics_CFLAGS = $(PLAIN_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_semantics_LDFLAGS =
tests_test_semantics_LDADD = $(CMOCKA_LIBS)
tests_test_malloc_cancel_CFLAGS = $(PLAIN_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_malloc_cancel_LDFLAGS = -pthread
tests_test_malloc_cancel_LDADD = $(CMOCKA_LIBS)
endif
