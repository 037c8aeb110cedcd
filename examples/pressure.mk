# Examples of the same part of libmemopt: see core/.
noinst_PROGRAMS += examples/purge_hint
examples_purge_hint_SOURCES = examples/purge_hint.c
examples_purge_hint_LDADD = libmemopt.la
