#!/bin/bash
# test_compare_screen.sh - memopt compare on a screen: no line is wider than it or 78
# columns, what is in colour, what is left out.
. "$top_srcdir/tests/run_lib.sh" || exit 99
compare="$memopt compare"
[ -n "$python" ] || exit 77

# on WIDTH FILE COMMAND...: with standard output on a terminal of that width
cat >on.py <<'PY'
import fcntl, os, pty, struct, sys, termios
parent, child = pty.openpty()
fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 50, int(sys.argv[1]), 0, 0))
pid = os.fork()
if pid == 0:
    os.close(parent)
    os.dup2(child, 1)
    os.execvp(sys.argv[3], sys.argv[3:])
os.close(child)
seen = b""
while True:
    try:
        part = os.read(parent, 4096)
    except OSError:
        break
    if not part:
        break
    seen += part
open(sys.argv[2], "wb").write(seen.replace(b"\r\n", b"\n"))
sys.exit(os.WEXITSTATUS(os.waitpid(pid, 0)[1]))
PY
on() { TERM=xterm "$python" on.py "$@"; }

# fits WIDTH FILE: no line is wider, colours aside, nor ends with a blank
cat >fits.py <<'PY'
import re, sys
for line in open(sys.argv[2], encoding="utf-8").read().split("\n"):
    line = re.sub("\033\\[[0-9;]*m", "", line)
    assert len(line) <= int(sys.argv[1]), (len(line), line)
    assert line == line.rstrip(), line
    assert all(c.isprintable() for c in line), line
PY

# Larger than a sanitized memopt, so that its peak is known; with an argument it lives for
# more than 20 samples.
cat >program.c <<'C'
#include <stdlib.h>
#include <string.h>
#include <time.h>
static char *volatile keep;
int main(int argc, char *argv[]) {
    (void)argv;
    keep = malloc(128 << 20);
    memset(keep, 1, 128 << 20);
    if (argc > 1) {
        clock_t end = clock() + CLOCKS_PER_SEC * 3 / 2;
        while (clock() < end)
            ;
    }
    return 0;
}
C
if ! ${CC:-cc} -O1 -o program program.c; then
    echo "no compiler"
    exit 77
fi
mkdir -p a-folder-with-a-long-name/of-configurations
long=a-folder-with-a-long-name/of-configurations/and-a-file-with-a-long-name.ini
printf '[memopt]\nallocator = pool\n' >$long
cat >crashes.sh <<'SH'
case $MEMOPT_RUN$LD_PRELOAD in *memopt-pool.so*) kill -SEGV $$ ;; esac
exec ./program "$@"
SH
for width in 20 40 60 80 120 200; do
    widest=$((width < 78 ? width : 78))
    for options in "" -v; do
        # shellcheck disable=SC2086
        on $width seen $compare $options -n 1 -a pool -c $long -- ./program
        ok "$width columns wide $options" "$python" fits.py $widest seen
    done
    on $width seen $compare -i -v -n 2 -a pool -c $long -- sh crashes.sh 'an argument with blanks' \
        a-single-argument-that-is-longer-than-the-whole-screen-is-wide-whatever-that-may-be-and-longer \
        $'\e[31m\n' 2>err
    ok "$width columns wide, with failures" "$python" fits.py $widest seen
done
# not a terminal: 78
exits 0 $compare -n 1 -a pool -c $long -- ./program long
ok "the width of a file" "$python" fits.py 78 out
for title in wall CPU 'peak RSS' 'at rest' mean; do
    says out "$title"
done
says out "..h-a-long-name"
never out "±:"
ok "the baseline is not relative to itself" test "$(grep -c '^libc .*x' out)" = 0
ok "others are" grep -q '^pool .*[0-9]\.[0-9][0-9]x' out
exits 0 $compare -v -n 1 -a pool -- ./program
says out "faults"
says out "Mann-Whitney"
# which columns a narrow screen has room for
on 40 seen $compare -n 1 -a pool -- ./program long
ok "columns of a narrow screen" grep -q '^ .* peak .* rest' seen
never seen '±'
on 40 seen $compare -n 1 -a pool -- sleep 0.3
ok "CPU time on a narrow screen, where it is judged" grep -q '^ .* CPU' seen
# with -v a value, its spread and its ratio stand in one table, under the value's heading
cat >whole.py <<'PY'
import re, sys
titles = {"wall", "CPU", "peak", "rest", "mean", "faults"}
text = re.sub("\033\\[[0-9;]*m", "", open(sys.argv[1], encoding="utf-8").read())
tables = [b.split("\n") for b in text.split("\n\n") if set(b.split("\n")[0].split()) <= titles]
seen = [title for table in tables for title in table[0].split()]
assert len(seen) == len(set(seen)) >= 5, text
for table in tables:
    for row in table[1:]:
        if not row.startswith(("libc ", "pool ")):
            continue
        kinds = "".join("+" if c[0] == "±" else "x" if c[-1] == "x" else "v" for c in row.split()[1:])
        assert re.fullmatch("(v[+]?x?)+", kinds), (row, text)
        assert kinds.count("v") == len(table[0].split()), (row, text)
