#!/bin/bash
# The examples of giving memory back: what they print, and what `memopt run` has
# of them in its JSON report.
set -u
: "${top_srcdir:?}" "${top_builddir:?}"
case ${SANITIZE_CFLAGS:-} in
*=address* | *=thread*)
    echo "a program with a sanitizer keeps the sanitizer's malloc"
    exit 77
    ;;
esac
LD_LIBRARY_PATH="$top_builddir/.libs${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export LD_LIBRARY_PATH
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
export MEMOPT_CONF=$dir/memopt.ini XDG_CONFIG_HOME=$dir
: > "$MEMOPT_CONF"
failures=0
bad() {
    echo "FAIL: $name: $*"
    sed 's/^/  out: /' "$dir/out"
    sed 's/^/  err: /' "$dir/err"
    failures=$((failures + 1))
}
has() { # FILE PATTERN
    grep -Eq -- "$2" "$dir/$1" || bad "no '$2' in $1"
}

# example NAME [--set ...]: alone, then under memopt run with a JSON report whose
# events are left in $dir/events, "KIND: TEXT" a line.
example() {
    name=$1
    shift
    program="$top_builddir/examples/$name"
    [ -x "$top_builddir/examples/.libs/$name" ] && program="$top_builddir/examples/.libs/$name"
    rm -f "$dir"/out "$dir"/err "$dir"/report.json
    "$top_builddir/cli/memopt" run -r json --set "reporter.json.output=$dir/report.json" "$@" \
        "$program" >"$dir/out" 2>"$dir/err" || bad "exit status $?"
    python3 - "$dir/report.json" >"$dir/events" <<'END' || bad "no report"
import json, sys
for process in json.load(open(sys.argv[1]))["processes"]:
    for event in process["events"]:
        print(event["kind"] + ": " + event["text"])
END
}

example purge_hint
has out '^step 5: [0-9]+ heaps gave 3[2-9]\.[0-9] MiB back, resident memory'
has out '^4 purges in 20 steps gave 1[23][0-9]\.[0-9] MiB back$'
has events '^purge: purge hint: 4 purges in 20 steps; .* came back, resident memory fell by'

# the example spills, which a directory in memory is not for
spill_dir=$(mktemp -d -p "${MEMOPT_TEST_DISK:-/var/tmp}") || exit 99
trap 'rm -rf "$dir" "$spill_dir"' EXIT
case $(stat -f -c %T "$spill_dir") in
tmpfs | ramfs) echo "no disk at $spill_dir: the example of spilling is left out" ;;
*)
    example pressure --set "pressure.spill_dir=$spill_dir"
    has out '^  purge for 2097152 bytes: live [0-9]+ -> [0-9]+, not served$'
    has out '^  spill for 2097152 bytes: live [0-9]+ -> [0-9]+, served$'
    has out '^step 2, batch 4$'
    has out '^at most [67]\.[0-9] MiB in memory, 3 blocks were spilled$'
    # the report has the steps, in their order
    kinds=$(sed 's/:.*//' "$dir/events" | head -3 | tr '\n' ' ')
    [ "$kinds" = "purge shrink spill " ] || bad "the events begin with '$kinds'"
    has events "^spill: heap 'activations', at its limit: 2097152 bytes wanted, live .*; served$"
    ;;
esac

example watch
has out '^purge at level 1: 2[0-9]\.[0-9] -> 2[0-9]\.[0-9] of 32\.0 MiB$'
has out '^shrink at level 2: [0-9.]+ -> [0-9.]+ of 32\.0 MiB$'
has out '^24 entries are left; level 0, 1 purges, 1 times less'
kinds=$(sed 's/:.*//' "$dir/events" | head -2 | tr '\n' ' ')
[ "$kinds" = "purge shrink " ] || bad "the events begin with '$kinds'"
has events '^shrink: rss high: [0-9]+ of 33554432 bytes, then [0-9]+ of 33554432 bytes, 17825792 freed'

# a summary for people has them, too
"$top_builddir/cli/memopt" run "$program" >"$dir/out" 2>"$dir/err" || bad "exit status $?"
has err '^  shrink: rss high: '

[ $failures -eq 0 ] || exit 1
echo "all passed"
