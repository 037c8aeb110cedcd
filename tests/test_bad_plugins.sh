#!/bin/bash
# test_bad_plugins.sh - a directory of plugins of which some are no good: each is named with
# what is wrong, the others are listed, and memopt outlives what they do when they are
# loaded. (What test_registry.c asks of the loader alone is not asked again.)
. "$top_srcdir/tests/run_lib.sh" || exit 99
bad=$top_builddir/tests/bad_plugins
good=$top_builddir/plugins/.libs/alloc-mmap.so
mkdir plugins
export MEMOPT_PLUGIN_PATH=$work/plugins

patched() { # NAME OFFSET BYTES: the good one with other bytes
    cp -L "$good" "plugins/$1"
    printf "$3" | dd of="plugins/$1" bs=1 seek="$2" conv=notrunc status=none
}
cp "$bad/alloc-exits.so" "$bad/alloc-aborts.so" plugins
cp "$bad/alloc-exits.so" plugins/track-exits.so
cp "$bad/alloc-exits.so" plugins/report-exits.so
head -c 5000 "$good" >plugins/alloc-cut.so
patched alloc-other.so 18 '\267\000'
echo nonsense >plugins/alloc-nonsense.so
mkdir plugins/alloc-directory.so
mkfifo plugins/alloc-pipe.so
ln -s /nowhere/at/all plugins/alloc-dangling.so
cp -L "$good" plugins/alloc-mmap.so

rows() { # KIND NAME REASON
    cat <<'END'
allocator exits can't be loaded: it ends the process that loads it, with exit status 0
tracker exits can't be loaded: it ends the process that loads it, with exit status 0
reporter exits can't be loaded: it ends the process that loads it, with exit status 0
allocator aborts can't be loaded: it ends the process that loads it, with SIGABRT
allocator cut is cut off: it ends after
allocator other is built for aarch64, not
allocator nonsense is not a shared object of this machine
allocator directory is not a file
allocator pipe is not a file
END
}

exits 0 "$memopt" plugins
cp out all
while read -r kind name reason; do
    file=plugins/$(case $kind in allocator) echo alloc ;; tracker) echo track ;; *) echo report ;; esac)-$name.so
    ok "the $kind $name is listed" grep -q "^$kind *$name " all
    says all "not available: plugin '$work/$file' $reason"
    exits 0 "$memopt" plugins "$name"
    says out "$reason"
    # nothing that names it goes on
    case $kind in
    allocator) with="-a $name" setting=memopt.allocator ;;
    tracker) with="-t $name" setting=memopt.trackers ;;
    reporter) with="-r $name" setting=memopt.reporters ;;
    esac
    exits 125 "$memopt" run $with -- touch "$work/ran"
    says err "$reason"
    ok "$name: the program was not started" test ! -e ran
    exits 2 "$memopt" config check --set "$setting=$name"
    says err "$reason"
    exits 2 "$memopt" config check --set "heap.x.allocator=$work/$file"
    says err "$work/$file' "
done < <(rows)
for name in mmap libc pool stats text json; do
    ok "$name is still there" grep -q "^[a-z]* *$name " all
    exits 0 "$memopt" plugins "$name"
    never out "not available"
done
# what trackers leave goes by their names
cp -L "$top_builddir/plugins/.libs/track-stats.so" "$work/track-stats.so"
exits 125 "$memopt" run -t "stats, $work/track-stats.so" -- touch "$work/ran"
says err "two trackers called 'stats'"
ok "two of a name: the program was not started" test ! -e ran
ok "no more than these" test "$(grep -c 'not available: plugin' all)" -eq "$(rows | wc -l)"
exits 0 "$memopt" plugins --json
[ -z "$python" ] || ok "and in JSON" "$python" - <<'PY'
import json
plugins = json.load(open("out"))["plugins"]
assert {p["name"] for p in plugins if not p["available"]} >= {"exits", "aborts", "cut", "other"}
assert {p["name"] for p in plugins if p["available"]} >= {"mmap", "libc", "pool", "stats", "text"}
PY
# one that nobody uses is in nobody's way
exits 0 "$memopt" run -q -a mmap -t stats -- touch ran
ok "the program was started" test -e ran

finish
