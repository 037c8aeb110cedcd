# man
dist_man_MANS += man/memopt-report.5
