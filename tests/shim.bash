# shim.bash - one backend under the shim and by direct binding (memopt's own library
# preloaded by hand, too), with programs that are hard on an allocator. Sourced by
# tests/test_shim_BACKEND.sh.
#
# Every scenario is run without memopt first: exit status and output must be
# the same with it, within a time limit (a deadlock is a failure).

set -u
: "${top_srcdir:?}" "${top_builddir:?}"
unset MEMOPT_PLUGIN_PATH MEMOPT_CONF # a sanitized build points it at other plugins
backend=$(basename "$0" .sh)
backend=${backend#test_shim_}
programs=$top_builddir/tests/programs
memopt=$top_builddir/cli/memopt
hook=$programs/.libs/hook.so
[ -f "$top_builddir/plugins/.libs/alloc-$backend.so" ] || { echo "no $backend in this build"; exit 77; }

[ -x "$programs/static" ] || { echo "tests/programs is not built: make check TESTS="; exit 99; }
work=$(mktemp -d) || exit 99
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 99
export XDG_CONFIG_HOME=$work HOME=$work
fails=0
bad() { echo "FAIL: $backend, $*"; fails=$((fails + 1)); }

# what each mode adds to `memopt run`; some have no direct binding
shimmed="dispatch stats"
case $backend in
libc | jemalloc | tcmalloc | mimalloc) modes="$shimmed direct" ;;
pool) modes="hand $shimmed direct" ;;
*) modes=$shimmed ;;
esac
settings= # more of them, for some of the tests
arguments() {
    case $1 in
    dispatch) echo "--set memopt.binding=dispatch --set memopt.trackers=" ;;
    stats) echo "--set memopt.binding=dispatch -t stats" ;;
    direct) echo "--set memopt.binding=direct --set memopt.trackers=" ;;
    esac
    if [ "$backend" = arena ]; then echo "--set allocator.arena.size=1GiB"; fi
    echo "$settings"
}
run() { # MODE COMMAND...
    local mode=$1
    shift
    if [ "$mode" = hand ]; then
        LD_PRELOAD=$top_builddir/plugins/.libs/libmemopt-$backend.so${LD_PRELOAD:+:$LD_PRELOAD} \
            timeout -k 5 300 "$@"
        return
    fi
    # shellcheck disable=SC2046
    timeout -k 5 300 "$memopt" run -a "$backend" $(arguments "$mode") -- "$@"
}

# same MODES NAME COMMAND...: as without memopt?
same() {
    local in=$1 name=$2 want mode got binding
    shift 2
    timeout -k 5 300 "$@" >expected 2>expected.err
    want=$?
    for mode in $in; do
        run "$mode" "$@" >got 2>got.err
        got=$?
        binding=$mode
        [ "$mode" = stats ] && binding=dispatch
        if [ $got != $want ]; then
            bad "$mode, $name: exit status $got, not $want"
            tail -5 got.err
        elif ! cmp -s expected got; then
            bad "$mode, $name: other output"
            diff expected got | head -10
        elif [ "$mode" != hand ] && ! grep -q "on $backend.*($binding)" got.err; then
            bad "$mode, $name: the summary doesn't say that it ran on $backend ($binding)"
            head -3 got.err
        fi
    done
}

# glibc's semantics are what dispatch promises; bound directly, a library has its own
case $backend in jemalloc | tcmalloc | mimalloc) as_glibc=$shimmed ;; *) as_glibc=$modes ;; esac
if [ -x "$programs/../test_semantics" ]; then # there is cmocka
    same "$as_glibc" test_semantics "$programs/../test_semantics"
    same "$shimmed" test_malloc_cancel "$programs/../test_malloc_cancel"
fi
# free() of these passes on in errno what the kernel refused, by hand too; keeping it would
# cost each free more than all of dispatch (memopt-run(1))
case $backend in
jemalloc | tcmalloc | mimalloc) ;;
*) same "$shimmed" test_malloc_errno "$programs/../test_malloc_errno" ;;
esac
for scenario in come-and-go out-of-memory forked-while-allocating forked-inside-malloc; do
    # these take their own locks in fork, and so they hang, preloaded by hand too
    case $backend-$scenario in jemalloc-*-inside-* | tcmalloc-*-inside-*) continue ;; esac
    same "$shimmed" $scenario "$programs/../test_malloc_threads" $scenario
done
# and where each page that is free goes back to the kernel at once
if [ "$backend" = pool ]; then
    settings="--set allocator.pool.purge_delay=0"
    same "$shimmed" "errno, with $settings" "$programs/../test_malloc_errno"
    settings=
fi
same "$as_glibc" "operator new" "$programs/cxx_new"
# bound directly, a program does what it does with the library preloaded by hand
case $backend in
jemalloc) library=libjemalloc.so.2 ;;
tcmalloc) library=libtcmalloc_minimal.so.4 ;;
mimalloc) library=libmimalloc.so.2 ;;
*) library= ;;
esac
if [ -n "$library" ]; then
    timeout -k 5 300 env LD_PRELOAD=$library "$programs/cxx_new" >expected 2>expected.err
    want=$?
    timeout -k 5 300 "$memopt" run -a "$backend" $(arguments direct) -- "$programs/cxx_new" \
        >got 2>got.err
    got=$?
    { [ $got = $want ] && cmp -s expected got; } ||
        bad "direct, operator new: exit status $got, by hand $want"
