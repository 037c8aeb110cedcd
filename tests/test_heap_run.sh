#!/bin/sh
# Named heaps in a program under `memopt run`: configured from outside, counted
# in the process's ledger, over every backend, bound directly and dispatched.
set -u
case ${SANITIZE_CFLAGS:-} in
*=address* | *=thread*)
    echo "a program with a sanitizer keeps the sanitizer's malloc"
    exit 77
    ;;
esac
run="$top_builddir/cli/memopt run"
program="$top_builddir/tests/heap_program"
# without libtool's wrapper script, which would be watched in its place
[ -x "$top_builddir/tests/.libs/heap_program" ] && program="$top_builddir/tests/.libs/heap_program"
LD_LIBRARY_PATH="$top_builddir/.libs${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export LD_LIBRARY_PATH
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
MEMOPT_CONF=$dir/memopt.ini
XDG_CONFIG_HOME=$dir
export MEMOPT_CONF XDG_CONFIG_HOME
: > "$MEMOPT_CONF"
failures=0

fail() {
    echo "FAIL: $*"
    sed 's/^/  out: /' "$dir/out"
    sed 's/^/  err: /' "$dir/err"
    failures=$((failures + 1))
}

# check NAME STATUS COMMAND...
check() {
    name=$1 want=$2
    shift 2
    "$@" > "$dir/out" 2> "$dir/err"
    got=$?
    [ $got -eq "$want" ] || fail "$name: exit status $got, not $want"
}
has() { # FILE PATTERN
    grep -Eq -- "$2" "$dir/$1" || fail "$name: no '$2' in std$1"
}
hasnt() {
    ! grep -Eq -- "$2" "$dir/$1" || fail "$name: '$2' in std$1"
}

# every backend that is built, both ways
for plugin in "$top_builddir"/plugins/.libs/alloc-*.so; do
    allocator=${plugin##*/alloc-}
    allocator=${allocator%.so}
    [ "$allocator" != arena ] || continue # one region a heap
    for binding in auto dispatch; do
        check "$allocator, $binding" 0 $run -a "$allocator" --set memopt.binding=$binding \
            "$program"
        has out "^a on $allocator, b on $allocator\$"
        has err "^ *heap 'a' .* [0-9.]+ KiB live in 1 block, on $allocator\$"
        has err "^ *heap 'b' .* [0-9.]+ [KM]iB live in 1 block, on $allocator\$"
        check "$allocator, $binding, default" 0 $run -a "$allocator" \
            --set memopt.binding=$binding "$program" default
        has out "^default is $allocator\$"
    done
done

# trackers see every block of every heap, whatever serves it, and none of memopt's own
counts() { # ARGUMENT: allocations, frees, reallocations, zeroed, aligned, failures, live blocks
    "$PYTHON" - "$dir/report.json" "$1" <<'END'
import json, sys
process = json.load(open(sys.argv[1]))["processes"][0]
c = process["counts"]
print(*(c[k] for k in ("allocations", "frees", "reallocations", "zeroed", "aligned", "failures", "live_blocks")))
for heap in process.get("heaps", []):
    if sys.argv[2] == "count":
        print(heap["name"], heap["allocations"], heap["frees"], heap["live_blocks"])
END
}
PYTHON=$(command -v python3)
for plugin in "$top_builddir"/plugins/.libs/alloc-*.so; do
    [ -n "$PYTHON" ] || break
    allocator=${plugin##*/alloc-}
    allocator=${allocator%.so}
    [ "$allocator" != arena ] || continue
    for own in libc pool mimalloc; do
        [ -e "$top_builddir/plugins/.libs/alloc-$own.so" ] || continue
        for what in malloc opened count; do
            check "$what, heaps on $own, malloc on $allocator" 0 $run -a "$allocator" -t stats \
                -r json --set "reporter.json.output=$dir/report.json" \
                --set heap.counted.allocator=$own --set heap.gone.allocator=$own "$program" $what
            counts $what > "$dir/out"
            case $what in
            count)
                has out '^1507 1255 100 100 100 2 252$'
                has out '^counted 1400 1150 250$'
                has out '^gone 100 100 0$'
                ;;
            *) has out '^7 5 0 0 0 0 2$' ;;
            esac
        done
    done
done

# the limit of malloc is kept once, and has one row, whoever asks for it
check "a limit of the default heap" 0 $run -a libc --set heap.default.limit=100MiB "$program" default
has err "KiB live in 1 block, limit 100 MiB,"
[ "$(grep -c "heap 'default'" "$dir/err")" = 1 ] || fail "$name: not one row of the default heap"

check "a heap's own allocator" 0 $run -a libc --set heap.b.allocator=mmap "$program"
has out '^a on libc, b on mmap$'

