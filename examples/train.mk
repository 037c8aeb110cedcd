# Examples of core/train.
noinst_PROGRAMS += examples/batch examples/checkpoints
examples_batch_SOURCES = examples/batch.c
examples_batch_LDADD = libmemopt-train.la libmemopt.la -lm
examples_checkpoints_SOURCES = examples/checkpoints.c
examples_checkpoints_LDADD = libmemopt-train.la libmemopt.la -lm
