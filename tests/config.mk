# Option types, the configuration and its commands.
if HAVE_CMOCKA
check_PROGRAMS += tests/test_option
TESTS += tests/test_option
valgrind_tests += tests/test_option
tests_test_option_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_option_LDADD = core/libcore-own.la $(CMOCKA_LIBS)

check_PROGRAMS += tests/test_config
TESTS += tests/test_config
tests_test_config_SOURCES = tests/test_config.c core/config/config.c
tests_test_config_CPPFLAGS = $(AM_CPPFLAGS) $(INIH_CFLAGS) \
	-UMO_SYSCONFDIR -DMO_SYSCONFDIR='"$(abs_top_builddir)/tests/etc"' \
	-DTEST_ETC='"$(abs_top_builddir)/tests/etc"'
tests_test_config_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_config_LDADD = core/libcore-own.la $(INIH_LIBS) $(CMOCKA_LIBS)

# alloc-heapsonly.so: a module is built for a check only with an -rpath
check_LTLIBRARIES += tests/alloc-heapsonly.la
tests_alloc_heapsonly_la_SOURCES = tests/config/alloc-heapsonly.c
tests_alloc_heapsonly_la_CFLAGS = $(PROGRAM_CFLAGS)
tests_alloc_heapsonly_la_LDFLAGS = $(PLUGIN_LDFLAGS) -rpath /nowhere

check_PROGRAMS += tests/test_config_faults
TESTS += tests/test_config_faults
tests_test_config_faults_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_config_faults_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc \
	-Wl,--wrap=reallocarray,--wrap=strdup,--wrap=open,--wrap=read,--wrap=getcwd \
	-Wl,--wrap=dlopen,--wrap=mmap,--wrap=getauxval
tests_test_config_faults_LDADD = core/libcore-own.la $(CMOCKA_LIBS)
endif

include tests/fuzz/local.mk

config_tests = tests/test_bad_plugins.sh tests/test_cli_config.sh tests/test_configure.sh \
	tests/test_trust.sh
if !ENABLE_TSAN
TESTS += $(config_tests)
endif
EXTRA_DIST += $(config_tests)
