#!/usr/bin/env bash
# test_summary.sh - what one reads at the end of memopt run: sizes while the program lives.
. "${top_srcdir:?}/tests/run_lib.sh"
run="$memopt run"

# report FILE PYTHON: an expression over the report, its processes and those of ./phases
report() {
    [ -n "$python" ] || return 0
    ok "$1: $2" "$python" -c '
import json, sys
report = json.load(open(sys.argv[1]))
p = report["processes"]
phases = [x for x in p if (x["program"] or "").endswith("/phases")]
M = 1 << 20
assert eval(sys.argv[2]), json.dumps(report, indent=1)' "$1" "$2"
}

# ---- resident sizes over time, of the program and of what it starts
cat >phases.c <<'END'
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
int main(void) {
    size_t size = 64 << 20;
    char *p = malloc(size);
    if (fork() == 0) /* a copy, soon gone, which is not the program */
        _exit(0);
    memset(p, 1, size);
    nanosleep(&(struct timespec){.tv_nsec = 400000000}, NULL);
    free(p);
    nanosleep(&(struct timespec){.tv_nsec = 900000000}, NULL);
    return 0;
}
END
if have $CC && $CC -O0 phases.c -o phases; then
    over_time='len(phases) > 0 and phases[0]["rss_rest"] < 16 * M < phases[0]["rss_mean"] < 64 * M'
    exits 0 $run --json main.json -- ./phases
    report main.json "$over_time and phases[0]['main'] and phases[0]['peak_rss'] > 64 * M"
    exits 0 $run --json tree.json -- sh -c 'sh -c "./phases; true" & ./phases & wait'
    report tree.json "$over_time and not phases[0]['main']"
    report tree.json "sum(x['rss_rest'] is not None and x['rss_rest'] < 16 * M for x in phases) == 2"
    report tree.json 'p[0]["rss_rest"] < 16 * M and p[0]["rss_mean"] < 16 * M'
    # too few looks: nothing is said of it
    exits 0 $run --json short.json -- true
    report short.json 'p[0]["rss_rest"] is None'
    if $CC -O0 -static phases.c -o phases 2>/dev/null; then
        exits 0 $run --json static.json -- ./phases
        report static.json "$over_time"
    fi
fi

exit $((failures > 0))
