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

[ $failures -eq 0 ] || exit 1
echo "all passed"
