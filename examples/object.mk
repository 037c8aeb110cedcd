# Examples of the same part of libmemopt: see core/.
noinst_PROGRAMS += examples/references
examples_references_SOURCES = examples/references.c
examples_references_LDADD = libmemopt.la
