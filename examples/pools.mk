# Examples of pools and arenas (core/pool).
pool_examples = examples/arena examples/buffers examples/freelist examples/objects examples/workspace
noinst_PROGRAMS += $(pool_examples)
examples_arena_SOURCES = examples/arena.c
examples_arena_LDADD = libmemopt.la
examples_buffers_SOURCES = examples/buffers.c
examples_buffers_LDADD = libmemopt.la
examples_freelist_SOURCES = examples/freelist.c
examples_freelist_LDADD = libmemopt.la
examples_objects_SOURCES = examples/objects.c
examples_objects_LDADD = libmemopt.la
examples_workspace_SOURCES = examples/workspace.c
examples_workspace_LDADD = libmemopt.la -lm
