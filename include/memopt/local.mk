memoptincludedir = $(includedir)/memopt
memoptinclude_HEADERS = \
	include/memopt/error.h \
	include/memopt/plugin.h \
	include/memopt/report.h \
	include/memopt/show.h \
	include/memopt/utf8.h \
	include/memopt/heap.h \
	include/memopt/memopt.h
