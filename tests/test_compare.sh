#!/bin/bash
# test_compare.sh - memopt compare: candidates, formats, what is said of runs
# that fail, standard input, interruption.
. "$top_srcdir/tests/run_lib.sh" || exit 99
compare="$memopt compare"

# ---- the table
exits 0 $compare -n 1 -a libc,pool -- true
says out "libc"
says out "pool"
says out "peak RSS"
says out "it takes at least 3 runs to tell these apart: "
says out "1 run each, after 1 to warm up"
never out "median of 1"
never out "±" # of one run there is no spread
never out "jemalloc"
exits 0 $compare -n 1 -- true
for allocator in jemalloc tcmalloc mimalloc; do
    says out $allocator # measured, or left out with the reason
done
exits 125 $compare -a '' -- true
says err "-a names no allocator"
exits 125 $compare -a ' ,' -- true
exits 0 $compare -n 1 -a pool --format markdown -- true
says out "\`true\`: 1 run each"
says out "| libc |"
says out "|---|--:|"
exits 0 $compare -n 3 -a pool --format json -o table.json -- sh -c 'exit 0'
[ -s out ] && ok "nothing on stdout with -o" false
if [ -n "$python" ]; then
    cat >check.py <<'PY'
import json
table = json.load(open("table.json"))
assert table["schema"] == "memopt-compare" and table["version"] == 3
assert table["argv"] == ["sh", "-c", "exit 0"] and table["runs"] == 3
assert [c["name"] for c in table["candidates"]] == ["libc", "pool"]
for c in table["candidates"]:
    assert c["failed_runs"] == 0 and not c["left_out"], c
    for metric in ("wall_time", "cpu_time", "peak_rss", "rss_rest", "rss_mean", "page_faults"):
        assert len(c[metric]["values"]) == 3, metric
    for metric in ("wall_time", "peak_rss", "page_faults"):
        if metric == "peak_rss" and None in c[metric]["values"]:
            continue # a sanitized memopt is larger than the program
        values = sorted(c[metric]["values"])
        assert values[0] > 0 and c[metric]["median"] == values[1], c[metric]
        assert c[metric]["min"] == values[0] and c[metric]["max"] == values[2], c[metric]
assert table["candidates"][0]["wall_time"]["ratio"] == 1
assert table["candidates"][0]["binding"] == "direct"
assert table["candidates"][1]["binding"] == "direct"
assert set(table["winners"]) == {"time_by", "time", "memory", "rest", "time_leaders",
                                 "memory_leaders", "rest_leaders"}
assert table["stopped"] is None and table["warm_up_runs"] == 1
PY
    ok "the JSON table" "$python" check.py
fi
exits 125 $compare -n 1 -a pool -o /nowhere/x -- touch ran
says err "/nowhere/x"
ok "an output without a place is told of before the runs" test ! -e ran

# ---- order: each once to warm up, then rounds that begin with another one
cat >who.sh <<'SH'
case $LD_PRELOAD in *memopt-pool.so*) echo pool ;; *) echo libc ;; esac >>"$1"
SH
exits 0 $compare -n 3 -a pool -- sh who.sh order
ok "the order of runs" test "$(tr '\n' ' ' <order)" = \
    "libc pool pool libc libc pool pool libc "

# ---- output is discarded, or kept; input is read again, or empty
exits 0 $compare -n 1 -a pool -- sh -c 'echo noise; echo noise >&2'
ok "no noise" test "$(cat out err | grep -c '^noise$')" = 0
exits 0 $compare -k -n 1 -a pool -- sh -c 'echo noise'
ok "four lines of noise" test "$(grep -c '^noise$' out)" = 4
printf 'first\nsecond\nthird\n' >lines
exits 0 $compare -n 1 -a pool -- sh -c 'cat >>seen' <lines
ok "input for each run" test "$(grep -c third seen)" = 4
says out "read again"
rm -f seen
(read -r line; $compare -n 1 -a pool -- sh -c 'cat >>seen') <lines >out
ok "input from where it stood" test "$(grep -c first seen):$(grep -c second seen)" = 0:4
# a pipe is read once, for all runs
echo pipe | $compare -n 1 -a pool -- sh -c 'cat >>piped' >out 2>err
ok "a pipe's input for each run" test "$(grep -c '^pipe$' piped)" = 4
says out "a copy of the pipe"
# ... all of it, more than a pipe holds
head -c 3000000 /dev/zero | $compare -n 1 -a pool -- sh -c 'wc -c >>sizes' >out 2>err
ok "a large pipe's input" test "$(sort -u sizes)" = 3000000

