# Manual pages of pools and arenas (core/pool).
dist_man_MANS += man/memopt_arena_open.3 man/memopt_buffers_create.3 \
	man/memopt_freelist_open.3 man/memopt_objects_create.3 man/memopt_workspace_create.3
links_arena = man/memopt_arena_close.3 man/memopt_arena_alloc.3 man/memopt_arena_calloc.3 \
	man/memopt_arena_mark.3 man/memopt_arena_reset.3 man/memopt_arena_stats.3
links_buffers = man/memopt_buffers_destroy.3 man/memopt_buffers_rent.3 man/memopt_buffers_return.3 \
	man/memopt_buffers_trim.3 man/memopt_buffers_stats.3 man/memopt_buffers_reset_peak.3 \
	man/memopt_buffer_scope_rent.3 man/memopt_buffer_scope_keep.3 man/memopt_buffer_scope_end.3 \
	man/memopt_buffer_scope_cleanup.3
links_freelist = man/memopt_freelist_close.3 man/memopt_freelist_alloc.3 \
	man/memopt_freelist_free.3 man/memopt_freelist_size.3 man/memopt_freelist_stats.3
links_objects = man/memopt_objects_destroy.3 man/memopt_objects_acquire.3 \
	man/memopt_objects_release.3 man/memopt_objects_trim.3 man/memopt_objects_stats.3
links_workspace = man/memopt_workspace_destroy.3 man/memopt_workspace_begin.3 \
	man/memopt_workspace_op.3 man/memopt_workspace_end.3 man/memopt_workspace_get.3 \
	man/memopt_workspace_find.3 man/memopt_workspace_place.3 man/memopt_workspace_stats.3
pool_links = $(links_arena) $(links_buffers) $(links_freelist) $(links_objects) $(links_workspace)
nodist_man_MANS += $(pool_links)
CLEANFILES += $(pool_links)
$(links_arena): ; $(LINK_PAGE)memopt_arena_open.3' > $@
$(links_buffers): ; $(LINK_PAGE)memopt_buffers_create.3' > $@
$(links_freelist): ; $(LINK_PAGE)memopt_freelist_open.3' > $@
$(links_objects): ; $(LINK_PAGE)memopt_objects_create.3' > $@
$(links_workspace): ; $(LINK_PAGE)memopt_workspace_create.3' > $@
