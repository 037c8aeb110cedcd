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
    # a process that has ended has no size, and that is no size of 0
    for _ in 1 2 3 4 5; do
        exits 0 $run --json short.json -- sh -c 'true & (true) & true; wait'
        never err " 0 B"
        report short.json 'all(x["peak_rss"] != 0 and x["rss_mean"] != 0 for x in p)'
    done
    # no sample is above the peak
    for file in main tree; do
        report $file.json 'all(x["peak_rss"] is None or x["rss_mean"] is None or
            x["peak_rss"] >= max(x["rss_mean"], x["rss_rest"] or 0) for x in p)'
    done
    if $CC -O0 -static phases.c -o phases 2>/dev/null; then
        exits 0 $run --json static.json -- ./phases
        report static.json "$over_time"
        # a child and a grandchild that go on as a program that memopt can't be in
        exits 0 $run --json became.json -- sh -c 'sh -c "./phases; true"; ./phases & wait'
        report became.json 'len(phases) == 2 and all(x["rss_mean"] for x in phases)'
        report became.json '{y["end"] for x in phases for y in p
            if y["pid"] == x["pid"] and y["binding"] != "none"} == {"exec"}'
        never err "killed, or"
        says err " phases: ended without saying how, peak RSS at least "
    fi
    exits 0 $run --json inner.json -- $run -q -- sleep 0.4
    report inner.json 'p[0]["program"].endswith("memopt")'
    if [ -z "${SANITIZE_CFLAGS// /}" ]; then # a sanitized memopt has no record of its own
        report inner.json '[y["end"] for x in p if x["program"].endswith("/sleep") for y in p
            if y["pid"] == x["pid"] and y is not x] == ["exec"]'
    fi
fi

# ---- on a terminal: the order, and no line that is too long, at each width
cat >peak.c <<'END'
#include <stdlib.h>
#include <string.h>
#include <time.h>
/* Up to 32 MiB in small blocks, all of them freed. */
int main(int argc, char **argv) {
    enum { COUNT = 32768 };
    static void *blocks[COUNT];
    (void)argv;
    for (int i = 0; i < COUNT; i++) {
        if (i == COUNT - 1024) /* long enough for the allocator to be asked again */
            nanosleep(&(struct timespec){.tv_nsec = 30000000}, NULL);
        memset(blocks[i] = malloc(1024), 1, 1024);
    }
    for (int i = 0; i < COUNT; i++)
        free(blocks[i]);
    return argc > 2 ? abort(), 1 : argc - 1;
}
END
$CC -O0 peak.c -o peak
# after everything was freed there is no fragmentation but that near the peak, with its base
for allocator in libc jemalloc tcmalloc pool; do
    have_allocator $allocator || continue
    exits 0 $run -a $allocator -t stats --json peak.json -- ./peak
    says err " near the peak"
    report peak.json 'p[0]["heap_live"] > 29 * M and p[0]["fragmentation"] < 0.5'
done
# where nobody was asked near the peak, none
exits 0 $run -t stats -- true
never err fragmentation
never err " %"

cat >drive.sh <<END
stty cols \$1
$run -t stats -- sh -c './peak; ./peak abort now; ./peak fail; exit 3'
echo "ended: \$?"
END
if have tmux; then
    for columns in 40 80 120; do
        tmux -S "$work/tmux" -f /dev/null new-session -d -x $columns -y 60 "bash drive.sh $columns; sleep 60"
        for _ in $(seq 200); do
            tmux -S "$work/tmux" capture-pane -p -J >screen
            grep -q "^ended: 3" screen && break
            sleep 0.1
        done
        tmux -S "$work/tmux" kill-server
        sed -i 's/ *$//' screen
        says screen "ended: 3"
        # a word may be longer than the screen, a line not
        ok "$columns columns" awk -v most=$columns 'length($0) > most && NF > 1 {bad = 1; print} END {exit bad}' screen
        ok "$columns columns: the order" "$python" -c '
import sys
text = " ".join(sys.stdin.read().split())
at = 0
for what in ("exit status 3", "on libc", "wall", "peak RSS", "heap", "allocations", "3 other processes, 1 failed",
             "peak: exit status 1", "peak: killed", "peak: exit status 0"):
    at = text.find(what, at)
    assert at >= 0, what' <screen
    done
fi

exit $((failures > 0))