# ---- configurations as candidates
printf '[memopt]\nallocator = pool\n' >small.ini
printf '[memopt]\nallocator = libc\ntrackers = stats\n' >counted.ini
exits 0 $compare -n 1 -c small.ini -c counted.ini -- true
says out "libc"
says out "small "
says out "counted "
never out "mimalloc"
exits 125 $compare -n 1 -c nowhere.ini -- true
says err "nowhere.ini"

# ---- a failure ends it, and is shown with what the program said
cat >picky.sh <<'SH'
case $LD_PRELOAD in *memopt-pool.so*) seq 1 30 | sed 's/^/complaint /' >&2; exit 4 ;; esac
echo >>good
SH
exits 1 $compare -n 3 -a pool -- sh picky.sh
says err "memopt compare: pool: the program failed: exit status 4"
says err "complaint 30"
says err "complaint 21"
never err "complaint 20"
says err "-i goes on"
ok "no more runs after the first failure" test "$(wc -l <good)" = 1
ok "no table of nothing" test ! -s out
exits 1 $compare -n 1 -a pool -- sh -c 'exit 3'
says err "libc: the program failed: exit status 3"
# what was measured before is printed
cat >later.sh <<'SH'
case $LD_PRELOAD in *memopt-pool.so*) echo >>late; [ "$(wc -l <late)" -lt 3 ] ;; esac
SH
exits 1 $compare -n 5 -a pool --export later.csv -- sh later.sh
says out "failed in 1 of 2 runs: exit status 1"
says out "not all was measured: pool failed"
says out "median of 2 "
says later.csv '"pool",2,1,exit status 1,,,'
# ... so it is when the program can't be started any more
cp "$(type -P true)" program
exits 127 $compare -n 3 -a pool --prepare 'echo >>prepared; [ "$(wc -l <prepared)" -lt 6 ] || rm -f program' -- ./program
says err "./program"
says out "median of 1 to 2 runs each"
says out "could not be started"
# with -i all are run; a candidate that failed has no figures
exits 1 $compare -i -n 3 -a pool -- sh picky.sh
says out "failed in 3 of 3 runs: exit status 4"
says out "no winner: fewer than two candidates took part to the end"
ok "said once" test "$(grep -c "fewer than two" out)" = 1
never err "complaint"
cat >killed.sh <<'SH'
case $LD_PRELOAD in *memopt-pool.so*) kill -SEGV $$ ;; esac
SH
exits 1 $compare -i -n 5 -a pool --export killed.json -- sh killed.sh
says out "failed in 5 of 5 runs: SIGSEGV"
ok "no figures of runs that failed" test "$(grep -c '^pool' out):$(grep -c '^pool .*[0-9]x' out)" = 1:0
if [ -n "$python" ]; then
    cat >failed.py <<'PY'
import json
libc, pool = json.load(open("killed.json"))["candidates"]
assert pool["failed_runs"] == 5 and pool["failure"] == "SIGSEGV", pool
assert "wall_time" not in pool and "wall_time" in libc
PY
    ok "no figures of runs that failed in the JSON" "$python" failed.py
