# Manual pages of the same part of libmemopt: see core/.
dist_man_MANS += man/memopt_lazy_get.3 man/memopt_ref_new.3 man/memopt_ref_find_cycles.3
links_ref = man/memopt_ref_get.3 man/memopt_ref_put.3 man/memopt_ref_counts.3 \
	man/memopt_weak_new.3 man/memopt_weak_get.3 man/memopt_weak_lock.3 man/memopt_weak_put.3
links_cycles = man/memopt_ref_track.3
links_lazy = man/memopt_lazy_peek.3 man/memopt_lazy_reset.3 man/memopt_lazy_destroy.3
object_links = $(links_lazy) $(links_ref) $(links_cycles)
nodist_man_MANS += man/memopt_lazy_get.3 $(object_links)
CLEANFILES += $(object_links)
$(links_ref): ; $(LINK_PAGE)memopt_ref_new.3' > $@
$(links_cycles): ; $(LINK_PAGE)memopt_ref_find_cycles.3' > $@
$(links_lazy): ; $(LINK_PAGE)memopt_lazy_get.3' > $@
