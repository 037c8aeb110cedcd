# examples: programs a newcomer runs and copies
EXTRA_DIST += examples/orders.sql examples/plugin/alloc-scrub.c examples/plugin/Makefile

# Built with everything else, so that they stay true; installed nowhere.
noinst_PROGRAMS += examples/heaps
examples_heaps_SOURCES = examples/heaps.c
examples_heaps_LDADD = libmemopt.la -lm
EXTRA_DIST += examples/heaps.ini
include examples/pools.mk
include examples/pressure.mk
include examples/object.mk
include examples/train.mk
include examples/store.mk
include examples/optim.mk
include examples/fashion/local.mk
