# man
dist_man_MANS += man/memopt-report.5
dist_man_MANS += man/memopt.1 man/memopt-compare.1 man/memopt-help.1 man/memopt-run.1
