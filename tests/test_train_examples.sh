#!/bin/bash
# examples/batch and examples/checkpoints on allocators with different block
# sizes: pieces shrink and grow, the budget holds, and the results are the same.
set -u
: "${top_builddir:?}"
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
fails=0
bad() { echo "FAIL: $*"; fails=1; }

for allocator in libc pool arena mmap; do
    printf '[memopt]\nallocator = %s\n' $allocator >"$dir/memopt.ini"
    export MEMOPT_CONF=$dir/memopt.ini

    "$top_builddir/examples/batch" >"$dir/out" || bad "$allocator: batch exits with $?"
    grep -q '^step 0: .* up to [0-9]* samples at a time, [1-9][0-9]* failures' "$dir/out" ||
        bad "$allocator: no piece failed in the first step"
    tail -1 "$dir/out" | grep -q '^step 59: .* up to 256 samples at a time' ||
        bad "$allocator: the pieces did not grow to the whole batch: $(tail -1 "$dir/out")"

    "$top_builddir/examples/checkpoints" >"$dir/out" || bad "$allocator: checkpoints exits with $?"
    grep -c ' kept, ' "$dir/out" | grep -qx 5 || bad "$allocator: $(cat "$dir/out")"
    while read -r planned held; do
        [ "$held" -le "$planned" ] || bad "$allocator: $held KiB of $planned"
    done < <(sed -n 's/.*planned \([0-9]*\) KiB, held \([0-9]*\) KiB.*/\1 \2/p' "$dir/out")
    sed -n 's/.*result //p' "$dir/out" >>"$dir/results"
    grep -q '^no plan for 32 layers .* the least budget is ' "$dir/out" ||
        bad "$allocator: a budget below the least has a plan"
done
[ "$(sort -u "$dir/results" | wc -l)" = 1 ] || bad "results differ: $(sort -u "$dir/results")"
[ $fails = 0 ] && echo "all passed"
exit $fails
