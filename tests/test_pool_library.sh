#!/bin/bash
# libmemopt-pool.so, which exports malloc: preloaded by hand, bound directly and behind
# the shim it is the same library with the same settings, in children as well. Hard and
# real programs on it, by hand too, are in test_shim_pool.sh and test_real_programs.sh.
. "${top_srcdir:?}/tests/run_lib.sh"
program=$top_builddir/tests/programs/pool_library
library=$top_builddir/plugins/.libs/libmemopt-pool.so
run="$memopt run -q -a pool"
[ -x "$program" ] || { echo "tests/programs is not built: make check TESTS="; exit 99; }
# a sanitized memopt insists on being first
export ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}verify_asan_link_order=0

hand() { LD_PRELOAD=$library timeout -k 5 300 "$@"; }
direct() { timeout -k 5 300 $run --set memopt.binding=direct --set memopt.trackers= -- "$@"; }
dispatch() { timeout -k 5 300 $run --set memopt.binding=dispatch --set memopt.trackers= -- "$@"; }
stats() { timeout -k 5 300 $run -t stats -- "$@"; }

# ---- a program at a fixed address that takes the functions' addresses; its child and
# ---- grandchild
for way in hand direct dispatch stats; do
    exits 0 $way "$program" addresses
    says out "all of them are the library's"
    exits 0 $way sh -c '"$0" addresses; sh -c "$0 addresses; exit 0"; exit 0' "$program"
    ok "$way: children" test "$(grep -c "all of them are the library's" out)" -eq 2
done

# ---- fork in a handler that interrupts fork, among threads; fork while others have
# ---- stdio's locks and need memory
exits 0 hand "$program" nested-fork
says out "nested-fork: some"
for way in hand direct dispatch; do
    exits 0 $way "$program" stdio-fork
done

# ---- direct is the default, without a tracker
exits 0 $memopt run -a pool -- true
says err "on pool (direct)"

# ---- the settings, however they come
defaults="100000000 67108864 0 0 0"
cat >settings.table <<'END'
100000000 67108864 0 0 0|
0 1073741824 1 1 1|purge_delay=0 huge_cache=1GiB huge_pages=yes populate=on check_free=true
3600000000000 0 0 0 0|purge_delay=1h huge_cache=0 huge_pages=no check_free=0
1500000 4096 0 0 1|purge_delay=1500us huge_cache=4096 check_free=1
END
while IFS='|' read -r expected list; do
    sets=() variable=
    for one in $list; do
        sets+=(--set "allocator.pool.$one")
        variable=$variable,$one
    done
    MEMOPT_POOL_OPTIONS=$variable exits 0 hand "$program" settings
    says out "$expected"
    ok "a valid list says nothing" test ! -s err
    for binding in direct dispatch; do
        # of the user's own variable nothing is left, as [allocator.pool] has all of them
        MEMOPT_POOL_OPTIONS=huge_pages=yes,purge_delay=7s exits 0 $run \
            --set memopt.binding=$binding --set memopt.trackers= "${sets[@]}" -- "$program" settings
        says out "$expected"
    done
done <settings.table

# ---- what isn't valid is named and left out, the rest applies
for bad in purge_delay=5 purge_delay=2h purge_delay=1x purge_delay= purge_delay purge_delays=1s \
    huge_cache=1TB huge_cache=2TiB huge_cache=99999999999999999999 huge_cache=-1 check_free=2 \
    check_free=maybe =1 x; do
    MEMOPT_POOL_OPTIONS=$bad,populate=yes exits 0 hand "$program" settings
    says out "100000000 67108864 0 1 0"
    says err "memopt: pool: MEMOPT_POOL_OPTIONS: '$bad' is not a valid setting and is ignored"
done
exits 125 $run --set allocator.pool.purge_delay=2h -- touch ran
says err "purge_delay"
ok "and nothing is run" test ! -e ran

# ---- before anybody's constructor: a library that allocates in its own
hook=$top_builddir/tests/programs/.libs/hook.so
for order in "$hook:$library" "$library:$hook"; do
    LD_PRELOAD=$order MEMOPT_POOL_OPTIONS=check_free=1 exits 0 "$program" settings
    says out "100000000 67108864 0 0 1"
done

# ---- a double free is found, and says whose library it is
cat >twice.c <<'C'
#include <stdlib.h>
int main(void) {
    char *volatile p = malloc(100), *volatile q = malloc(100);
    free(p), free(q), free(p);
    return 0;
}
C
if have "${CC%% *}" && ${CC:-cc} -O0 -w twice.c -o twice; then
    MEMOPT_POOL_OPTIONS=check_free=1 exits 134 hand ./twice
    says err "memopt: pool: free(0x"
    says err "double free"
fi

exit $((failures > 0))
