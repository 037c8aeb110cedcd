# Examples of pools and arenas (core/pool).
pool_examples = examples/buffers
noinst_PROGRAMS += $(pool_examples)
examples_buffers_SOURCES = examples/buffers.c
examples_buffers_LDADD = libmemopt.la
