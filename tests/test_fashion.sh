#!/bin/bash
# examples/fashion: the same losses, bit for bit, with every heap on every
# allocator; memory that the table at the end accounts for; wrong files told of;
# and, without sanitizers, 88 % of the test images recognized.
set -u
: "${top_srcdir:?}" "${top_builddir:?}"
fashion=$top_builddir/examples/fashion/fashion
memopt=$top_builddir/cli/memopt
data=/usr/share/datasets/fashion-mnist
[ -x "$fashion" ] || { echo "built without zlib"; exit 77; }
[ -d "$data" ] || { echo "no $data (apt-get install dataset-fashion-mnist)"; exit 77; }
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
fails=0
bad() { echo "FAIL: $*"; fails=$((fails + 1)); }
# jemalloc's static TLS doesn't fit what the loader keeps for dlopen
export GLIBC_TUNABLES=glibc.rtld.optional_static_tls=4096
heaps="dataset parameters gradients activations optimizer"

on() { # on ALLOCATOR: the example's INI with every heap there
    sed "s/^allocator *=.*/allocator = $1/" "$top_srcdir/examples/fashion/memopt.ini"
}

images=2000 steps=32
[ -z "${SANITIZE_CFLAGS// /}" ] || images=500 steps=8 # they are slow
allocators="libc pool mmap guard"
for backend in jemalloc tcmalloc mimalloc; do
    "$memopt" plugins $backend >/dev/null 2>&1 && allocators="$allocators $backend"
done
for allocator in $allocators; do
    on $allocator >"$dir/$allocator.ini"
    "$fashion" -c "$dir/$allocator.ini" --images $images --epochs 1 --exact >"$dir/$allocator" ||
        { bad "on $allocator it exits with $?"; continue; }
    grep '^step ' "$dir/$allocator" >"$dir/$allocator.steps"
    [ "$(wc -l <"$dir/$allocator.steps")" = $steps ] || bad "on $allocator not $steps steps"
    cmp "$dir/libc.steps" "$dir/$allocator.steps" || bad "other losses on $allocator than on libc"
    for heap in $heaps; do
        grep -q "^$heap  *$allocator  *[0-9]" "$dir/$allocator" || bad "on $allocator no row for '$heap'"
    done
done
cut -d' ' -f4 "$dir/libc.steps" | sort -u | wc -l | grep -qx $steps || bad "losses repeat"

# another seed, other losses: the comparison can fail
"$fashion" -c "$dir/libc.ini" --images $images --epochs 1 --exact --seed 2 | grep '^step ' |
    cmp -s - "$dir/libc.steps" && bad "the seed changes nothing"

# all heaps are in the report of memopt run (a sanitized program has none)
if [ -z "${SANITIZE_CFLAGS// /}" ]; then
    "$memopt" run --quiet --json "$dir/run.json" -- "$fashion" -c "$dir/pool.ini" --images 500 --epochs 1 \
        >/dev/null || bad "under memopt run it exits with $?"
    for heap in $heaps; do
        grep -q "\"$heap\"" "$dir/run.json" || bad "the report of memopt run has no heap '$heap'"
    done
fi

# a limit that is too small is a clean end
sed 's/^limit .*/limit = 64KiB/' "$dir/libc.ini" >"$dir/small.ini"
"$fashion" -c "$dir/small.ini" --images 100 >/dev/null 2>"$dir/err" && bad "it fits into 64 KiB"
grep -q "^fashion: activations: heap 'activations' has no memory for a buffer of 200704 bytes" "$dir/err" || bad "$(cat "$dir/err")"

# wrong data
mkdir "$dir/data"
"$fashion" -c "$dir/libc.ini" --data "$dir/data" >/dev/null 2>"$dir/err" && bad "it needs no data"
grep -q 'apt-get install dataset-fashion-mnist' "$dir/err" || bad "$(cat "$dir/err")"
printf '\0\0\10\3\0\0\0\2\0\0\0\34\0\0\0\34cut' >"$dir/data/train-images-idx3-ubyte"
"$fashion" -c "$dir/libc.ini" --data "$dir/data" >/dev/null 2>"$dir/err" && bad "a cut file is taken"
grep -q 'ends after 0 of 1568 bytes\|ends after 3 of 1568 bytes' "$dir/err" || bad "$(cat "$dir/err")"

if [ -z "${SANITIZE_CFLAGS// /}" ]; then
    "$fashion" -c "$top_srcdir/examples/fashion/memopt.ini" >"$dir/full" || bad "it exits with $?"
    cat "$dir/full"
    best=$(sed -n 's/^epoch 6 .*accuracy \([0-9.]*\) %$/\1/p' "$dir/full")
    awk -v a="${best:-0}" 'BEGIN { exit !(a >= 88) }' || bad "only ${best:-nothing} % are recognized"
fi
[ $fails = 0 ]
