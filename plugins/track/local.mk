# Tracker plugins: alloc and free run inside foreign programs, report() in memopt.

pkglib_LTLIBRARIES += plugins/track-stats.la
plugins_track_stats_la_SOURCES = plugins/track/stats.c
plugins_track_stats_la_CFLAGS = $(PROGRAM_CFLAGS)
plugins_track_stats_la_LDFLAGS = $(PLUGIN_LDFLAGS)

if SANITIZED
check_LTLIBRARIES += plugins-san/track-stats.la
plugins_san_track_stats_la_SOURCES = plugins/track/stats.c
plugins_san_track_stats_la_CFLAGS = $(SAN_PROGRAM_CFLAGS)
plugins_san_track_stats_la_LDFLAGS = $(SAN_PLUGIN_LDFLAGS)
endif
