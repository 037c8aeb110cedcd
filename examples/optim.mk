# Examples of optimizers (core/optim).
noinst_PROGRAMS += examples/optimizer
examples_optimizer_SOURCES = examples/optimizer.c
examples_optimizer_LDADD = libmemopt-train.la libmemopt.la
EXTRA_DIST += examples/optimizer.ini