fi
# C++'s operators are the library's own, if it has them
case $backend in
jemalloc | tcmalloc | mimalloc) own_new=$shimmed ;;
pool) own_new=${modes%direct} ;; # it has none, but is a library to memopt run
*) own_new=$modes ;;
esac
same "$own_new" "the program's operator new" "$programs/cxx_own_new"
for scenario in start-programs quick-exit fork-exit thread-exit exit-with-threads atexit signals \
    signal-malloc constructors cross-threads close-all cancelled; do
    same "$modes" $scenario "$programs/behaviour" $scenario
done
# guard's records name the thread, which takes a system call
[ "$backend" = guard ] || same "$modes" shut-in "$programs/behaviour" shut-in
# as a child, as nobody can see before that it brings its own
for program in own_malloc own_malloc_whole; do
    # shellcheck disable=SC2016
    same "$modes" "a child's $program" sh -c '"$0"; exit $?' "$programs/$program"
done
same "$modes" dlopen "$programs/behaviour" dlopen "$hook"

# Without memopt jemalloc and tcmalloc hang here; the C library doesn't, and so
# nothing may under memopt.
same "$modes" fork-storm "$programs/behaviour" fork-storm

# Nor here, where the program ends within an allocation that a signal interrupts.
same "$modes" signal-exit "$programs/behaviour" signal-exit

# a library of the user's, preloaded too, that allocates in its constructor
# (in a sanitized build it is before the sanitizer in memopt, too)
export LD_PRELOAD=$hook ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}verify_asan_link_order=0
same "$modes" "a preloaded library" "$programs/behaviour" preloaded
unset LD_PRELOAD

# the children that can't have a ledger leave their parent's alone
same "$modes" no-address-space "$programs/behaviour" no-address-space
# shellcheck disable=SC2046
"$memopt" run -q -a "$backend" $(arguments stats) --json space.json -- \
    "$programs/behaviour" no-address-space >/dev/null
freed=$(sed -n '/"counts"/,/}/s/.*"frees": \([0-9]*\).*/\1/p' space.json | head -1)
{ [ "${freed:-0}" -ge 1000 ] && [ "$freed" -lt 2000 ]; } ||
    bad "no-address-space: $freed frees counted, expected those of the parent"
[ "$(grep -cE 'is not counted|not recorded and not counted' space.json)" = 3 ] ||
    bad "no-address-space: the report doesn't say that three children are missing"

# a limit that leaves enough for the program leaves enough for it with memopt
case $backend in
libc | jemalloc)
    same "$shimmed" "a limited shell" \
        bash -c "ulimit -v 150000; printf '%*s\n' 3000000 a | sort | wc -c"
    ;;
esac

# killed: the ledger has what was counted until then
# shellcheck disable=SC2046
"$memopt" run -q -a "$backend" $(arguments stats) --json counted.json -- \
    bash -c 'echo $$ >pid; exec "$0" killed' "$programs/behaviour" >ready &
launcher=$!
for _ in $(seq 1200); do [ -s ready ] && break; sleep 0.05; done
kill -KILL "$(cat pid)"
wait $launcher
got=$?
[ $got = 137 ] || bad "killed: exit status $got, not 137"
number() { sed -n "/\"counts\"/,/}/s/.*\"$1\": \([0-9]*\).*/\1/p" counted.json | head -1; }
[ "$(number allocations)" -ge 1000 ] && [ "$(number live_bytes)" -ge 1000000 ] ||
    bad "killed: counted $(number allocations) allocations, $(number live_bytes) bytes live"
grep -q '"exit_signal": 9' counted.json || bad "killed: the report doesn't name the signal"

# what memopt does in the program is not counted as the program's
# shellcheck disable=SC2046
"$memopt" run -q -a "$backend" $(arguments stats) --json counted.json -- \
    "$programs/behaviour" nothing
[ "$(number allocations)" = 1 ] || bad "nothing: counted $(number allocations) allocations, not 1"

# programs that the program starts: followed, or not
children() { # FOLLOW
    # shellcheck disable=SC2046
    timeout 300 "$memopt" run -q -a "$backend" $(arguments stats) --set "memopt.follow=$1" \
        --json "$1.json" -- bash -c '"$0" churn; "$0" churn; exit 4' "$programs/behaviour"
    [ $? = 4 ] || bad "follow=$1: exit status"
    local count
    # those not followed may have been seen from outside
    count=$(grep -A 5 '"program": ".*/behaviour"' "$1.json" | grep -c "\"allocator\": \"$backend\"")
    [ "$count" = "$2" ] || bad "follow=$1: the report has $count of the started programs, not $2"
}
children yes 2
case $modes in
*direct)
    [ "$own_new" != "$shimmed" ] || { # as children they are bound before they are known
        # shellcheck disable=SC2046
        "$memopt" run -q -a "$backend" $(arguments direct) --json operators.json -- \
            bash -c '"$0"; exit 0' "$programs/cxx_own_new" >/dev/null 2>&1
        grep -q 'not all forms of it' operators.json ||
            bad "direct, a child's own operator new: there is no warning"
    }
    ;;
esac
children no 0

[ $fails = 0 ] && echo "$backend: all the same in modes: $modes"
exit $((fails != 0))
