# Manual pages of purge hints, the pressure ladder, spilling (core/heap).
dist_man_MANS += man/memopt_purge_hint_new.3
links_purge_hint = man/memopt_purge_hint_free.3 man/memopt_purge_hint_step.3 \
	man/memopt_purge_hint_idle.3 man/memopt_purge_hint_now.3 man/memopt_purge_hint_stats.3
nodist_man_MANS += $(links_purge_hint)
CLEANFILES += $(links_purge_hint)
$(links_purge_hint): ; $(LINK_PAGE)memopt_purge_hint_new.3' > $@
dist_man_MANS += man/memopt_pressure_start.3 man/memopt_heap_spill.3
links_pressure = man/memopt_pressure_poll.3 man/memopt_pressure_stop.3 \
	man/memopt_pressure_stats.3 man/memopt_pressure_set_callback.3 \
	man/memopt_pressure_add_consumer.3 man/memopt_pressure_remove_consumer.3
links_spill = man/memopt_heap_unspill.3
nodist_man_MANS += $(links_pressure) $(links_spill)
CLEANFILES += $(links_pressure) $(links_spill)
$(links_pressure): ; $(LINK_PAGE)memopt_pressure_start.3' > $@
$(links_spill): ; $(LINK_PAGE)memopt_heap_spill.3' > $@
