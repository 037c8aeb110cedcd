# The default configuration and profiles. An installed memopt.ini belongs to
# whoever changed it: installing leaves one that is there, uninstalling removes
# only one that is still as shipped.
profiles = conf/profiles/ci.ini conf/profiles/debug.ini conf/profiles/low-rss.ini \
	conf/profiles/throughput.ini conf/profiles/training.ini
profilesdir = $(pkgdatadir)/profiles
dist_profiles_DATA = $(profiles)
EXTRA_DIST += conf/memopt.ini

install-data-local:
	$(MKDIR_P) '$(DESTDIR)$(sysconfdir)/memopt'
	test -e '$(DESTDIR)$(sysconfdir)/memopt/memopt.ini' || \
		$(INSTALL_DATA) '$(srcdir)/conf/memopt.ini' '$(DESTDIR)$(sysconfdir)/memopt/memopt.ini'
uninstall-local:
	if cmp -s '$(srcdir)/conf/memopt.ini' '$(DESTDIR)$(sysconfdir)/memopt/memopt.ini'; then \
		rm -f '$(DESTDIR)$(sysconfdir)/memopt/memopt.ini'; fi
