#!/bin/bash
# usage: tests/fuzz/run.sh [BUILDDIR [SECONDS_PER_TARGET]]
#
# Runs every libFuzzer target of a build for a while, over its seeds
# (tests/fuzz/corpus/NAME for fuzz_NAME). BUILDDIR (build-fuzz) is configured
# first if it is not; it must be one with --enable-fuzz. What a run finds is
# kept in BUILDDIR/tests/fuzz/NAME: `fuzz_NAME FILE` shows it again, and as a
# file in the corpus it stays found.
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
build=${1:-$top/build-fuzz}
seconds=${2:-10}

if [ ! -f "$build/Makefile" ]; then
    [ -x "$top/configure" ] || "$top/autogen.sh"
    mkdir -p "$build"
    (cd "$build" && "$top/configure" -q CC=clang CXX=clang++ --enable-fuzz --enable-asan --enable-ubsan)
fi
make -s -C "$build" all
targets=$(make -s --no-print-directory -C "$build" print-fuzz-targets)
[ -n "$targets" ] || { echo "$build was not configured with --enable-fuzz" >&2; exit 1; }
make -s -C "$build" fuzz-targets
export MEMOPT_PLUGIN_PATH=$build/plugins-san/.libs

failed=0
cd "$build"
for target in $targets; do
    name=${target##*/fuzz_}
    found=$build/tests/fuzz/$name
    mkdir -p "$found/corpus"
    echo "== fuzz_$name, $seconds s"
    dictionary=
    [ ! -f "$top/tests/fuzz/$name.dict" ] || dictionary=-dict=$top/tests/fuzz/$name.dict
    # shellcheck disable=SC2086
    "$build/$target" $dictionary -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
        -print_final_stats=1 -artifact_prefix="$found/" ${FUZZ_FLAGS:-} \
        "$found/corpus" "$top/tests/fuzz/corpus/$name" >"$found/log" 2>&1 || {
        tail -40 "$found/log"
        echo "FAIL: fuzz_$name, see $found"
        failed=1
    }
    grep -E '^stat::number_of_executed_units' "$found/log" || true
done
exit $failed
