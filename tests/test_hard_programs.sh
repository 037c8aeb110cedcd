#!/bin/bash
# Programs that do what broke memopt in real ones (tests/programs/hard), on every backend:
# dispatched and with the stats tracker they behave as without memopt, bound directly as with
# the library preloaded by hand. What each does is at the top of its source.
. "${top_srcdir:?}/tests/run_lib.sh"
CC=${CC:-cc} CXX=${CXX:-c++}
source=$top_srcdir/tests/programs/hard
case $source in /*) ;; *) source=$OLDPWD/$source ;; esac
$CC -v >/dev/null 2>&1 || { echo "no C compiler to build the programs with"; exit 77; }
export ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}verify_asan_link_order=0

# c OUTPUT SOURCE ARGUMENT..., cxx likewise
c() { $CC -std=gnu17 -O1 -fno-builtin -pthread -o "$1" "$source/$2" "${@:3}" || exit 99; }
cxx() { $CXX -std=gnu++17 -O1 -fno-builtin -pthread -o "$1" "$source/$2" "${@:3}" || exit 99; }
c addresses addresses.c -fno-pie -no-pie
cxx addresses_cxx addresses_cxx.cc -fno-pie -no-pie -fsized-deallocation
cxx exhausted exhausted.cc
cxx exhausted.so exhausted.cc -shared -fPIC -DLIBRARY
c loader loader.c
c ends ends.c
for how in "next" "next whole" "libc" "libc whole"; do
    defines=
    case $how in *next*) defines=-DNEXT ;; esac
    case $how in *whole*) defines="$defines -DWHOLE" ;; esac
    name=${how/ /_}
    # shellcheck disable=SC2086
    c "wrapped_$name" wrapped.c $defines "$source/wrap.c" -rdynamic
    # shellcheck disable=SC2086
    c "wrap_$name.so" wrap.c $defines -shared -fPIC
done
c wrapped wrapped.c
cxx libsymbolic.so symbolic.cc -shared -fPIC -Wl,-Bsymbolic
cxx symbolic symbolic_main.cc -L. -lsymbolic -Wl,-rpath,"$PWD"
c deep deep.c -DPROGRAM
c deep.so deep.c -shared -fPIC
cxx libearly.so early.cc -shared -fPIC
c early early_main.c -L. -learly -Wl,-rpath,"$PWD"
c shares shares.c
c fork_in_handler fork_in_handler.c
c filtered filtered.c

library() {
    case $1 in
    jemalloc) echo libjemalloc.so.2 ;;
    tcmalloc) echo libtcmalloc_minimal.so.4 ;;
    mimalloc) echo libmimalloc.so.2 ;;
    pool) find "$top_builddir" -name libmemopt-pool.so -type f | head -1 ;;
    esac
}

# as_bare WHAT BACKENDS COMMAND...: the same output and exit status
with() { # BACKEND MODE
    case $2 in
    direct) echo "-a $1 --set memopt.binding=direct" ;;
    dispatch) echo "-a $1 --set memopt.binding=dispatch" ;;
    stats) echo "-a $1 -t stats" ;;
    esac
    [ "$1" != arena ] || echo "--set allocator.arena.size=1GiB"
}
compare() { # WHAT BACKEND MODE COMMAND...
    local what="$1 on $2 ($3)" status want=$want
    # shellcheck disable=SC2046
    timeout -k 5 120 "$memopt" run $(with "$2" "$3") -- "${@:4}" >got 2>got.err
    status=$?
    # bound directly, it may also be better than by hand
    if [ "$3" = direct ] && [ $status = $bare ] && cmp -s bare got; then
        return
    fi
    if [ $status != "$want" ] || ! cmp -s expected got; then
        echo "FAIL: $what: exit status $status, not $want; output:"
        diff expected got | head -5
        tail -3 got.err
        failures=$((failures + 1))
    fi
}
as_bare() {
    local what=$1 backends=$2 backend mode want
    shift 2
    timeout -k 5 120 "$@" >bare 2>bare.err
    bare=$?
    for backend in $backends; do
        have_allocator "$backend" || continue
        for mode in dispatch stats; do
            want=$bare
            cp bare expected
            compare "$what" "$backend" $mode "$@"
        done
        case $backend in
        libc) by_hand=$bare && cp bare expected ;;
        jemalloc | tcmalloc | mimalloc | pool)
            timeout -k 5 30 env LD_PRELOAD="$(library "$backend")" "$@" >expected 2>bare.err
            by_hand=$?
            ;;
        *) continue ;;
        esac
        [ $by_hand != 124 ] && [ $by_hand != 137 ] || continue # it hangs by hand, too
        want=$by_hand
        compare "$what" "$backend" direct "$@"
    done
}
general="libc jemalloc tcmalloc mimalloc pool"
all="$general arena mmap guard"

as_bare "addresses" "$all" ./addresses
as_bare "addresses of operators" "$all" ./addresses_cxx
as_bare "addresses, a child" "$general" sh -c './addresses; ./addresses_cxx; exit 3'
as_bare "memory exhausted" "$general" ./exhausted limit
as_bare "memory exhausted, a child" "$general" sh -c 'ulimit -v 300000; ./exhausted; exit 3'
as_bare "memory exhausted, a loaded run-time" "$general" ./loader ./exhausted.so
as_bare "an operator of a symbolic library" "$all" ./symbolic
as_bare "an operator of a symbolic library, a child" "$general" sh -c './symbolic; exit 3'
as_bare "a large table of a constructor" "$general" ./early
as_bare "a large table of a constructor, with little address space" "libc jemalloc" \
    sh -c 'ulimit -v 2000000; ./early; exit 3'
as_bare "a fork in a handler of a fork" "$all" ./fork_in_handler
for how in next next_whole libc libc_whole; do
    as_bare "wrapped, $how" "$general" "./wrapped_$how"
    as_bare "wrapped, $how, a child" "$general" sh -c "./wrapped_$how; exit 3"
    as_bare "wrapped before, $how" "$general" \
        sh -c "LD_PRELOAD=$PWD/wrap_$how.so\${LD_PRELOAD:+:\$LD_PRELOAD} ./wrapped; exit 3"
done

# [heap.default] limit: the exception, and NULL
"$memopt" run -q --set heap.default.limit=100MiB -- ./exhausted >out 2>err
says out "main 1, thread 1, child 0"
exits 0 "$memopt" run -q --set heap.default.limit=100MiB -- ./shares
ok "a limit is each process's own" test "$(grep -c ' 0$' out)" = 5

# RTLD_DEEPBIND: on any allocator, which none manages by hand
./deep ./deep.so >bare
bare=$? want=$?
cp bare expected
for backend in $general; do
    for mode in direct dispatch stats; do
        have_allocator "$backend" && compare "RTLD_DEEPBIND" "$backend" $mode ./deep ./deep.so
        if [ "$backend" != libc ]; then
            says got.err "without RTLD_DEEPBIND ('./deep.so' is the first)"
        else
            never got.err RTLD_DEEPBIND
        fi
    done
done

# a filter that nobody announces; a probe that fails shuts nothing
for mode in direct dispatch stats; do
    for how in "good 5" "bad 159" "_exit 6"; do
        # shellcheck disable=SC2046
        exits "${how#* }" "$memopt" run $(with libc $mode) -- ./filtered "${how% *}"
        says out "shut in"
    done
    # shellcheck disable=SC2046
    exits 0 "$memopt" run --json probe.json $(with libc $mode) -- sh -c './filtered probe; exit 0'
    says err "exit status 4"
    never err "given up privileges"
done

# how children and grandchildren ended
cat >ends.py <<'PY'
import json, sys
said = {}
for line in open("ends.out"):
    pid, how, status = line.split()
    said.setdefault(int(pid), []).append((how, int(status)))
report = json.load(open("ends.json"))
assert report["exit_status"] == 3, report["exit_status"]
last = {}
for process in report["processes"]:
    last[process["pid"]] = process
bad = 0
for pid, ((how, status),) in said.items():
    process = last[pid]
    end, value = process["end"], process["end_value"]
    if how == "grandchildren":
        status = 3
    good = end == "exit" and value == status if status < 256 else end != "exit"
    if not good:
        print(pid, how, status, "in the report:", end, value)
        bad = 1
sys.exit(bad)
PY
if [ -n "$python" ]; then
    for backend in libc mimalloc; do
        for mode in direct dispatch stats; do
            # shellcheck disable=SC2046
            exits 3 "$memopt" run -q --json ends.json $(with $backend $mode) -- ./ends
            cp out ends.out
            ok "the ends of children on $backend ($mode)" "$python" ends.py
        done
    done
fi

# little room: the program goes on
as_bare "little address space" "libc jemalloc mimalloc pool" \
    sh -c 'ulimit -v 40000; /bin/echo one; ulimit -v 12000; /bin/echo two; exit 3'
as_bare "a small stack" "$general" sh -c 'ulimit -s 64; /bin/echo one; exit 3'
exits 3 sh -c "ulimit -s 64; exec $memopt run -t stats -- sh -c 'exit 3'"
says err "exit status 3"
finish
