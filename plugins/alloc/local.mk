# Allocator plugins run inside foreign programs. To add one, copy the four lines
# of alloc-libc and, below, the four of its sanitized twin.

pkglib_LTLIBRARIES += plugins/alloc-libc.la
plugins_alloc_libc_la_SOURCES = plugins/alloc/libc.c
plugins_alloc_libc_la_CFLAGS = $(PROGRAM_CFLAGS)
plugins_alloc_libc_la_LDFLAGS = $(PLUGIN_LDFLAGS)

pkglib_LTLIBRARIES += plugins/alloc-mmap.la
plugins_alloc_mmap_la_SOURCES = plugins/alloc/mmap.c
plugins_alloc_mmap_la_CFLAGS = $(PROGRAM_CFLAGS)
plugins_alloc_mmap_la_LDFLAGS = $(PLUGIN_LDFLAGS)

pkglib_LTLIBRARIES += plugins/alloc-arena.la
plugins_alloc_arena_la_SOURCES = plugins/alloc/arena.c
plugins_alloc_arena_la_CFLAGS = $(PROGRAM_CFLAGS)
plugins_alloc_arena_la_LDFLAGS = $(PLUGIN_LDFLAGS)
plugins_alloc_arena_la_LIBADD = lib/libmo-program.la

if HAVE_JEMALLOC
pkglib_LTLIBRARIES += plugins/alloc-jemalloc.la
plugins_alloc_jemalloc_la_SOURCES = plugins/alloc/jemalloc.c
plugins_alloc_jemalloc_la_CFLAGS = $(PROGRAM_CFLAGS)
plugins_alloc_jemalloc_la_LDFLAGS = $(PLUGIN_LDFLAGS)
endif

if HAVE_TCMALLOC
pkglib_LTLIBRARIES += plugins/alloc-tcmalloc.la
plugins_alloc_tcmalloc_la_SOURCES = plugins/alloc/tcmalloc.c
plugins_alloc_tcmalloc_la_CFLAGS = $(PROGRAM_CFLAGS)
plugins_alloc_tcmalloc_la_LDFLAGS = $(PLUGIN_LDFLAGS)
endif

if HAVE_MIMALLOC
pkglib_LTLIBRARIES += plugins/alloc-mimalloc.la
plugins_alloc_mimalloc_la_SOURCES = plugins/alloc/mimalloc.c
plugins_alloc_mimalloc_la_CFLAGS = $(PROGRAM_CFLAGS)
plugins_alloc_mimalloc_la_LDFLAGS = $(PLUGIN_LDFLAGS)
endif
# pool: the plugin, and the allocator itself, a library beside it that exports malloc.
# initfirst: it has its settings before anybody's constructor allocates.
pkglib_LTLIBRARIES += plugins/alloc-pool.la
plugins_alloc_pool_la_SOURCES = plugins/alloc/pool.c plugins/alloc/pool_library.h
plugins_alloc_pool_la_CFLAGS = $(PROGRAM_CFLAGS)
plugins_alloc_pool_la_LDFLAGS = $(PLUGIN_LDFLAGS)

pool_sources = plugins/alloc/pool.h plugins/alloc/pool_library.h plugins/alloc/pool_library.c \
	plugins/alloc/pool_malloc.c plugins/alloc/pool_alloc.c plugins/alloc/pool_page.c \
	plugins/alloc/pool_segment.c plugins/alloc/pool_huge.c plugins/alloc/pool_heap.c
pkglib_LTLIBRARIES += plugins/libmemopt-pool.la
plugins_libmemopt_pool_la_SOURCES = $(pool_sources)
plugins_libmemopt_pool_la_CFLAGS = $(PROGRAM_CFLAGS)
plugins_libmemopt_pool_la_LDFLAGS = $(PLUGIN_LDFLAGS) -Wl,-Bsymbolic-functions -Wl,-z,initfirst

guard_sources = plugins/alloc/guard.c plugins/alloc/guard_stack.c plugins/alloc/guard_report.c \
	plugins/alloc/guard_signal.c plugins/alloc/guard.h
# The unwinder itself and not libgcc_s.so, which the program would have to load.
GUARD_UNWINDER = -Wc,-static-libgcc -Wl,--exclude-libs,ALL

