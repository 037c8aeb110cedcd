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
says out "fewer than 3 runs can't tell"
never out "jemalloc"
exits 0 $compare -n 1 -- true
for allocator in jemalloc tcmalloc mimalloc; do
    says out $allocator # measured, or left out with the reason
done
exits 125 $compare -a '' -- true
says err "-a names no allocator"
exits 125 $compare -a ' ,' -- true
exits 0 $compare -n 1 -a pool --format markdown -- true
says out "| libc |"
says out "|---|--:|"
exits 0 $compare -n 3 -a pool --format json -o table.json -- sh -c 'exit 0'
[ -s out ] && ok "nothing on stdout with -o" false
if [ -n "$python" ]; then
    cat >check.py <<'PY'
import json
table = json.load(open("table.json"))
assert table["schema"] == "memopt-compare" and table["version"] == 2
assert table["argv"] == ["sh", "-c", "exit 0"] and table["runs"] == 3
assert [c["name"] for c in table["candidates"]] == ["libc", "pool"]
for c in table["candidates"]:
    assert c["failed_runs"] == 0 and not c["left_out"], c
    for metric in ("wall_time", "cpu_time", "peak_rss", "page_faults"):
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
assert set(table["winners"]) == {"time", "memory", "time_leaders", "memory_leaders"}
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

# ---- output is discarded, or kept; input is read anew, or empty
exits 0 $compare -n 1 -a pool -- sh -c 'echo noise; echo noise >&2'
ok "no noise" test "$(cat out err | grep -c '^noise$')" = 0
exits 0 $compare -k -n 1 -a pool -- sh -c 'echo noise'
ok "four lines of noise" test "$(grep -c '^noise$' out)" = 4
printf 'first\nsecond\nthird\n' >lines
exits 0 $compare -n 1 -a pool -- sh -c 'cat >>seen' <lines
ok "input for each run" test "$(grep -c third seen)" = 4
says out "read anew"
rm -f seen
(read -r line; $compare -n 1 -a pool -- sh -c 'cat >>seen') <lines >out
ok "input from where it stood" test "$(grep -c first seen):$(grep -c second seen)" = 0:4
echo pipe | $compare -n 1 -a pool -- sh -c 'cat >>piped' >out 2>err
ok "no input from a pipe" test ! -s piped
says out "/dev/null"

# ---- configurations as candidates
printf '[memopt]\nallocator = pool\n' >small.ini
printf '[memopt]\nallocator = libc\ntrackers = stats\n' >counted.ini
exits 0 $compare -n 1 -c small.ini -c counted.ini -- true
says out "libc"
says out "small.ini"
says out "counted.ini"
never out "mimalloc"
exits 125 $compare -n 1 -c nowhere.ini -- true
says err "nowhere.ini"

# ---- failures are said
exits 0 $compare -n 1 -a pool -- sh -c 'exit 3'
says out "exit status was 3"
exits 0 $compare -n 3 -a pool -- sh -c 'case $LD_PRELOAD in *memopt-pool.so*) ;; *) sleep 0.3 ;; esac; exit 3'
says out "time: no winner; the program fails"
says out "memory: no winner; the program fails"
cat >picky.sh <<'SH'
case $LD_PRELOAD in *memopt-pool.so*) exit 4 ;; esac
SH
exits 1 $compare -n 3 -a pool -- sh picky.sh
says out "pool: 4 of 4 runs ended with exit status 4 instead of 0; it can't win"
says out "time: no winner; fewer than two candidates took part to the end"
cat >killed.sh <<'SH'
case $LD_PRELOAD in *memopt-pool.so*) kill -9 $$ ;; esac
SH
exits 1 $compare -n 1 -a pool -- sh killed.sh
says out "exit status 137 instead of 0"
exits 127 $compare -n 1 -- nowhere
exits 126 $compare -n 1 -- /
exits 125 $compare -a nosuch -- true
says err "nosuch"
for runs in 0 -1 x 1001 '' '5 '; do
    exits 125 $compare -n "$runs" -- true
    says err "1 to 1000"
done
exits 125 $compare --format html -- true
says err "text, json or markdown"
exits 125 $compare

# ---- a winner, where there is one beyond doubt
cat >slow.sh <<'SH'
case $LD_PRELOAD in *memopt-pool.so*) ;; *) sleep 0.5 ;; esac
SH
exits 0 $compare -n 4 -a pool -- sh slow.sh
says out "time: pool, 0."

# ---- a candidate that was not measured can't win
exits 0 $compare -n 1 -a refusing --set memopt.plugin_path="$top_builddir/tests/bad_plugins" -- true
says out "refusing: its allocator was not seen in the program: no way; it can't win"
cat >away.sh <<'SH'
case $LD_PRELOAD in *memopt-pool.so*) ;; *) sleep 0.3 ;; esac
exec env -i "$@"
SH
exits 0 $compare -n 4 -a pool -- sh away.sh true
says out "libc: the program became one that isn't watched, or left without exit(); it can't win"
says out "pool: the program became one that isn't watched"
says out "time: no winner; fewer than two candidates took part to the end"
says out "memory: no winner; fewer than two"
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
    says out "time: no winner; fewer than two"
fi

# ---- a run that is far off is named, whatever the spread says
cat >once.sh <<'SH'
echo >>runs
[ "$(wc -l <runs)" -ne 6 ] || sleep 3
SH
exits 0 $compare -n 5 -a pool -- sh once.sh
ok "the slow run" grep -q "of 5 runs .* far off by wall: from .* to 3[.0-9]* s" out

# ---- interrupted: the program gets it, nothing is left, no table
if [ -n "$python" ]; then
    cat >interrupt.py <<'PY'
import os, signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_DFL) # ignored in the background of a script
p = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE)
while not os.path.exists("started"):
    time.sleep(0.01)
p.send_signal(signal.SIGINT)
out = p.communicate()[0]
assert p.returncode == 130, p.returncode
assert out == b"", out
PY
    ok "interruption" "$python" interrupt.py $compare -n 50 -a pool -- sh -c 'touch started; sleep 5'
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
ok "no table" test ! -s out

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
assert b"peak RSS" in table and b"[" not in table and b"peak RSS" not in bar, seen
PY
    ok "the progress bar is gone in the end" "$python" terminal.py $compare -n 1 -a pool -- true
    never err "["
fi
finish
