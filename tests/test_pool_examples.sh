#!/bin/bash
# The examples of pools and arenas: what they print.
set -u
: "${top_srcdir:?}" "${top_builddir:?}"
export MEMOPT_CONF=/dev/null
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
failures=0
bad() {
    echo "FAIL: $name: $*"
    sed 's/^/  /' "$dir/out" "$dir/err"
    failures=$((failures + 1))
}
# example NAME ARGUMENT...: runs it; the patterns on stdin must each match a line.
example() {
    name=$1
    shift
    "$top_builddir/examples/$name" "$@" >"$dir/out" 2>"$dir/err" || bad "exit status $?"
    [ ! -s "$dir/err" ] || bad "it says something on stderr"
    while IFS= read -r pattern; do
        grep -Eqx -- "$pattern" "$dir/out" || bad "no '$pattern'"
    done
}

example buffers 20 <<'END'
weight: 0\.999999
rented: 60 times, 3 of them from fresh memory
high-water mark: 9[0-9]{2}\.[0-9] KiB, held [0-9.]+ KiB
allocations after the first step: 0
trimmed: [1-9][0-9.]+ KiB
END

example arena 10 <<'END'
middle: 1\.3680
blocks: 40, resets: 40
most used: 1[0-9]{2} KiB of 512
END

example freelist <<'END'
messages: 20000, dropped: 1[0-9]{4}, kept: [1-9][0-9]{2}
live: 2[0-9]{2} KiB of 2[0-9]{2}
free blocks: [0-9]+, fragmentation: 0\.[0-9]{2}
a second free: refused \(was returned before\)
END

[ $failures -eq 0 ] || exit 1
echo "all passed"
