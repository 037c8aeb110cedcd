# Examples of purge hints, the pressure ladder, spilling (core/heap).
noinst_PROGRAMS += examples/purge_hint
examples_purge_hint_SOURCES = examples/purge_hint.c
examples_purge_hint_LDADD = libmemopt.la
noinst_PROGRAMS += examples/pressure examples/watch
examples_pressure_SOURCES = examples/pressure.c
examples_pressure_LDADD = libmemopt.la
examples_watch_SOURCES = examples/watch.c
examples_watch_LDADD = libmemopt.la