PY
for width in 20 24 28 34 40 46 52 58; do
    on $width seen $compare -v -n 2 -a pool -- ./program
    ok "whole columns of a screen $width wide" "$python" whole.py seen
done
# two files of one name
mkdir one two
printf '[memopt]\nallocator = pool\n' | tee one/x.ini >two/x.ini
exits 0 $compare -n 1 -c one/x.ini -c two/x.ini -- ./program
says out "one/x.ini"
says out "two/x.ini"

# ---- at rest: known of runs with enough samples only
exits 0 $compare -n 1 -a pool --export rest.json -- ./program long
exits 0 $compare -n 1 -a pool --export short.json -- ./program
cat >rest.py <<'PY'
import json
for candidate in json.load(open("rest.json"))["candidates"]:
    rest, mean, peak = (candidate[key]["median"] for key in ("rss_rest", "rss_mean", "peak_rss"))
    assert 128 << 20 <= rest <= peak, candidate
    assert mean <= peak, candidate
for candidate in json.load(open("short.json"))["candidates"]:
    assert candidate["rss_rest"]["values"] == [None], candidate
PY
ok "the size at rest" "$python" rest.py

# ... and what "-" means, where it occurs
cat >some.sh <<'SH'
case $LD_PRELOAD in *memopt-pool.so*) exec ./program long ;; esac
exec ./program
SH
exits 0 $compare -n 1 --warmup 0 -a pool -- sh some.sh
says out "-: not known: the program is too short to be sampled, or smaller than memopt"

# ... of the largest process, which the peak is of
exits 0 $compare -n 1 -a pool --export rest.json -- sh -c './program long; exit 0'
ok "the size at rest of a child" "$python" rest.py

# ---- what is not known of one can't be won by another
exits 0 $compare -n 4 --export peak.json -- true
cat >peak.py <<'PY'
import json
table = json.load(open("peak.json"))
unknown = [c["name"] for c in table["candidates"] if not c["left_out"] and c["peak_rss"]["median"] is None]
assert not unknown or table["winners"]["memory"] is None, (unknown, table["winners"])
PY
ok "no winner by a size that is not known of all" "$python" peak.py

# ---- colour: the winner, what is far off, failures; none in pipes or with NO_COLOR
cat >loses.sh <<'SH'
i=0 most=50000
case $LD_PRELOAD in *memopt-pool.so*) most=300000 ;; esac
while [ $i -lt $most ]; do i=$((i + 1)); done
SH
red=$'\e\\[31m' green=$'\e\\[32m' yellow=$'\e\\[33m' # as patterns
# (what is far off on a busy machine goes before the winner's colour)
for _ in 1 2 3 4 5; do
    on 80 seen $compare -n 4 -a pool -- sh loses.sh
    grep -q "libc: .* far from the median" seen || break
done
ok "the winner is green" grep -q "^libc .*$green" seen
on 80 seen $compare -i -n 1 -a pool -- sh crashes.sh
ok "failures are red" grep -q "^pool .*${red}failed in" seen
cat >once.sh <<'SH'
echo >>runs
[ "$(wc -l <runs)" -ne 6 ] || sleep 2
SH
on 80 seen $compare -n 5 -a pool -- sh once.sh
ok "what is far off is yellow" grep -q "$yellow.* of 5 runs had a" seen
NO_COLOR=1 on 80 seen $compare -i -n 1 -a pool -- sh crashes.sh
never seen $'\e'
exits 1 $compare -i -n 1 -a pool -- sh crashes.sh
never out $'\e'

# ---- markup in names stays text
exits 0 $compare --format markdown -n 1 -c "$(printf '[memopt]\n' >'|<b>`*.ini' && echo '|<b>`*.ini')" \
    -- ./program 'a`b' '*c*'
says out '`` ./program a`b *c* ``'
says out '| \|\<b\>\`\* |'
finish
