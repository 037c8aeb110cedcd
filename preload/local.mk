# What is preloaded into foreign programs: the shim, which has malloc, and the agent,
# which has not. Both are found beside the plugins.
pkglib_LTLIBRARIES += preload/libmemopt-preload.la preload/libmemopt-agent.la

preload_common_sources = \
	preload/dlopen.c \
	preload/embedded.c \
	preload/end.c \
	preload/environment.c \
	preload/fork.c \
	preload/libc.c \
	preload/object.c preload/object.h \
	preload/process.c preload/process.h
PRELOAD_CFLAGS = $(PROGRAM_CFLAGS) -fno-builtin-malloc -fno-builtin-calloc \
	-fno-builtin-realloc -fno-builtin-free

preload_libmemopt_preload_la_SOURCES = $(preload_common_sources) $(core_dispatch_sources) \
	preload/shim.c preload/shim.h preload/malloc.c preload/family.c preload/frees.c \
	preload/operators.c preload/operators.h
preload_libmemopt_preload_la_CFLAGS = $(PRELOAD_CFLAGS)
preload_libmemopt_preload_la_LDFLAGS = $(PLUGIN_LDFLAGS) -Wl,-Bsymbolic-functions
preload_libmemopt_preload_la_LIBADD = core/libcore-program.la

preload_libmemopt_agent_la_SOURCES = $(preload_common_sources) preload/agent.c
preload_libmemopt_agent_la_CFLAGS = $(PRELOAD_CFLAGS)
preload_libmemopt_agent_la_LDFLAGS = $(PLUGIN_LDFLAGS)
preload_libmemopt_agent_la_LIBADD = core/libcore-program.la
