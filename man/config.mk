dist_man_MANS += man/memopt.ini.5 man/memopt-config.1 man/memopt-plugins.1
EXTRA_DIST += man/reference.sh

# Renews the generated parts of memopt.ini(5) in the source tree.
man-reference: all
	$(srcdir)/man/reference.sh cli/memopt $(srcdir)/man/memopt.ini.5 >memopt.ini.5.new
	cmp -s memopt.ini.5.new $(srcdir)/man/memopt.ini.5 || cp memopt.ini.5.new $(srcdir)/man/memopt.ini.5
	rm memopt.ini.5.new
PHONY_TARGETS += man-reference
