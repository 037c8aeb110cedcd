# libFuzzer targets, built by --enable-fuzz with clang, run by tests/fuzz/run.sh.
# To add one: fuzz_NAME.c, three lines below, seeds in corpus/NAME.
fuzz_targets =
if ENABLE_FUZZ
fuzz_targets += tests/fuzz/fuzz_ini
noinst_PROGRAMS += tests/fuzz/fuzz_ini
tests_fuzz_fuzz_ini_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
tests_fuzz_fuzz_ini_LDADD = core/libcore-own.la

fuzz_targets += tests/fuzz/fuzz_option
noinst_PROGRAMS += tests/fuzz/fuzz_option
tests_fuzz_fuzz_option_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
tests_fuzz_fuzz_option_LDADD = core/libcore-own.la

fuzz_targets += tests/fuzz/fuzz_ledger
noinst_PROGRAMS += tests/fuzz/fuzz_ledger
tests_fuzz_fuzz_ledger_CFLAGS = $(AM_CFLAGS)
tests_fuzz_fuzz_ledger_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
tests_fuzz_fuzz_ledger_LDADD = core/libcore-own.la

fuzz_targets += tests/fuzz/fuzz_faults tests/fuzz/fuzz_lsan tests/fuzz/fuzz_elf
noinst_PROGRAMS += tests/fuzz/fuzz_faults tests/fuzz/fuzz_lsan tests/fuzz/fuzz_elf
tests_fuzz_fuzz_faults_SOURCES = tests/fuzz/fuzz_faults.c tests/fuzz/report_check.h
tests_fuzz_fuzz_faults_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
tests_fuzz_fuzz_faults_LDADD = core/libcore-import.la core/libcore-own.la
tests_fuzz_fuzz_lsan_SOURCES = tests/fuzz/fuzz_lsan.c tests/fuzz/report_check.h
tests_fuzz_fuzz_lsan_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
tests_fuzz_fuzz_lsan_LDADD = core/libcore-import.la core/libcore-own.la
tests_fuzz_fuzz_elf_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
tests_fuzz_fuzz_elf_LDADD = core/libcore-launch.la core/libcore-own.la

fuzz_targets += tests/fuzz/fuzz_safetensors
noinst_PROGRAMS += tests/fuzz/fuzz_safetensors
tests_fuzz_fuzz_safetensors_SOURCES = tests/fuzz/fuzz_safetensors.c $(store_sources)
tests_fuzz_fuzz_safetensors_CFLAGS = $(AM_CFLAGS)
tests_fuzz_fuzz_safetensors_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
tests_fuzz_fuzz_safetensors_LDADD = core/libcore-own.la

fuzz_targets += tests/fuzz/fuzz_proc
noinst_PROGRAMS += tests/fuzz/fuzz_proc
tests_fuzz_fuzz_proc_SOURCES = tests/fuzz/fuzz_proc.c core/base/proc.c
tests_fuzz_fuzz_proc_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer

fuzz_targets += tests/fuzz/fuzz_optim
noinst_PROGRAMS += tests/fuzz/fuzz_optim
tests_fuzz_fuzz_optim_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
tests_fuzz_fuzz_optim_LDADD = libmemopt-train.la libmemopt.la
endif

print-fuzz-targets:
	@echo $(fuzz_targets)
fuzz-targets: $(fuzz_targets)
PHONY_TARGETS += print-fuzz-targets fuzz-targets
EXTRA_DIST += tests/fuzz/run.sh tests/fuzz/corpus tests/fuzz/ini.dict \
	tests/fuzz/fuzz_elf.c tests/fuzz/fuzz_ini.c tests/fuzz/fuzz_proc.c tests/fuzz/fuzz_ledger.c \
	tests/fuzz/fuzz_faults.c tests/fuzz/report_check.h tests/fuzz/fuzz_lsan.c tests/fuzz/fuzz_optim.c tests/fuzz/fuzz_option.c \
	tests/fuzz/fuzz_safetensors.c tests/fuzz/safetensors.dict
