# libcore-program: what runs inside watched programs (shim, agent) and everywhere
# else; libcore-memopt: what only the memopt command and libmemopt have.
core_program_sources = \
	core/account/tally.h \
	core/base/error.c core/base/error.h \
	core/base/forkorder.c core/base/forkorder.h core/base/kernel.h \
	core/base/preload.c core/base/preload.h core/base/reserve.h \
	core/base/rundir.c core/base/rundir.h \
	core/base/sanitizer.h \
	core/base/sysmem.c core/base/sysmem.h core/base/text.h \
	core/base/trust.c core/base/trust.h \
	core/heap/section.c core/heap/section.h \
	core/option/flat.c core/option/flat.h \
	core/option/option.c core/option/option.h core/option/section.h \
	core/plugin/check.c core/plugin/find.c core/plugin/host.c core/plugin/load.c \
	core/plugin/parts.h core/plugin/place.c core/plugin/registry.h \
	core/plugin/section.c core/plugin/section.h \
	core/ledger/ledger.h \
	core/ledger/writer.c core/ledger/writer.h

core_memopt_sources = \
	core/account/read.c core/account/read.h \
	core/base/newfile.c core/base/newfile.h \
	core/base/proc.c core/base/proc.h \
	core/config/check.c core/config/config.c core/config/config.h core/config/parts.h \
	core/config/read.c core/config/write.c \
	core/launch/section.c core/launch/section.h \
	core/optim/section.c core/optim/section.h \
	core/pressure/section.c core/pressure/section.h \
	core/sections/sections.c \
	core/store/section.c core/store/section.h \
	core/ledger/reader.c core/ledger/reader.h \
	core/model/arena.c core/model/arena.h \
	core/model/build.c core/model/build.h \
	core/model/model.h \
	core/model/peak.c core/model/peak.h \
	core/model/process.c core/model/process.h \
	core/model/report.c core/model/report.h \
	core/render/output.c core/render/output.h \
	core/render/render.h core/render/write.c

# Only the shim has a hot path.
account_sources = \
	core/account/account.h core/account/bound.h \
	core/account/count.c \
	core/account/events.c \
	core/account/limit.c core/account/limit.h
core_dispatch_sources = $(account_sources) \
	core/dispatch/boot.c core/dispatch/boot.h \
	core/dispatch/dispatch.c core/dispatch/dispatch.h \
	core/dispatch/own.c \
	core/dispatch/services.h \
	core/dispatch/switch.c \
	core/dispatch/track.c

# Once for foreign programs, without sanitizers; once for our own.
noinst_LTLIBRARIES += core/libcore-program.la core/libcore-own.la
core_libcore_program_la_SOURCES = $(core_program_sources)
core_libcore_program_la_CFLAGS = $(PROGRAM_CFLAGS)
core_libcore_program_la_LIBADD = lib/libmo-program.la
core_libcore_own_la_SOURCES = $(core_program_sources) $(core_memopt_sources)
core_libcore_own_la_CFLAGS = $(AM_CFLAGS) $(INIH_CFLAGS) $(JANSSON_CFLAGS)
core_libcore_own_la_LIBADD = lib/libmo-own.la $(INIH_LIBS)

# libmemopt: named heaps for programs that link it.
lib_LTLIBRARIES += libmemopt.la
libmemopt_la_SOURCES = \
	core/base/poison.c core/base/poison.h \
	core/base/thread.c core/base/thread.h \
	core/render/program.c \
	core/tensor/dtype.c
libmemopt_la_CFLAGS = $(AM_CFLAGS)
libmemopt_la_LDFLAGS = $(AM_LDFLAGS) -version-info $(LIBMEMOPT_VERSION_INFO) -Wl,-z,nodelete \
	-Wl,--version-script=$(srcdir)/core/runtime/libmemopt.map
libmemopt_la_DEPENDENCIES = core/libcore-own.la core/runtime/libmemopt.map
libmemopt_la_LIBADD = core/libcore-own.la
include core/runtime/local.mk
include core/heap/local.mk
include core/pressure/local.mk
include core/pool/local.mk
include core/object/local.mk

# libmemopt-train: optimizers, stores, training in a budget. It uses libmemopt as any
# program does, and carries what it needs besides: errors, option tables, those of
# [optimizer] and of what judges its values, new files.
lib_LTLIBRARIES += libmemopt-train.la
libmemopt_train_la_SOURCES = \
	core/base/error.c \
	core/base/newfile.c \
	core/base/sysmem.c \
	core/heap/section.c \
	core/optim/section.c \
	core/option/option.c
libmemopt_train_la_CFLAGS = $(AM_CFLAGS)
libmemopt_train_la_LDFLAGS = $(AM_LDFLAGS) -version-info $(LIBMEMOPT_VERSION_INFO) \
	-Wl,-z,nodelete -Wl,--version-script=$(srcdir)/core/train/libmemopt-train.map
libmemopt_train_la_DEPENDENCIES = libmemopt.la lib/libmo-own.la core/train/libmemopt-train.map
libmemopt_train_la_LIBADD = libmemopt.la lib/libmo-own.la -lm
EXTRA_DIST += core/train/libmemopt-train.map
include core/train/local.mk
include core/store/local.mk
include core/optim/local.mk

# What starts programs and watches them from outside: the memopt command only.
noinst_LTLIBRARIES += core/libcore-launch.la
core_libcore_launch_la_SOURCES = \
	core/launch/contest.c core/launch/contest.h \
	core/launch/environment.c core/launch/environment.h \
	core/launch/launch.c core/launch/launch.h \
	core/launch/plan.c core/launch/plan.h \
	core/launch/samples.c core/launch/samples.h \
	core/launch/session.c core/launch/session.h \
	core/launch/target.c core/launch/target.h \
	core/launch/trial.c core/launch/trial.h \
	core/launch/watch.c core/launch/watch.h
core_libcore_launch_la_CFLAGS = $(AM_CFLAGS)
core_libcore_launch_la_LIBADD = core/libcore-import.la

# What a run left behind becomes a report: the memopt command only.
noinst_LTLIBRARIES += core/libcore-import.la
core_libcore_import_la_SOURCES = \
	core/import/faults.c core/import/faults.h \
	core/import/lsan.c core/import/lsan.h \
	core/import/names.c core/import/names.h \
	core/import/run.c core/import/run.h
core_libcore_import_la_CFLAGS = $(AM_CFLAGS)
core_libcore_import_la_LIBADD = core/libcore-symbol.la

# Names of functions: the memopt command only.
noinst_LTLIBRARIES += core/libcore-symbol.la
core_libcore_symbol_la_SOURCES = core/symbol/symbol.c core/symbol/symbol.h
core_libcore_symbol_la_CFLAGS = $(AM_CFLAGS) $(LIBDW_CFLAGS)
core_libcore_symbol_la_LIBADD = $(LIBDW_LIBS)