check "the INI's heaps" 0 $run -c "$MEMOPT_CONF" --set heap.a.limit=1MiB "$program"
has err "^ *heap 'a' .* live in 1 block, limit 1.00 MiB, on libc$"

check "a limit from outside" 4 $run --set heap.b.limit=300KiB "$program"
has err 'heap_program: Cannot allocate memory'
has err "^ *heap 'b' +0 B peak, 0 B live in 0 blocks, limit 300 KiB, 1 refused,$"

check "killed" 137 $run -a libc "$program" kill
has err "^ *heap 'a' .* 1[0-9.]+ KiB live in .* on libc$"
has err "^ *heap 'b' .* 6[0-9.]+ KiB live in .* on libc$"

check "destroyed" 0 $run "$program" destroy
has err "^ *heap 'b' +6[0-9.]+ KiB peak, 0 B live in 0 blocks, on libc$"

check "forked" 0 $run "$program" fork
has err "^ *heap 'a' .* (9|10)[0-9.]+ KiB live in .* on libc$"

# memopt_init's file gives what the run does not say
cat > "$dir/own.ini" <<END
[heap.a]
allocator = mmap
[heap.b]
allocator = mmap
END
check "memopt_init alone" 0 "$program" init "$dir/own.ini"
has out '^a on mmap, b on mmap$'
check "memopt_init under a run" 0 $run --set heap.b.allocator=pool "$program" init "$dir/own.ini"
has out '^a on mmap, b on pool$'
check "memopt_init without its file" 10 $run "$program" init "$dir/none.ini"
has err "heap_program: .*none.ini"

# memopt's own library: one copy of it, by whatever way it came in
printf '[heap.a]\nallocator = pool\n' > "$MEMOPT_CONF"
for way in "env LD_PRELOAD=$top_builddir/plugins/.libs/libmemopt-pool.so" \
    "$run -a pool --set memopt.binding=direct" "$run -a pool --set memopt.binding=dispatch"; do
    check "one library, $way" 0 $way "$program" one libmemopt-pool.so
    has out '^1 of libmemopt-pool.so, a on pool$'
done

# fork among threads that are in stdio and in a heap, without the shim's handlers
for allocator in libc mmap pool guard tcmalloc mimalloc jemalloc; do
    [ -e "$top_builddir/plugins/.libs/alloc-$allocator.so" ] || continue
    printf '[heap.a]\nallocator = %s\n' "$allocator" > "$MEMOPT_CONF"
    # room for jemalloc's thread-local storage
    check "fork storm, $allocator" 0 env GLIBC_TUNABLES=glibc.rtld.optional_static_tls=8192 \
        "$program" storm
    has out '^storm over$'
done
: > "$MEMOPT_CONF"

# fork in handlers that interrupt fork, with the handlers of the agent or the shim in between
forks="$top_builddir/tests/test_fork"
[ -x "$top_builddir/tests/.libs/test_fork" ] && forks="$top_builddir/tests/.libs/test_fork"
for allocator in libc pool jemalloc; do
    [ -e "$top_builddir/plugins/.libs/alloc-$allocator.so" ] || continue
    for binding in direct dispatch; do
        check "forks in handlers, $allocator, $binding" 0 $run -a $allocator \
            --set memopt.binding=$binding "$forks" "inside-fork, threads"
    done
done

# libmemopt through a relative LD_LIBRARY_PATH, from a program elsewhere that has
# changed its directory: the plugins are where the library is
cp "$program" "$dir/elsewhere"
for mode in plain chdir; do
    check "a relative LD_LIBRARY_PATH, $mode" 0 sh -c 'cd "$1" && LD_LIBRARY_PATH=.libs exec "$2" "$3"' \
        sh "$top_builddir" "$dir/elsewhere" "$mode"
    has out '^a on libc, b on libc$'
done

# a report from inside: without a run, and one more besides the run's
check "report alone" 0 "$program" report
has err "^ *heap 'a' .* [0-9.]+ KiB live in .* on libc$"
check "report under a run" 0 $run -t stats "$program" report
[ "$(grep -Ec "^ *heap 'a' .* on libc$" "$dir/err")" -eq 2 ] || fail "$name: not two reports"
[ "$(grep -Ec 'allocations +[0-9]' "$dir/err")" -eq 2 ] || fail "$name: not two counts"
hasnt err 'exit status [1-9]'
# each report from inside is of its own process's record: of a child, and of a process that
# was another program before
check "reports of a child and after exec" 0 $run -q -t stats sh -c '"$1" report && exec "$1" report' \
    sh "$program"
[ "$(grep -Ec '^memopt: heap_program: still running, on libc' "$dir/err")" -eq 2 ] ||
    fail "$name: not two reports"
[ "$(grep -Ec 'allocations +[0-9]' "$dir/err")" -eq 2 ] || fail "$name: not two counts"
hasnt err 'other process'

[ $failures -eq 0 ] || exit 1
echo "all passed"
