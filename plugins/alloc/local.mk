# Allocator plugins run inside foreign programs. To add one, copy three lines.

pkglib_LTLIBRARIES += plugins/alloc/alloc-mmap.la
plugins_alloc_alloc_mmap_la_SOURCES = plugins/alloc/mmap.c
plugins_alloc_alloc_mmap_la_CFLAGS = $(PROGRAM_CFLAGS)
plugins_alloc_alloc_mmap_la_LDFLAGS = $(PLUGIN_LDFLAGS)
