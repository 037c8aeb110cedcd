# man
dist_man_MANS += man/memopt-report.5 man/memopt-stats.7
dist_man_MANS += man/memopt.1 man/memopt-compare.1 man/memopt-help.1 man/memopt-run.1

# libmemopt: a page for each group of functions, and a link to it by each other
# name that it has.
dist_man_MANS += man/libmemopt.3 man/memopt_heap_alloc.3 man/memopt_heap_open.3 \
	man/memopt_heap_set_limit.3 man/memopt_heap_stats.3 man/memopt_init.3
links_alloc = man/memopt_heap_calloc.3 man/memopt_heap_realloc.3 man/memopt_heap_aligned_alloc.3 \
	man/memopt_heap_free.3 man/memopt_heap_usable_size.3
links_open = man/memopt_heap_find.3 man/memopt_heap_default.3 man/memopt_heap_destroy.3 \
	man/memopt_heap_name.3
links_set_limit = man/memopt_heap_set_limit_callback.3 man/memopt_heap_add_purger.3 \
	man/memopt_heap_remove_purger.3 man/memopt_heap_purge.3
links_stats = man/memopt_heap_each.3
links_init = man/memopt_config_blame.3 man/memopt_config_get.3 man/memopt_report.3 \
	man/memopt_version.3
libmemopt_links = $(links_alloc) $(links_open) $(links_set_limit) $(links_stats) $(links_init)
nodist_man_MANS = $(libmemopt_links)
CLEANFILES += $(libmemopt_links)
LINK_PAGE = $(AM_V_GEN)$(MKDIR_P) man && echo '.so man3/
$(links_alloc): ; $(LINK_PAGE)memopt_heap_alloc.3' > $@
$(links_open): ; $(LINK_PAGE)memopt_heap_open.3' > $@
$(links_set_limit): ; $(LINK_PAGE)memopt_heap_set_limit.3' > $@
$(links_stats): ; $(LINK_PAGE)memopt_heap_stats.3' > $@
$(links_init): ; $(LINK_PAGE)memopt_init.3' > $@

dist_man_MANS += man/memopt-plugin.7
dist_man_MANS += man/memopt-env.1 man/memopt-containers.7
include man/config.mk
include man/pools.mk
include man/pressure.mk
include man/object.mk
include man/train.mk
include man/store.mk
include man/optim.mk
