#!/bin/bash
# Every backend under threads that allocate in every way and fork (tests/programs/
# soak.c), to its end and killed at any moment: the output is right, nothing grows,
# and the report is readable and true. MEMOPT_LONG=1 goes on for longer and kills
# hundreds of times; SEED=N repeats a run.
. "${top_srcdir:?}/tests/run_lib.sh"
programs=$top_builddir/tests/programs
[ -x "$programs/soak" ] || { echo "tests/programs is not built: make check TESTS="; exit 99; }
have python3 || { echo "no python3 to read reports"; exit 77; }
rounds=6 kills=2 storms=1
[ "${MEMOPT_LONG:-}" != 1 ] || rounds=400 kills=20 storms=25
RANDOM=${SEED:-$((SEED = RANDOM))}
echo "SEED=$SEED runs it again"
echo ready >ready
printf 'ready\ndone\n' >soaked

passed=0 skipped=0
bad() { echo "FAIL: $*"; failures=$((failures + 1)); }
# counted COMMAND...: one thing tried, which reports what is bad
counted() {
    local before=$failures
    "$@"
    [ $failures != "$before" ] || passed=$((passed + 1))
    [ $failures = "$before" ] || failures=$((before + 1))
}

options() { # MODE BACKEND
    case $1 in
    direct) echo "--set memopt.binding=direct --set memopt.trackers=" ;;
    dispatch) echo "--set memopt.binding=dispatch --set memopt.trackers=" ;;
    stats) echo "--set memopt.binding=dispatch -t stats" ;;
    esac
    if [ "$2" = arena ]; then echo "--set allocator.arena.size=16GiB"; fi
}

# true_report WHAT STATUS MALLOC: of the combination that ran
true_report() {
    local lies binding=$mode tracker=
    [ "$mode" != stats ] || { binding=dispatch tracker=stats; }
    lies=$(python3 "$top_srcdir/tests/real/report.py" report.json "$backend" "$binding" "$tracker" \
        "$2" "$3") || bad "$1: the report is not true: $lies"
}

# until_filled FILE: waits until something is in it
until_filled() {
    local i
    for i in $(seq 2400); do
        [ -s "$1" ] && return 0
        sleep 0.025
    done
    return 1
}

# killed_at_any_time WHAT: the program, or it and its children; soon after its start, when
# memopt's constructors run, or while its threads are in the allocator
killed_at_any_time() {
    local what=$1 when=$((RANDOM % 2)) delay=$((RANDOM % 60)) whom=$((RANDOM % 2))
    local launcher status pid children
    rm -f report.json pid out
    # shellcheck disable=SC2046
    timeout -k 5 300 "$memopt" run -q -a "$backend" --json report.json $(options "$mode" "$backend") -- \
        bash -c 'echo $$ >pid; exec "$0" 0 "$1"' "$programs/soak" $RANDOM >out 2>err &
    launcher=$!
    until_filled "$([ $when = 0 ] && echo pid || echo out)" || bad "$what: did not start: $(cat err)"
    sleep "0.$(printf %03d $delay)"
    pid=$(cat pid)
    children=
    [ $whom = 0 ] || children=$(cat "/proc/$pid/task/"*/children 2>/dev/null)
    # shellcheck disable=SC2086
    kill -KILL "$pid" $children 2>/dev/null
    wait $launcher
    status=$?
    [ $status = 137 ] || bad "$what: exit status $status, not 137"
    true_report "$what" 137 killed
}

soak() {
    local status what="soak on $backend ($mode)"
    # shellcheck disable=SC2046
    timeout -k 5 1200 "$memopt" run -q -a "$backend" --json report.json $(options "$mode" "$backend") -- \
        "$programs/soak" "$rounds" $RANDOM >out 2>err
    status=$?
    if [ $status != 0 ] || ! cmp -s out soaked; then
        bad "$what: exit status $status: $(head -3 err)"
    else
        true_report "$what" 0 replaced
    fi
}
fork_storm() {
    timeout -k 5 300 "$memopt" run -q -a "$backend" -t stats -- "$programs/behaviour" fork-storm >out 2>err ||
        bad "fork-storm $1 on $backend: exit status $?: $(head -3 err)"
}

for backend in libc jemalloc tcmalloc mimalloc pool arena mmap guard; do
    have_allocator $backend || {
        echo "skipped: no $backend in this build"
        skipped=$((skipped + 1))
        continue
    }
    for mode in direct dispatch stats; do
        # shellcheck disable=SC2046
        if "$memopt" run -q -a $backend $(options $mode $backend) -- true 2>/dev/null; then
            counted soak
            for ((i = 0; i < kills; i++)); do
                counted killed_at_any_time "kill $i on $backend ($mode)"
            done
        fi
    done
    for ((i = 1; i < storms; i++)); do counted fork_storm "$i"; done # tests/shim.bash has the first
done
echo "$passed passed, $failures failed, $skipped skipped"
exit $((failures > 0))
