# Manual pages of optimizers (core/optim).
dist_man_MANS += man/memopt_optimizer_add.3 man/memopt_optimizer_create.3 \
	man/memopt_optimizer_perturb.3 man/memopt_optimizer_save.3 \
	man/memopt_optimizer_step.3
links_optimizer_add = man/memopt_optimizer_set_data.3 man/memopt_optimizer_set_grad.3 \
	man/memopt_optimizer_data_changed.3
links_optimizer_create = man/memopt_optimizer_destroy.3 man/memopt_optimizer_name.3 \
	man/memopt_optimizer_add_group.3 man/memopt_optimizer_set.3 \
	man/memopt_optimizer_set_number.3 man/memopt_optimizer_get_number.3
links_optimizer_step = man/memopt_optimizer_state_bytes.3
links_optimizer_save = man/memopt_optimizer_load.3
optimizer_links = $(links_optimizer_save) $(links_optimizer_add) $(links_optimizer_create) $(links_optimizer_step)
nodist_man_MANS += $(optimizer_links)
CLEANFILES += $(optimizer_links)
$(links_optimizer_add): ; $(LINK_PAGE)memopt_optimizer_add.3' > $@
$(links_optimizer_create): ; $(LINK_PAGE)memopt_optimizer_create.3' > $@
$(links_optimizer_step): ; $(LINK_PAGE)memopt_optimizer_step.3' > $@
$(links_optimizer_save): ; $(LINK_PAGE)memopt_optimizer_save.3' > $@
links_optimizer_perturb = man/memopt_optimizer_restore.3
nodist_man_MANS += $(links_optimizer_perturb)
CLEANFILES += $(links_optimizer_perturb)
$(links_optimizer_perturb): ; $(LINK_PAGE)memopt_optimizer_perturb.3' > $@
dist_man_MANS += man/memopt_optimizer_minimize.3 man/memopt_optimizer_set_sparse_grad.3
