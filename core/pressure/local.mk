# Giving memory back: purge hints, the pressure ladder.
memoptinclude_HEADERS += include/memopt/pressure.h
libmemopt_la_SOURCES += \
	core/pressure/hint.c core/pressure/pressure.h \
	core/pressure/monitor.c \
	core/pressure/sources.c core/pressure/sources.h