pkglib_LTLIBRARIES += plugins/alloc-guard.la
plugins_alloc_guard_la_SOURCES = $(guard_sources)
plugins_alloc_guard_la_CFLAGS = $(PROGRAM_CFLAGS)
plugins_alloc_guard_la_LDFLAGS = $(PLUGIN_LDFLAGS) $(GUARD_UNWINDER)

# The same once more with the sanitizer, for tests that load plugins into a test
# program that has its run-time: MEMOPT_PLUGIN_PATH leads there in `make check`.
if SANITIZED
check_LTLIBRARIES += plugins-san/alloc-libc.la
plugins_san_alloc_libc_la_SOURCES = plugins/alloc/libc.c
plugins_san_alloc_libc_la_CFLAGS = $(SAN_PROGRAM_CFLAGS)
plugins_san_alloc_libc_la_LDFLAGS = $(SAN_PLUGIN_LDFLAGS)

check_LTLIBRARIES += plugins-san/alloc-mmap.la
plugins_san_alloc_mmap_la_SOURCES = plugins/alloc/mmap.c
plugins_san_alloc_mmap_la_CFLAGS = $(SAN_PROGRAM_CFLAGS)
plugins_san_alloc_mmap_la_LDFLAGS = $(SAN_PLUGIN_LDFLAGS)

check_LTLIBRARIES += plugins-san/alloc-arena.la
plugins_san_alloc_arena_la_SOURCES = plugins/alloc/arena.c
plugins_san_alloc_arena_la_CFLAGS = $(SAN_PROGRAM_CFLAGS)
plugins_san_alloc_arena_la_LDFLAGS = $(SAN_PLUGIN_LDFLAGS)
plugins_san_alloc_arena_la_LIBADD = lib/libmo-own.la

if HAVE_JEMALLOC
check_LTLIBRARIES += plugins-san/alloc-jemalloc.la
plugins_san_alloc_jemalloc_la_SOURCES = plugins/alloc/jemalloc.c
plugins_san_alloc_jemalloc_la_CFLAGS = $(SAN_PROGRAM_CFLAGS)
plugins_san_alloc_jemalloc_la_LDFLAGS = $(SAN_PLUGIN_LDFLAGS)
endif

if HAVE_TCMALLOC
check_LTLIBRARIES += plugins-san/alloc-tcmalloc.la
plugins_san_alloc_tcmalloc_la_SOURCES = plugins/alloc/tcmalloc.c
plugins_san_alloc_tcmalloc_la_CFLAGS = $(SAN_PROGRAM_CFLAGS)
plugins_san_alloc_tcmalloc_la_LDFLAGS = $(SAN_PLUGIN_LDFLAGS)
endif

if HAVE_MIMALLOC
check_LTLIBRARIES += plugins-san/alloc-mimalloc.la
plugins_san_alloc_mimalloc_la_SOURCES = plugins/alloc/mimalloc.c
plugins_san_alloc_mimalloc_la_CFLAGS = $(SAN_PROGRAM_CFLAGS)
plugins_san_alloc_mimalloc_la_LDFLAGS = $(SAN_PLUGIN_LDFLAGS)
endif
check_LTLIBRARIES += plugins-san/alloc-pool.la
plugins_san_alloc_pool_la_SOURCES = plugins/alloc/pool.c plugins/alloc/pool_library.h
plugins_san_alloc_pool_la_CFLAGS = $(SAN_PROGRAM_CFLAGS)
plugins_san_alloc_pool_la_LDFLAGS = $(SAN_PLUGIN_LDFLAGS)

check_LTLIBRARIES += plugins-san/libmemopt-pool.la
plugins_san_libmemopt_pool_la_SOURCES = $(pool_sources)
plugins_san_libmemopt_pool_la_CFLAGS = $(SAN_PROGRAM_CFLAGS)
plugins_san_libmemopt_pool_la_LDFLAGS = $(SAN_PLUGIN_LDFLAGS) -Wl,-Bsymbolic-functions

check_LTLIBRARIES += plugins-san/alloc-guard.la
plugins_san_alloc_guard_la_SOURCES = $(guard_sources)
plugins_san_alloc_guard_la_CFLAGS = $(SAN_PROGRAM_CFLAGS)
plugins_san_alloc_guard_la_LDFLAGS = $(SAN_PLUGIN_LDFLAGS) $(GUARD_UNWINDER)
endif
