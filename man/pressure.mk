# Manual pages of the same part of libmemopt: see core/.
dist_man_MANS += man/memopt_purge_hint_new.3
links_purge_hint = man/memopt_purge_hint_free.3 man/memopt_purge_hint_step.3 \
	man/memopt_purge_hint_idle.3 man/memopt_purge_hint_now.3 man/memopt_purge_hint_stats.3
nodist_man_MANS += $(links_purge_hint)
CLEANFILES += $(links_purge_hint)
$(links_purge_hint): ; $(LINK_PAGE)memopt_purge_hint_new.3' > $@
