# What is preloaded into foreign programs: the shim, which has malloc; the agent,
# which has not; edges, the agent with malloc's rarer relatives, for a backend's
# own library; edges-cxx, the same and C++'s operators. All are found beside the
# plugins.
pkglib_LTLIBRARIES += preload/libmemopt-preload.la preload/libmemopt-agent.la \
	preload/libmemopt-edges.la preload/libmemopt-edges-cxx.la

preload_common_sources = \
	preload/embedded.c \
	preload/environment.c \
	preload/fork.c \
	preload/frees.c \
	preload/handler.c \
	preload/libc.c \
	preload/process.c preload/process.h
PRELOAD_CFLAGS = $(PROGRAM_CFLAGS) -fno-builtin-malloc -fno-builtin-calloc \
	-fno-builtin-realloc -fno-builtin-free -fexceptions

preload_libmemopt_preload_la_SOURCES = $(preload_common_sources) $(core_dispatch_sources) \
	preload/shim.c preload/malloc.c preload/family.c preload/operators.c \
	preload/operators.h preload/rebind.c preload/rebind.h
preload_libmemopt_preload_la_CFLAGS = $(PRELOAD_CFLAGS)
preload_libmemopt_preload_la_LDFLAGS = $(PLUGIN_LDFLAGS) -Wl,-Bsymbolic-functions
preload_libmemopt_preload_la_LIBADD = core/libcore-program.la

preload_libmemopt_agent_la_SOURCES = $(preload_common_sources) preload/agent.c
preload_libmemopt_agent_la_CFLAGS = $(PRELOAD_CFLAGS)
preload_libmemopt_agent_la_LDFLAGS = $(PLUGIN_LDFLAGS)
preload_libmemopt_agent_la_LIBADD = core/libcore-program.la

preload_libmemopt_edges_la_SOURCES = $(preload_common_sources) \
	preload/edges.c preload/family.c core/dispatch/dispatch.c core/dispatch/boot.c
preload_libmemopt_edges_la_CFLAGS = $(PRELOAD_CFLAGS)
preload_libmemopt_edges_la_LDFLAGS = $(PLUGIN_LDFLAGS) -Wl,-Bsymbolic-functions
preload_libmemopt_edges_la_LIBADD = core/libcore-program.la

preload_libmemopt_edges_cxx_la_SOURCES = $(preload_libmemopt_edges_la_SOURCES) \
	preload/operators.c preload/operators.h
preload_libmemopt_edges_cxx_la_CFLAGS = $(PRELOAD_CFLAGS)
preload_libmemopt_edges_cxx_la_LDFLAGS = $(PLUGIN_LDFLAGS) -Wl,-Bsymbolic-functions
preload_libmemopt_edges_cxx_la_LIBADD = core/libcore-program.la
