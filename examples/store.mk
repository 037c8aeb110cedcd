# Examples of core/store.
noinst_PROGRAMS += examples/safetensors
examples_safetensors_SOURCES = examples/safetensors.c
examples_safetensors_LDADD = libmemopt-train.la libmemopt.la
