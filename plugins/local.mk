# Each plugin is one module, plugins/.libs/KIND-NAME.so in the build tree.
include plugins/alloc/local.mk
include plugins/track/local.mk
include plugins/report/local.mk
