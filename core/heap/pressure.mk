# Giving memory back: purge hints, the pressure ladder, spilling a heap.
memoptinclude_HEADERS += include/memopt/pressure.h
libmemopt_la_SOURCES += \
	core/heap/kernel.c core/heap/kernel.h \
	core/heap/ladder.c \
	core/heap/pressure.c core/heap/pressure.h \
	core/heap/purge.c \
	core/heap/sources.c core/heap/sources.h \
	core/heap/spill.c core/heap/spill.h
