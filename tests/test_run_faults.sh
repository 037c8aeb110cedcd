#!/bin/bash
# test_run_faults.sh - memopt run with its Nth allocation, mmap, open, dlopen,
# fork, … failing, for every N: it says so and ends with 125, or it gets by and
# ends as the program does. It never crashes, leaks (in a sanitized build) or
# leaves its directory behind, and it never keeps the program's status from the
# user once the program has run.
. "$top_srcdir/tests/run_lib.sh" || exit 99
faulty=$top_builddir/tests/memopt_faults
export ASAN_OPTIONS=exitcode=99 LSAN_OPTIONS=exitcode=99 UBSAN_OPTIONS=exitcode=99
export TMPDIR=$work XDG_RUNTIME_DIR=$work/run
mkdir run

# each_fault NAME STATUS ARGUMENT...: until no fault fires any more
each_fault() {
    local what=$1 expected=$2 mode n status fired ran
    shift 2
    for mode in '' +; do
        for ((n = 1; n < 2000; n++)); do
            rm -f fired ran
            FAULT=$n$mode "$faulty" "$@" >out 2>err 8>made 9>fired
            status=$?
            [ -s fired ] || break
            ran=no
            [ -e ran ] && ran=yes
            case $status:$ran in
            $expected:yes) ;; # it got by
            125:no) [ -s err ] || ok "$what, fault $n$mode: silent" false ;;
            *)
                echo "FAIL: $what, fault $n$mode: exit status $status, program ran: $ran"
                sed 's/^/    /' err
                failures=$((failures + 1))
                ;;
            esac
            while read -r directory; do
                [ ! -e "$directory" ] || ok "$what, fault $n$mode: $directory is left behind" false
            done <made
            [ "$failures" -gt 20 ] && finish
        done
        [ "$n" -gt 5 ] || ok "$what: faults were injected" false
    done
}

each_fault "libc, direct" 7 run -a libc -- sh -c 'touch ran; exit 7'
each_fault "pool, stats, JSON" 7 run -q -a pool -t stats --json report.json -- \
    sh -c 'touch ran; exit 7'
finish