fi
# ... in a child of the program, too, if that is what the program says
exits 1 $compare -i -n 1 -a pool -- sh -c 'sh killed.sh'
says out "failed in 1 of 1 run: exit status 139"
# an exit status that every run has is how the program ends
exits 0 $compare -i -n 3 -a pool -- sh -c 'exit 3'
says out "the program's exit status was 3"
says out "pool "
never out "failed in"
exits 127 $compare -n 1 -- nowhere
says err "memopt compare: there is no program 'nowhere' on the path"
exits 126 $compare -n 1 -- /
never err "libc" # it is the program, not a candidate
# all failed; one candidate: nobody to judge
cat >fails.sh <<'SH'
echo >>ran; [ "$(wc -l <ran)" = 1 ] # not the status of the first run
SH
exits 1 $compare -i -n 1 -a pool -- sh fails.sh
ok "said once of all that failed" test "$(grep -c "fewer than two" out)" = 1
exits 0 $compare -n 1 -a libc -- true
never out "winner"
never out "time:"
# what memopt said first is shown before the last lines
cat >fault.sh <<'SH'
echo "memopt: sh[1]: use-after-free" >&2
seq 1 200 | sed 's/^/    place /' >&2
exit 1
SH
exits 1 $compare -n 1 -a libc -- sh fault.sh
says err "    memopt: sh[1]: use-after-free"
says err "place 191"
never err "place 190"
# ... but only once
exits 1 $compare -n 1 -a libc -- sh -c 'echo "memopt: x[1]: overflow" >&2; exit 1'
ok "once" test "$(grep -c overflow err)" = 1
# settings that would change nothing
for key in allocator trackers binding reporters; do
    for equals in "=" " = "; do
        exits 125 $compare -n 1 --set "memopt.$key${equals}x" -- touch set
        says err "--set memopt.$key is not for compare: "
    done
done
ok "refused before the runs" test ! -e set
exits 0 $compare -h
ok "usage in 80 columns" test "$(wc -L <out)" -le 80
exits 125 $compare -a nosuch -- true
says err "nosuch"
for runs in 0 -1 x 1001 '' '5 ' 5- 5-3 0-3 1-1001 3-x; do
    exits 125 $compare -n "$runs" -- true
    says err "1 to 1000"
done
exits 125 $compare --format html -- true
says err "text, json, markdown or csv"
exits 125 $compare

# ---- a winner, where there is one beyond doubt
cat >slow.sh <<'SH'
i=0
case $LD_PRELOAD in *memopt-pool.so*) ;; *) while [ $i -lt 100000 ]; do i=$((i + 1)); done ;; esac
SH
exits 0 $compare -n 4 -a pool -- sh slow.sh
says out "ime: pool, 0." # of wall time or, on a busy machine, of CPU time
# one that waits is judged by its CPU time: libc would lose by wall time
cat >waits.sh <<'SH'
i=0
case $LD_PRELOAD in
*memopt-pool.so*) while [ $i -lt 50000 ]; do i=$((i + 1)); done; sleep 0.4 ;;
*) sleep 0.8 ;;
esac
SH
exits 0 $compare -n 3 -a pool -- sh waits.sh
says out "CPU time: libc"
says out "wall time is far above CPU time"

# ---- a candidate that was not measured can't win
exits 0 $compare -n 1 -a refusing --set memopt.plugin_path="$top_builddir/tests/bad_plugins" -- true
says out "refusing: its allocator was not seen in the program: no way; it can't win"
cat >away.sh <<'SH'
case $LD_PRELOAD in *memopt-pool.so*) ;; *) sleep 0.3 ;; esac
exec env -i "$@"
SH
exits 0 $compare -n 4 -a pool -- sh away.sh true
says out "libc: the program became one that isn't watched"
says out "can't win"
says out "pool: the program became one that isn't watched"
says out "no winner: fewer than two candidates took part to the end"
cat >own.c <<'C'
#include <stddef.h>
static char heap[1 << 20]; static size_t used;
void *malloc(size_t n) { void *p = heap + used; used += (n + 31) & ~(size_t)15; return p; }
void free(void *p) { (void)p; }
void *calloc(size_t a, size_t b) { return malloc(a * b); }
void *realloc(void *p, size_t n) { (void)p; return malloc(n); }
int main(void) { return 0; }
C
if have "${CC:-cc}" && ${CC:-cc} -O0 -fno-builtin own.c -o own 2>/dev/null; then
    cat >partly.sh <<'SH'
