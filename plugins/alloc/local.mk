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
endif
