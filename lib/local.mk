# What plugins and core share. Once for foreign programs, without sanitizers; once for
# our own. Whoever links one compiles it in, hidden; what it does not use is dropped.
lib_sources = \
	lib/atomic.h \
	lib/head.h \
	lib/nearest.c lib/nearest.h \
	lib/tlsf.c lib/tlsf.h

noinst_LTLIBRARIES += lib/libmo-program.la lib/libmo-own.la
lib_libmo_program_la_SOURCES = $(lib_sources)
lib_libmo_program_la_CFLAGS = $(PROGRAM_CFLAGS)
lib_libmo_own_la_SOURCES = $(lib_sources)
lib_libmo_own_la_CFLAGS = $(AM_CFLAGS)
