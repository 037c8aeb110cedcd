#!/bin/bash
# test_compare_runs.sh - memopt compare: how many runs and for how long, what is run before
# each, where the figures go.
. "$top_srcdir/tests/run_lib.sh" || exit 99
compare="$memopt compare"

# ---- runs to warm up
count() { wc -l <"$1"; }
for warm_ups in 0 1 3; do
    rm -f seen
    exits 0 $compare --warmup $warm_ups -n 2 -a pool -- sh -c 'echo >>seen'
    ok "$warm_ups runs to warm up" test "$(count seen)" = $((2 * (warm_ups + 2)))
    if [ $warm_ups = 0 ]; then never out "to warm up"; else says out "after $warm_ups to warm up"; fi
done
for runs in -1 x 1001 ''; do
    exits 125 $compare --warmup "$runs" -- true
    says err "0 to 1000"
done

# ---- a command before each run
exits 0 $compare --prepare 'echo prepared >>log; cat >>stdin' -n 2 -a pool -- sh -c 'echo run >>log' <<<input
ok "one before each run" test "$(uniq -c log | sort | uniq -c | tr -s ' ')" = \
    " 6 1 prepared
 6 1 run"
exits 0 $compare --prepare 'env >env' -n 1 -a pool -- true
never env memopt-preload
never env memopt-pool
exits 1 $compare --prepare 'echo reason >&2; exit 7' -n 1 -a pool -- touch ran
says err "--prepare failed: exit status 7"
says err "reason"
ok "no run after a failure to prepare" test ! -e ran

# ---- a range of runs: the first number in any case, more while there is time
exits 0 $compare -n 2-1000 --time 1ms -a pool -- sh -c 'echo >>least'
ok "the least number" test "$(count least)" = 6
exits 0 $compare -n 2-4 --time 1h -a pool -- sh -c 'echo >>most'
ok "the greatest number" test "$(count most)" = 10
says out "median of 4 runs each"
exits 125 $compare --time 1s -- true
says err "needs a range of runs"
exits 125 $compare -n 5 --time 1s -- true
says err "needs a range of runs"
for time in x -1 0; do
    exits 125 $compare -n 1-2 --time "$time" -- true
    says err "not a valid duration"
done

# ---- files beside the screen, by their names
exits 0 $compare --export a.csv --export a.json --export a.md --export a.txt -n 1 -a pool -- true
says out "1 run each"
ok "the text" diff out a.txt
says a.md '|---|--:|'
says a.json '"schema": "memopt-compare"'
if [ -n "$python" ]; then
    cat >same.py <<'PY'
import csv, json
rows = list(csv.DictReader(open("a.csv")))
assert [row["candidate"] for row in rows] == ["libc", "pool"], rows
for row, candidate in zip(rows, json.load(open("a.json"))["candidates"]):
    assert None not in row and row["runs"] == "1" and row["failed_runs"] == "0"
    for column, key in (("wall_time_ns", "wall_time"), ("peak_rss_bytes", "peak_rss"),
                        ("page_faults", "page_faults")):
        median = candidate[key]["median"]
        assert row[column] == ("" if median is None else "%.15g" % median), row
PY
    ok "CSV and JSON say the same" "$python" same.py
fi
exits 0 $compare -o b.json -n 1 -a pool -- true
says b.json '"schema"'
ok "nothing on stdout with -o" test ! -s out
exits 125 $compare --export a.table -n 1 -- touch exported
says err "a.table"
says err ".csv, .json, .md"
exits 125 $compare --export /nowhere/a.csv -n 1 -- touch exported
says err "/nowhere/a.csv"
ok "an export without a place is reported before the runs" test ! -e exported
exits 0 $compare --format csv --export a.table -n 1 -a pool -- true
ok "the format of other names" grep -q '^candidate,' a.table
exits 0 $compare --export a.csv -n 1 -c "$(printf '[memopt]\n' >'a,"b.ini' && echo 'a,"b.ini')" -- true
says a.csv '"a,""b.ini",1,'

# ---- a command line in one word
exits 127 $compare -n 1 'sort in.txt'
says err "sh -c 'sort in.txt'"
exits 127 $memopt run "./sort it's"
says err "sh -c './sort it'\\''s'"
exits 127 $memopt run 'a|b'
says err "sh -c 'a|b'"
exits 127 $memopt run sort-of
never err "sh -c"

# ---- each shipped profile says at which figure it is good
for profile in "$top_srcdir"/conf/profiles/*.ini; do
    ok "${profile##*/} says what it is good at" grep -q '^; Good at: .*' "$profile"
done

# ---- standard input is given to each run, however it is read
printf '%s\n' 1 2 3 4 5 6 7 8 >lines
exits 0 $compare -n 1 -a pool -- sh -c 'head -n 1 >>firsts' <lines
ok "a run that reads a part" test "$(sort -u firsts):$(count firsts)" = 1:4
# a file that memopt may not open again
chmod 711 .
if [ "$(id -u)" = 0 ] && setpriv --reuid 65534 --clear-groups "$memopt" plugins pool >out 2>&1; then
    install -m 600 lines secret
    install -d -m 777 open
    setpriv --reuid 65534 --clear-groups $compare -n 1 -a pool -- sh -c 'cat >>open/seen' <secret >out 2>err
    ok "an input that can't be opened again" test "$(count open/seen)" = 32
fi
# what is left behind keeps its place in it
exits 0 $compare -n 1 -a pool -- sh -c '(sleep 0.2; cat >>late) & head -c 2 >>early' <lines
sleep 1
ok "no run reads another's input" test "$(count early)" = 4

# ---- much on standard error is neither kept nor in the way
exits 1 $compare -n 1 -a pool -- sh -c 'yes | head -c 3000000 >&2; echo last >&2; exit 1'
says err "last"
ok "ten lines" test "$(grep -c '    y' err)" = 9
printf '\033[31mred\n' >red
exits 1 $compare -n 1 -a pool -- sh -c 'cat red >&2; exit 1'
says err '\x1b[31mred'
finish