case $LD_PRELOAD in *memopt-pool.so*) exec ./own ;; esac
sleep 0.3
SH
    exits 0 $compare -n 4 -a pool -- sh partly.sh
    says out "pool: its allocator was not seen in the program: this program brings a malloc"
    says out "no winner: fewer than two"
fi

# ---- a run that is far off is named, whatever the spread says
cat >once.sh <<'SH'
echo >>runs
[ "$(wc -l <runs)" -ne 6 ] || sleep 3
SH
exits 0 $compare -n 5 -a pool -- sh once.sh
ok "the slow run" grep -q "of 5 runs had a wall time of .*3[.0-9]* s, far from the median of [0-9]" out

# ---- interrupted: the program gets it; what was measured before is printed
if [ -n "$python" ]; then
    cat >interrupt.py <<'PY'
import os, signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_DFL) # ignored in the background of a script
wanted = int(sys.argv[1])
p = subprocess.Popen(sys.argv[2:], stdout=subprocess.PIPE)
while not os.path.exists("started") or os.path.getsize("started") < wanted:
    time.sleep(0.01)
p.send_signal(signal.SIGINT)
out = p.communicate()[0]
sys.stdout.buffer.write(out)
sys.stdout.flush()
sys.exit(p.returncode)
PY
    # in the first run, to warm up: there is nothing
    "$python" interrupt.py 1 $compare -n 50 -a pool -- sh -c 'echo >>started; sleep 5' >out 2>err
    ok "interruption" test "$?:$(wc -c <out)" = 130:0
    # in the seventh: two runs of each have been measured
    rm -f started
    "$python" interrupt.py 7 $compare -n 50 -a pool --export part.json -- \
        sh -c 'echo >>started; [ "$(wc -l <started)" -lt 7 ] || sleep 5' >out 2>err
    ok "interruption later" test $? = 130
    says out "median of 2 runs each"
    says out "not all was measured: interrupted by SIGINT"
    says part.json '"stopped": "interrupted by SIGINT"'
fi
# ... unless it was started to ignore it: under nohup, in the background
for signal in HUP INT TERM; do
    rm -f started
    (trap '' $signal; exec $compare -n 1 -a pool -- sh -c 'touch started; sleep 0.5') >out 2>err &
    until [ -e started ]; do sleep 0.01; done
    kill -$signal $!
    wait $!
    ok "$signal is ignored" test $? = 0
    says out "peak RSS"
done
rm -f started
$compare -n 1 -a pool -- sh -c 'touch started; sleep 5' >out 2>err &
until [ -e started ]; do sleep 0.01; done
kill -TERM $!
wait $!
ok "SIGTERM interrupts" test $? = 143
ok "no table of nothing" test ! -s out

# ---- a full disk: the table is shown where there is room
exits 125 $compare -n 1 -a pool -o /dev/full -- true
says out "1 run each"
says err "/dev/full"
$compare -n 1 -a pool -- true >/dev/full 2>err
ok "standard output is full" test $? = 125
says err "1 run each"

if [ -n "$python" ]; then
    cat >terminal.py <<'PY'
import os, pty, sys
pid, fd = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
seen = b""
while True:
    try:
        part = os.read(fd, 4096)
    except OSError:
        break
    if not part:
        break
    seen += part
assert os.WEXITSTATUS(os.waitpid(pid, 0)[1]) == 0
assert b"[....." in seen and b"0/4 libc" in seen and b"3/4" in seen, seen
bar, table = seen.rsplit(b"\r\033[K", 1)
assert b"peak RSS" in table and b"[#" not in table and b"peak RSS" not in bar, seen
PY
    ok "the progress bar is gone in the end" "$python" terminal.py $compare -n 1 -a pool -- true
    never err "["
fi
finish
