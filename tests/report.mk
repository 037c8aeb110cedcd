# Tests of the ledger's reader, the report model, the tracker stats and the
# reporters text and json.
EXTRA_DIST += \
	tests/data/report-summary.txt tests/data/report-full.txt tests/data/report-color.txt \
	tests/data/report-children.txt tests/data/report-full.json \
	tests/data/report-unknown.json tests/data/report-compact.json

# tests/report_faults.h stands in for these.
fault_ldflags = -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup

if HAVE_CMOCKA
report_tests = tests/test_ledger_reader tests/test_tally tests/test_report_text \
	tests/test_report_json tests/test_output tests/test_model tests/test_show \
	tests/test_build tests/test_faults
check_PROGRAMS += $(report_tests)
TESTS += $(report_tests)

tests_test_ledger_reader_SOURCES = tests/test_ledger_reader.c tests/report_ledger.h
tests_test_ledger_reader_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_ledger_reader_LDADD = core/libcore-own.la $(CMOCKA_LIBS)

tests_test_tally_SOURCES = tests/test_tally.c core/account/count.c
tests_test_tally_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_tally_LDADD = core/libcore-own.la $(CMOCKA_LIBS)

tests_test_report_text_SOURCES = tests/test_report_text.c tests/report_sample.h plugins/report/text.c
tests_test_report_text_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_report_text_LDADD = core/libcore-own.la $(CMOCKA_LIBS)

tests_test_report_json_SOURCES = tests/test_report_json.c tests/report_sample.h \
	tests/report_faults.h plugins/report/json.c
tests_test_report_json_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) $(JANSSON_CFLAGS)
tests_test_report_json_LDFLAGS = $(AM_LDFLAGS) $(fault_ldflags)
tests_test_report_json_LDADD = core/libcore-own.la $(CMOCKA_LIBS) $(JANSSON_LIBS)

tests_test_build_SOURCES = tests/test_build.c tests/report_faults.h
tests_test_build_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_build_LDFLAGS = $(AM_LDFLAGS) $(fault_ldflags)
tests_test_build_LDADD = core/libcore-own.la $(CMOCKA_LIBS)

tests_test_faults_SOURCES = tests/test_faults.c tests/report_faults.h
tests_test_faults_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_faults_LDFLAGS = $(AM_LDFLAGS) $(fault_ldflags)
tests_test_faults_LDADD = core/libcore-import.la core/libcore-own.la $(CMOCKA_LIBS)

tests_test_show_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_show_LDADD = $(CMOCKA_LIBS)

tests_test_output_SOURCES = tests/test_output.c tests/report_faults.h
tests_test_output_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_output_LDFLAGS = $(AM_LDFLAGS) $(fault_ldflags)
tests_test_output_LDADD = core/libcore-own.la $(CMOCKA_LIBS)

# It loads plugins, as the memopt command does.
tests_test_model_SOURCES = tests/test_model.c $(account_sources) tests/report_faults.h \
	tests/report_ledger.h
tests_test_model_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_test_model_LDFLAGS = $(AM_LDFLAGS) $(fault_ldflags)
tests_test_model_LDADD = core/libcore-import.la core/libcore-own.la $(CMOCKA_LIBS)
endif
