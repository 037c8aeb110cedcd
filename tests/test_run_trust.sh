#!/bin/bash
# test_run_trust.sh - the run directory can't be replaced by another user's, and what is not
# a run directory is not cleaned up. As two users, where the test is root's.
# in a /dev/shm of its own, if possible: other runs of memopt clean up, too
if [ -z "${MEMOPT_TEST_ALONE-}" ] && unshare -m true 2>/dev/null; then
    export MEMOPT_TEST_ALONE=yes
    # shellcheck disable=SC2016
    exec unshare -m sh -c 'mount -t tmpfs none /dev/shm; exec bash "$0"' "$0"
fi
. "$top_srcdir/tests/run_lib.sh" || exit 99
run="$memopt run"
is_root=$([ "$(id -u)" = 0 ] && id -u nobody >/dev/null 2>&1 && echo yes)
chmod 755 "$work"

# ---- where the directory may be: with /dev/shm full, TMPDIR if nobody else can replace it
if [ -n "$is_root" ] && unshare -m true 2>/dev/null; then
    # placed TMPDIR: a run prints its directory
    placed() {
        exits 0 env -u XDG_RUNTIME_DIR TMPDIR="$1" \
            unshare -m sh -c 'mount -t tmpfs -o size=64k none /dev/shm && exec "$@"' - \
            $run -q -- sh -c 'echo "$MEMOPT_RUN"'
        ok "there is a run directory with TMPDIR=$1" test -s out
    }
    mkdir -p bases/{own,sticky,theirs,theirs_sticky,open,group,parent/own}
    chown nobody bases/theirs bases/theirs_sticky bases/parent
    chmod 1777 bases/sticky bases/theirs_sticky
    chmod 777 bases/open
    chgrp nogroup bases/group 2>/dev/null || chgrp nobody bases/group
    chmod 775 bases/group
    ln -s parent/own bases/link
    ln -s own bases/good_link
    for base in own sticky good_link; do
        placed "$PWD/bases/$base"
        says out "$PWD/bases/"
    done
    for base in theirs theirs_sticky open group parent/own link; do
        placed "$PWD/bases/$base"
        never out "$PWD/bases/"
    done
    # and where there is no other place, it runs without one
    exits 5 env -u XDG_RUNTIME_DIR TMPDIR="$PWD/bases/theirs" unshare -m sh -c '
        mount -t tmpfs -o size=64k,mode=777 none /dev/shm && mount --bind /tmp /tmp &&
        mount -o remount,bind,ro /tmp && exec "$@"' - $run -- sh -c 'echo "x$MEMOPT_RUN"; exit 5'
    ok "none" grep -qx x out
    says err "another user could put another one in its place"
fi

# ---- one that is put in its place is not read: by a child, a grandchild, a fork
cat >evil.c <<'END'
#include <fcntl.h>
#include <unistd.h>
static __attribute__((constructor)) void start(void)
{
    close(open(MARKER, O_CREAT | O_WRONLY, 0600));
}
END
mkdir evil
if ${CC:-cc} -shared -fPIC -DMARKER="\"$work/marker\"" -o evil/alloc-evil.so evil.c; then
    cat >swap.sh <<'END'
# swap.sh HOW COMMAND...: the run directory goes away, another one comes, COMMAND runs
how=$1
shift
d=$MEMOPT_RUN
(: ) # a fork that has a ledger
mv "$d" "$d.away" || exit 90
mkdir "$d.planted" && cp --sparse=always "$d.away"/*.ini "$d.away/ledgers" "$d.planted/" &&
    chmod 711 "$d.planted"
printf '[memopt]\nallocator = evil\nplugin_path = %s/evil\n[heap.a]\nallocator = evil\n' \
    "$work" >"$d.planted/settings.ini"
printf '[run]\nallocator = evil\nfollow = yes\nplugin = %s/evil/alloc-evil.so\n' "$work" \
    >"$d.planted/run.ini"
chmod 644 "$d.planted"/*
case $how in
copy) mv "$d.planted" "$d" ;;
theirs) chown -R nobody "$d.planted" && mv "$d.planted" "$d" ;;
link) ln -s "$d.planted" "$d" ;;
back) ln -s "$d.away" "$d" ;; # even to the right one: who made the link can change it
esac
sum() { stat -L -c %b "$d/ledgers"; } # blocks: each record has its own
before=$(sum)
"$@"
status=$?
(: ) # a fork
[ "$(sum)" = "$before" ] && echo same >"$work/ledgers" || echo written >"$work/ledgers"
rm -rf "$d" "$d.planted"
mv "$d.away" "$d"
exit $status
END
    export work
    for how in copy link back ${is_root:+theirs}; do
        for options in "-a pool -t stats" "-a libc"; do
            # shellcheck disable=SC2086
            exits 4 $run $options -- bash swap.sh $how sh -c '(:); sh -c true; exit 4'
            ok "$how: the planted plugin is not loaded ($options)" test ! -e marker
            [ $how = back ] || ok "$how: nothing is written there" grep -q same ledgers
            [ "$options" = "-a libc" ] || says err "this process runs on the C library's malloc"
            rm -f marker
        done
        # a program of libmemopt's, which reads the configuration itself
        $run -q -a pool -t stats -- bash swap.sh $how "$top_builddir/tests/heap_program" >out 2>err
        ok "$how: not by libmemopt" test ! -e marker
        rm -f marker
    done
fi

# ---- the cleaner: what memopt has made and nothing else
if [ -w /dev/shm ]; then
    made() { named "$(mktemp -d "/dev/shm/memopt-$(id -u)-XXXXXX")"; }
    own=/dev/shm/memopt-$(id -u)-results-$$
    mkdir -m 700 "$own"
    unnamed=$(mktemp -d "/dev/shm/memopt-$(id -u)-XXXXXX")
    dead=$(made) with_file=$(made) with_folder=$(made) open=$(made) renamed=$(made) young=$(made)
    mv "$renamed" "$renamed"0
    renamed=${renamed}0
    for directory in "$own" "$unnamed" "$dead" "$with_file" "$with_folder" "$open" "$renamed" "$young"; do
        touch "$directory/ledgers" "$directory/settings.ini" "$directory/run.ini"
        ln -s "No space left on device" "$directory/999999999.missing"
    done
    touch "$own/results.csv" "$with_file/results.csv"
    mkdir "$with_folder/run"
    chmod 755 "$open"
    touch -d '1 hour ago' "$own" "$unnamed" "$dead" "$with_file" "$with_folder" "$open" "$renamed"
    exits 0 $run -q -- true
    ok "a dead run is removed" test ! -e "$dead"
    for directory in "$own" "$unnamed" "$with_file" "$with_folder" "$open" "$renamed" "$young"; do
        ok "$directory stays" test -e "$directory/settings.ini"
    done
    rm -rf "$own" "$unnamed" "$with_file" "$with_folder" "$open" "$renamed" "$young" "$dead"
fi
finish
