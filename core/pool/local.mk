# Pools over named heaps: buffers, objects, the step context, arenas.
libmemopt_la_SOURCES += \
	core/pool/arena.c \
	core/pool/buffers.c core/pool/buffers.h \
	core/pool/chunk.c \
	core/pool/debug.c core/pool/debug.h \
	core/pool/freelist.c \
	core/pool/member.c core/pool/member.h \
	core/pool/objects.c \
	core/pool/plan.c core/pool/plan.h \
	core/pool/scope.c \
	core/pool/workspace.c
memoptinclude_HEADERS += \
	include/memopt/arena.h include/memopt/buffers.h include/memopt/freelist.h \
	include/memopt/misuse.h include/memopt/objects.h include/memopt/workspace.h
