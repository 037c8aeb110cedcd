# Objects: reference counts, copy-on-write, lazy state, scopes.
memoptinclude_HEADERS += include/memopt/cow.h include/memopt/lazy.h include/memopt/ref.h include/memopt/scope.h
libmemopt_la_SOURCES += core/object/object.h \
	core/object/cow.c \
	core/object/cycles.c \
	core/object/fork.c \
	core/object/lazy.c \
	core/object/pages.c core/object/pages.h \
	core/object/ref.c \
	core/object/scope.c
