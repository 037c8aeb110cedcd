# Reporter plugins run in the memopt command only, with its sanitizers.
report_ldflags = -module -avoid-version -shared -Wl,-z,now $(AM_LDFLAGS)

pkglib_LTLIBRARIES += plugins/report-text.la
plugins_report_text_la_SOURCES = plugins/report/text.c
plugins_report_text_la_CFLAGS = $(AM_CFLAGS)
plugins_report_text_la_LDFLAGS = $(report_ldflags)

pkglib_LTLIBRARIES += plugins/report-json.la
plugins_report_json_la_SOURCES = plugins/report/json.c
plugins_report_json_la_CFLAGS = $(AM_CFLAGS) $(JANSSON_CFLAGS)
plugins_report_json_la_LDFLAGS = $(report_ldflags)
plugins_report_json_la_LIBADD = $(JANSSON_LIBS)
