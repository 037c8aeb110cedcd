# Named heaps.
libmemopt_la_SOURCES += \
	core/heap/checked.c \
	core/heap/count.c \
	core/heap/heap.c core/heap/heap.h \
	core/heap/list.c \
	core/heap/open.c \
	core/heap/spill.c core/heap/spill.h \
	core/heap/steps.c
