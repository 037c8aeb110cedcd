# Examples of reference counts, copy-on-write, lazy state, scopes (core/object).
noinst_PROGRAMS += examples/cow examples/lazy examples/references examples/scope
examples_lazy_SOURCES = examples/lazy.c
examples_lazy_LDADD = libmemopt.la -lpthread
examples_references_SOURCES = examples/references.c
examples_references_LDADD = libmemopt.la
examples_scope_SOURCES = examples/scope.c
examples_scope_LDADD = libmemopt.la
examples_cow_SOURCES = examples/cow.c
examples_cow_LDADD = libmemopt.la
