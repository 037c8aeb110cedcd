# Optimizers: update kernels, state, schedules.
libmemopt_train_la_SOURCES += \
	core/optim/methods.c core/optim/methods.h \
	core/optim/optim.h \
	core/optim/optimizer.c \
	core/optim/pass.c \
	core/optim/save.c \
	core/optim/schedule.c \
	core/optim/settings.c \
	core/optim/state.c \
	core/optim/workers.c
memoptinclude_HEADERS += include/memopt/optim.h include/memopt/schedule.h

# Kernels: all clones of a function must give the same bits, so no contraction to
# FMA; the compiler may not be kept from vectorizing by errno or by exceptions
# that nobody looks at. Not -O3, which the user's CFLAGS come after.
noinst_LTLIBRARIES += core/optim/libkernels.la
core_optim_libkernels_la_SOURCES = \
	core/optim/convert.h core/optim/kernel.h \
	core/optim/adadelta.c \
	core/optim/adafactor.c \
	core/optim/adagrad.c \
	core/optim/adam.c \
	core/optim/adamax.c \
	core/optim/gradient.c \
	core/optim/lamb.c \
	core/optim/lars.c \
	core/optim/lbfgs.c \
	core/optim/linesearch.c core/optim/linesearch.h \
	core/optim/lion.c \
	core/optim/nadam.c \
	core/optim/radam.c \
	core/optim/rmsprop.c \
	core/optim/sgd.c \
	core/optim/operands.c \
	core/optim/sparse.c \
	core/optim/wrap.c
core_optim_libkernels_la_CFLAGS = $(AM_CFLAGS) -ffp-contract=off -fno-math-errno \
	-fno-trapping-math $(VECTOR_CFLAGS)
libmemopt_train_la_LIBADD += core/optim/libkernels.la
libmemopt_train_la_DEPENDENCIES += core/optim/libkernels.la
