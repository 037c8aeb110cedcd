# bench: `make bench` measures what memopt costs and writes bench/results.json
bench_programs = bench/once bench/pair bench/spawn bench/rent bench/xthread bench/bignum \
	bench/symbolic bench/trees bench/optim
EXTRA_PROGRAMS = $(bench_programs)
# Where MEMOPT_COW_THRESHOLD comes from; not part of `make bench`.
EXTRA_PROGRAMS += bench/cow
bench_cow_SOURCES = bench/cow.c
bench_cow_LDADD = libmemopt.la
bench_once_SOURCES = bench/once.c
bench_pair_SOURCES = bench/pair.c
bench_pair_CFLAGS = $(AM_CFLAGS) -fno-builtin
bench_spawn_SOURCES = bench/spawn.c
# vectorized: its loops are what optimizers are measured by
bench_optim_CFLAGS = $(AM_CFLAGS) $(VECTOR_CFLAGS)
bench_optim_LDADD = libmemopt-train.la libmemopt.la
bench_rent_SOURCES = bench/rent.c
bench_rent_CFLAGS = $(AM_CFLAGS) -fno-builtin
bench_rent_LDADD = libmemopt.la
bench_xthread_SOURCES = bench/programs/xthread.c
bench_bignum_SOURCES = bench/programs/bignum.c
bench_symbolic_SOURCES = bench/programs/symbolic.c
bench_trees_SOURCES = bench/programs/trees.c
EXTRA_DIST += bench/run bench/results.json bench/optim.py bench/optim_torch.py \
	bench/programs/document.py bench/programs/objects.php bench/programs/rho.bc \
	bench/programs/sheet.xsl bench/programs/strings.cmake bench/programs/trees.js \
	bench/programs/trees.lua bench/programs/words.awk bench/programs/words.pl
CLEANFILES += $(bench_programs) bench/cow

# not `-s`: the table is the point
bench: all $(bench_programs)
	$(PYTHON3) $(top_srcdir)/bench/run --build $(abs_top_builddir)
PHONY_TARGETS += bench
