#!/bin/sh
# The conformance suite once more through the shim: `memopt run -a X` over every
# allocator that can be a program's malloc, dispatched so that each call is ours.
set -u
top_builddir=${top_builddir:-.}
memopt=$top_builddir/cli/memopt
suite=$top_builddir/cli/conformance
output=$(mktemp) || exit 99
trap 'rm -f "$output"' EXIT
failed=0
for file in "$top_builddir"/plugins/.libs/alloc-*.so; do
    name=${file##*/alloc-}
    name=${name%.so}
    set -- --scale 4
    case $name in
    arena) set -- --scale 4 --limit 1GiB ;;
    guard) set -- --scale 40 ;;
    esac
    "$memopt" run --quiet -a "$name" -t '' -r '' --set memopt.binding=dispatch \
        --set allocator.arena.size=1GiB -- "$suite" "$@" --from libmemopt-preload --malloc \
        >"$output" 2>&1
    status=$?
    # without the backend the program goes on over the C library's malloc
    if [ $status -ne 0 ] || grep -q "C library's malloc" "$output"; then
        echo "FAILED: $name through the shim (status $status)"
        cat "$output"
        failed=1
    else
        echo "ok: $name, $(grep -c ^ok "$output") cases"
    fi
done
exit $failed
