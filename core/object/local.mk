# Objects: reference counts, copy-on-write, lazy state, scopes.
memoptinclude_HEADERS += include/memopt/lazy.h include/memopt/ref.h include/memopt/scope.h
libmemopt_la_SOURCES += core/object/object.h \
	core/object/cycles.c \
	core/object/fork.c \
	core/object/lazy.c \
	core/object/ref.c \
	core/object/scope.c
