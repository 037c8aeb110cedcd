# A training on Fashion-MNIST over named heaps; zlib reads its images. The sums
# are those of C as written, whatever the processor: no contraction. Vectorized, but
# not by -O3, which the user's CFLAGS come after.
EXTRA_DIST += examples/fashion/memopt.ini
if HAVE_ZLIB
noinst_PROGRAMS += examples/fashion/fashion
endif
examples_fashion_fashion_SOURCES = \
	examples/fashion/data.c examples/fashion/data.h \
	examples/fashion/fashion.c \
	examples/fashion/net.c examples/fashion/net.h
examples_fashion_fashion_CFLAGS = $(AM_CFLAGS) -ffp-contract=off -fno-math-errno $(VECTOR_CFLAGS)
examples_fashion_fashion_LDADD = libmemopt-train.la libmemopt.la $(ZLIB_LIBS) -lm
TESTS += tests/test_fashion.sh
EXTRA_DIST += tests/test_fashion.sh
