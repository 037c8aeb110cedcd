# Tests of core/store. The library's own objects, so that faults reach them.
store_sources = core/tensor/dtype.c core/store/header.c core/store/layout.c core/store/reader.c \
	core/store/writer.c
if HAVE_CMOCKA
check_PROGRAMS += tests/test_store
TESTS += tests/test_store
valgrind_tests += tests/test_store
tests_test_store_SOURCES = tests/test_store.c tests/report_faults.h $(store_sources)
tests_test_store_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_store_LDFLAGS = $(AM_LDFLAGS) $(fault_ldflags) -Wl,--wrap=reallocarray \
	-Wl,--wrap=pwrite,--wrap=pread,--wrap=fsync,--wrap=ftruncate,--wrap=renameat \
	-Wl,--wrap=openat,--wrap=open,--wrap=mmap
tests_test_store_LDADD = core/libcore-own.la $(CMOCKA_LIBS)
endif
TESTS += tests/test_safetensors.sh
EXTRA_DIST += tests/test_safetensors.sh tests/safetensors.py
