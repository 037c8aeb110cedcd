# libmemopt's life: configuration, notes, fork handlers, open allocators. What libmemopt
# exports is in the map.
libmemopt_la_SOURCES += \
	core/runtime/backend.c core/runtime/backend.h \
	core/runtime/fork.c core/runtime/fork.h \
	core/runtime/notes.c core/runtime/notes.h \
	core/runtime/runtime.c core/runtime/runtime.h
EXTRA_DIST += core/runtime/libmemopt.map
