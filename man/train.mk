# Manual pages of core/train, and of schedules.
dist_man_MANS += man/memopt_accumulate.3 man/memopt_batch_new.3 man/memopt_checkpoint_plan.3 \
	man/memopt_schedule_rate.3
links_batch = man/memopt_batch_next.3 man/memopt_batch_done.3 man/memopt_batch_failed.3 \
	man/memopt_batch_restart.3 man/memopt_batch_stats.3 man/memopt_batch_free.3
links_checkpoint = man/memopt_checkpoint_least.3 man/memopt_checkpoint_measure.3 \
	man/memopt_checkpoint_run.3
nodist_man_MANS += $(links_batch) $(links_checkpoint)
CLEANFILES += $(links_batch) $(links_checkpoint)
$(links_batch): ; $(LINK_PAGE)memopt_batch_new.3' > $@
$(links_checkpoint): ; $(LINK_PAGE)memopt_checkpoint_plan.3' > $@
