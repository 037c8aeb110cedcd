#!/bin/bash
# test_object_examples.sh - the examples of reference counts, copy-on-write, lazy
# state and scopes say what they should.
set -u
: "${top_builddir:?}"
fails=0
bad() { echo "FAIL: $*"; fails=$((fails + 1)); }
export MEMOPT_CONF=/dev/null
hex='0x[0-9a-f]+'

# prints NAME LINE...: every line of the output, as extended regular expressions
prints() {
    local name=$1 out line n=0
    shift
    out=$("$top_builddir/examples/$name" 2>&1) || bad "$name exits with $?"
    while IFS= read -r line; do
        n=$((n + 1))
        [ $# -gt 0 ] || { bad "$name says more: $line"; break; }
        [[ $line =~ ^$1$ ]] || bad "$name, line $n: '$line', not '$1'"
        shift
    done <<<"$out"
    [ $# = 0 ] || bad "$name doesn't say: $1"
}

prints references \
    "the parent of leaf is root" \
    "layer root ends" \
    "the parent of leaf is gone" \
    "layer leaf ends" \
    "leaked: 2 objects, [0-9]+ bytes: layer $hex -> layer $hex -> layer $hex" \
    "1 cycle leaked"
prints lazy \
    "the table is built" \
    "crc32 = cbf43926" \
    "can't open the vocabulary: No such file or directory" \
    "the word is tensor"
prints scope \
    "failing at step 2:" "  undone: step 1" "  Cannot allocate memory, the file is there" \
    "failing at step 3:" "  the file is removed" "  undone: step 1" \
    "  Input/output error, the file is not there" \
    "failing at step 4:" "  undone: step 1" "  success, the file is there" \
    "hello, scope" \
    "0 blocks are left"
prints cow \
    "weights: sum 524288, 0 KiB shared, 2048 KiB of its own" \
    "first: sum 524288, 2048 KiB shared, 0 KiB of its own" \
    "second: sum 589824, 1792 KiB shared, 256 KiB of its own" \
    "weights: sum 655360, 1536 KiB shared, 512 KiB of its own" \
    "three of 2048 KiB in 28[0-9]{2} KiB"
[ $fails = 0 ]
