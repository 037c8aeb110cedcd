# Manual pages of reference counts, copy-on-write, lazy state, scopes (core/object).
dist_man_MANS += man/memopt_cow_create.3 man/memopt_owned_make.3 man/memopt_scope_push.3 \
	man/memopt_lazy_get.3 man/memopt_ref_new.3 man/memopt_ref_find_cycles.3
links_ref = man/memopt_ref_get.3 man/memopt_ref_put.3 man/memopt_ref_counts.3 \
	man/memopt_weak_new.3 man/memopt_weak_get.3 man/memopt_weak_lock.3 man/memopt_weak_put.3
links_cycles = man/memopt_ref_track.3
links_lazy = man/memopt_lazy_peek.3 man/memopt_lazy_reset.3 man/memopt_lazy_destroy.3
links_owned = man/memopt_owned_block.3 man/memopt_owned_move.3 man/memopt_owned_release.3 \
	man/memopt_owned_reset.3
links_scope = man/memopt_auto.3 man/memopt_scope_push_on_error.3 man/memopt_scope_own.3 \
	man/memopt_scope_alloc.3 man/memopt_scope_reserve.3 man/memopt_scope_dismiss.3 \
	man/memopt_scope_run.3 man/memopt_scope_move.3 man/memopt_scope_move_all.3 \
	man/memopt_scope_commit.3 man/memopt_scope_end.3
links_cow = man/memopt_cow_clone.3 man/memopt_cow_size.3 man/memopt_cow_read.3 \
	man/memopt_cow_write.3 man/memopt_cow_destroy.3 man/memopt_cow_stats.3
object_links = $(links_cow) $(links_owned) $(links_scope) $(links_lazy) $(links_ref) $(links_cycles)
nodist_man_MANS += man/memopt_lazy_get.3 $(object_links)
CLEANFILES += $(object_links)
$(links_ref): ; $(LINK_PAGE)memopt_ref_new.3' > $@
$(links_cycles): ; $(LINK_PAGE)memopt_ref_find_cycles.3' > $@
$(links_lazy): ; $(LINK_PAGE)memopt_lazy_get.3' > $@
$(links_owned): ; $(LINK_PAGE)memopt_owned_make.3' > $@
$(links_scope): ; $(LINK_PAGE)memopt_scope_push.3' > $@
$(links_cow): ; $(LINK_PAGE)memopt_cow_create.3' > $@
