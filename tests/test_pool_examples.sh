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
live: [12][0-9]{2} KiB of 2[0-9]{2}
free blocks: [0-9]+, fragmentation: 0\.[0-9]{2}
a second free: refused \(was returned before\)
END

example objects 1000 <<'END'
mean: 4\.50
batches: 1000, made: 8, used again: 99[2-9] times
at most 8 at once
END

example workspace 3000 <<'END'
loss: 1\.[0-9]+ -> 0\.0[0-9]+ in 3000 steps
planned: 1[2-5][0-9]{3} bytes; all tensors: 16896; alive at once: 1[2-5][0-9]{3}
END

# Not one allocation in a step: the stats tracker counts as many in N steps as in
# 2N. A program with a sanitizer keeps the sanitizer's malloc.
# counted NAME STEPS: what the tracker counted, all kinds of calls together
counted() {
    program=$top_builddir/examples/$1
    [ ! -x "$top_builddir/examples/.libs/$1" ] || program=$top_builddir/examples/.libs/$1
    LD_LIBRARY_PATH="$top_builddir/.libs" "$top_builddir/cli/memopt" run -q -t stats \
        --json "$dir/report.json" -- "$program" "$2" >"$dir/out" 2>"$dir/err" || bad "exit status $?"
    python3 - "$dir/report.json" <<'END' || bad "no counts in the report"
import json, sys
counts = json.load(open(sys.argv[1]))["processes"][0]["counts"]
print(sum(counts[kind] for kind in ("allocations", "reallocations", "zeroed", "aligned", "frees")))
END
}
case ${SANITIZE_CFLAGS:-} in
*=address* | *=thread*) ;;
*)
    for name in buffers workspace arena; do
        once=$(counted $name 50) twice=$(counted $name 100)
        [ "${once:-0}" -gt 0 ] && [ "$once" = "$twice" ] ||
            bad "50 steps make $once calls, 100 steps $twice"
        echo "$name: $once calls in 50 steps, $twice in 100"
    done
    ;;
esac

[ $failures -eq 0 ] || exit 1
echo "all passed"
