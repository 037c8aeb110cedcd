# Living within memory in training: batch size, accumulation, checkpoints.
libmemopt_la_SOURCES += \
	core/train/batch.c \
	core/train/checkpoint.c \
	core/train/run.c
memoptinclude_HEADERS += include/memopt/train.h

# No contraction to FMA: the same bits on every machine.
noinst_LTLIBRARIES += core/train/libkernel.la
core_train_libkernel_la_SOURCES = core/train/accumulate.c
core_train_libkernel_la_CFLAGS = $(AM_CFLAGS) -O3 -ffp-contract=off -fno-math-errno
libmemopt_la_LIBADD += core/train/libkernel.la
libmemopt_la_DEPENDENCIES += core/train/libkernel.la
