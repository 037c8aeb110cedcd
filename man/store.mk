# Manual pages of core/store.
dist_man_MANS += man/memopt_dtype_size.3 man/memopt_tensors_open.3 man/memopt_tensors_writer_open.3
links_dtype = man/memopt_dtype_name.3 man/memopt_dtype_find.3
links_tensors = man/memopt_tensors_close.3 man/memopt_tensors_count.3 man/memopt_tensors_get.3 \
	man/memopt_tensors_find.3 man/memopt_tensors_metadata.3 \
	man/memopt_tensors_metadata_count.3 man/memopt_tensors_metadata_get.3 \
	man/memopt_tensors_read.3 man/memopt_tensors_view.3
links_tensors_writer = man/memopt_tensors_writer_add.3 man/memopt_tensors_writer_metadata.3 \
	man/memopt_tensors_writer_write.3 man/memopt_tensors_writer_commit.3 \
	man/memopt_tensors_writer_close.3
store_links = $(links_dtype) $(links_tensors) $(links_tensors_writer)
nodist_man_MANS += $(store_links)
CLEANFILES += $(store_links)
$(links_dtype): ; $(LINK_PAGE)memopt_dtype_size.3' > $@
$(links_tensors): ; $(LINK_PAGE)memopt_tensors_open.3' > $@
$(links_tensors_writer): ; $(LINK_PAGE)memopt_tensors_writer_open.3' > $@
