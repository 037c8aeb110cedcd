# Living within memory in training: batch size, accumulation, checkpoints.
libmemopt_train_la_SOURCES += \
	core/train/batch.c \
	core/train/checkpoint.c \
	core/train/run.c
memoptinclude_HEADERS += include/memopt/train.h

# No contraction to FMA: the same bits on every machine. Vectorized, but not by -O3,
# which the user's CFLAGS come after.
noinst_LTLIBRARIES += core/train/libkernel.la
core_train_libkernel_la_SOURCES = core/train/accumulate.c
core_train_libkernel_la_CFLAGS = $(AM_CFLAGS) -ffp-contract=off -fno-math-errno \
	$(VECTOR_CFLAGS)
libmemopt_train_la_LIBADD += core/train/libkernel.la
libmemopt_train_la_DEPENDENCIES += core/train/libkernel.la
