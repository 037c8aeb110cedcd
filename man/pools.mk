# Manual pages of pools and arenas (core/pool).
dist_man_MANS += man/memopt_buffers_create.3
links_buffers = man/memopt_buffers_destroy.3 man/memopt_buffers_rent.3 man/memopt_buffers_return.3 \
	man/memopt_buffers_trim.3 man/memopt_buffers_stats.3 man/memopt_buffers_reset_peak.3 \
	man/memopt_buffer_scope_rent.3 man/memopt_buffer_scope_keep.3 man/memopt_buffer_scope_end.3 \
	man/memopt_buffer_scope_cleanup.3
pool_links = $(links_buffers)
nodist_man_MANS += $(pool_links)
CLEANFILES += $(pool_links)
$(links_buffers): ; $(LINK_PAGE)memopt_buffers_create.3' > $@
