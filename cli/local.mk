# The memopt command: main.c and one file a subcommand (the checklist is in cmd.h).
bin_PROGRAMS += cli/memopt
cli_memopt_SOURCES = \
	cli/cmd.h \
	cli/cmd_compare.c \
	cli/cmd_complete.c \
	cli/cmd_config.c \
	cli/cmd_env.c \
	cli/cmd_plugins.c \
	cli/cmd_run.c \
	cli/compare.h \
	cli/compare_candidates.c \
	cli/compare_export.c \
	cli/compare_judge.c \
	cli/compare_run.c \
	cli/compare_streams.c cli/compare_streams.h \
	cli/compare_text.c \
	cli/json.c cli/json.h \
	cli/main.c \
	cli/options.c cli/options.h \
	cli/settings.c cli/settings.h
cli_memopt_CFLAGS = $(AM_CFLAGS) $(JANSSON_CFLAGS)
cli_memopt_LDADD = core/libcore-launch.la core/libcore-own.la $(JANSSON_LIBS)

# The conformance suite, which `memopt plugins --test` starts and `make check` runs.
# -fno-builtin: the process's own malloc is under test, too.
helperdir = $(pkglibdir)
helper_PROGRAMS = cli/conformance
cli_conformance_SOURCES = \
	cli/conformance.c cli/conformance.h \
	cli/conformance_allocator.c \
	cli/conformance_reporter.c \
	cli/conformance_tracker.c
cli_conformance_CFLAGS = $(AM_CFLAGS) -fno-builtin
cli_conformance_LDADD = core/libcore-launch.la core/libcore-own.la
