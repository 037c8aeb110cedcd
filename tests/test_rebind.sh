#!/bin/bash
# Where the program's own calls of malloc and free lead under dispatch: past the shim
# if there is nothing to do per call, through it otherwise (preload/rebind.c).
set -u
: "${top_srcdir:?}" "${top_builddir:?}"
unset MEMOPT_PLUGIN_PATH MEMOPT_CONF
programs=$top_builddir/tests/programs
hook=$programs/.libs/hook.so
[ -x "$programs/slots_fixed" ] || { echo "tests/programs is not built: make check TESTS="; exit 99; }
[ "$(uname -m)" = x86_64 ] || { echo "only x86-64 rebinds"; exit 77; }
work=$(mktemp -d) || exit 99
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 99
export XDG_CONFIG_HOME=$work HOME=$work
# a sanitized build's programs come before the sanitizer
export ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}verify_asan_link_order=0
fails=0

# leads WHAT EXPECTED COMMAND... : EXPECTED is "MALLOC FREE" of the program
leads() {
    local what=$1 want=$2 status got
    shift 2
    timeout -k 5 600 "$@" >out 2>err
    status=$?
    [ $status = 77 ] && { echo "skipped: $what: $(cat out)"; return; }
    got=$(sed -n 's/^program malloc: //p' out)" "$(sed -n 's/^program free: //p' out)
    if [ $status != 0 ] || [ "$got" != "$want" ]; then
        echo "FAIL: $what: malloc and free lead '$got', not '$want' (status $status)"
        cat err
        fails=$((fails + 1))
    elif grep -q '^same address: no' out; then
        echo "FAIL: $what: malloc has two addresses"
        fails=$((fails + 1))
    fi
}

memopt() { "$top_builddir/cli/memopt" run -q --set memopt.binding=dispatch "$@"; }
export -f memopt
export top_builddir

checked=0
for backend in libc jemalloc tcmalloc mimalloc pool; do
    [ -f "$top_builddir/plugins/.libs/alloc-$backend.so" ] || continue
    checked=$((checked + 1))
    # jemalloc is preloaded with the C++ run-time, which takes memory at once and keeps it
    free=past
    run=(bash -c 'memopt "$@"' memopt -a $backend)
    for program in slots slots_now slots_fixed; do
        leads "$backend, $program" "past $free" "${run[@]}" -t '' -- "$programs/$program"
    done
    leads "$backend, bound at once" "past $free" \
        env LD_BIND_NOW=1 "${run[@]}" -t '' -- "$programs/slots"

    # memory from before the constructor is about, and comes to be freed
    leads "$backend, a library that allocates early" "past shim" \
        env LD_PRELOAD="$hook" "${run[@]}" -t '' -- "$programs/slots"
    leads "$backend, the same in pages that are protected" "past shim" \
        env LD_PRELOAD="$hook" "${run[@]}" -t '' -- "$programs/slots_now"

    # what is loaded later is served by the shim
    leads "$backend, with a library that is loaded later" "past $free" \
        "${run[@]}" -t '' -- "$programs/slots" "$hook"
    if [ "$(grep -c '^library .*: shim' out)" != 2 ]; then
        echo "FAIL: $backend: the library that is loaded later does not go through the shim"
        cat out
        fails=$((fails + 1))
    fi

    # there is something to do per call
    leads "$backend, a tracker" "shim shim" "${run[@]}" -t stats -- "$programs/slots_now"
    leads "$backend, a limit" "shim shim" \
        "${run[@]}" -t '' --set heap.default.limit=1GiB -- "$programs/slots_now"

    # it can't be done, or isn't wanted (jemalloc itself doesn't start under an auditor)
    leads "$backend, pages that stay protected" "shim shim" \
        "${run[@]}" -t '' -- "$programs/slots_now" --no-mprotect
    [ $backend = jemalloc ] || leads "$backend, an auditor" "shim shim" \
        "${run[@]}" -t '' -- env LD_AUDIT=/nonexistent "$programs/slots_now"
done
# blocks that need more than C's malloc: the table's wrappers stay in between
leads "a backend that sets no errno" "shim shim" bash -c 'memopt "$@"' memopt -a mmap -t '' -- \
    "$programs/slots_now"

[ $fails = 0 ] && echo "$checked backends: calls lead past the shim where they may"
exit $((fails != 0))
