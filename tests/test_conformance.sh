#!/bin/bash
# test_conformance.sh - memopt plugins --test: each defect is found by the case that is
# there for it, and said with what was promised; plugins that conform pass.
. "$top_srcdir/tests/run_lib.sh" || exit 99

build() { # FILE DEFINE...
    local file=$1
    shift
    ${CC:-cc} -std=gnu17 -O1 -w -shared -fPIC -I"$top_srcdir/include" "${@/#/-D}" -o "$file" \
        "$top_srcdir/tests/bad_plugins/conform.c" || exit 99
}

# What conforms.
build good.so NONE
build report.so REPORTER
build track.so TRACKER
exits 0 "$memopt" plugins --test --scale 20 good.so
says out "ok      plain realloc"
says out "ok      plain program realloc"
says out " passed, 0 failed, "
never out FAIL
exits 0 "$memopt" plugins --test "$work/report.so"
says out "6 passed, 0 failed, 0 skipped"
exits 0 "$memopt" plugins --test track.so
says out "6 passed, 0 failed, 0 skipped"
exits 0 "$memopt" plugins --test stats
says out "ok      stats open"
MEMOPT_PLUGIN_PATH=$work exits 2 "$memopt" plugins --test plain
cp report.so report-plain.so
MEMOPT_PLUGIN_PATH=$work exits 0 "$memopt" plugins --test plain
exits 0 "$memopt" plugins --test text
echo "a file of a plugin's name" >libc
exits 0 "$memopt" plugins --test --scale 20 --case zero libc

# KIND/CASE DEFECT WHAT-HAPPENED
while read -r case defect happened; do
    kind=${case%%/*} name=${case#*/}
    build bad.so "$defect" $([ "$kind" = allocator ] || echo "${kind^^}")
    if [ "$name" = program ]; then
        exits 1 "$memopt" plugins --test --scale 20 --case zero bad.so
        says out "ok      plain zero"
    else
        exits 1 "$memopt" plugins --test --scale 20 --case "$name" bad.so
    fi
    says out "$happened"
    says out "promised: "
    ok "$defect: counted" grep -qE '^[0-9]+ passed, [1-9][0-9]* failed, ' out
done <<'END'
allocator/open OPEN_FAILS FAIL    plain open: promised: open() returns 0
allocator/open OPEN_CRASHES it crashed: SIGABRT
allocator/open ERRNO quick_figures leaves errno 5
allocator/alignment MISALIGNED aligned_alloc(131072, 
allocator/zero NULL_ZERO a block of 0 bytes is NULL
allocator/too-large FREES_ON_FAILURE the block whose realloc failed
allocator/realloc LOSES what realloc kept
allocator/calloc DIRTY calloc after the memory was used
allocator/usable-size GROWS the usable size of
allocator/usable-size CRASHES it crashed: SIGSEGV
allocator/large EXITS it ended the process, with exit status 0
allocator/program CALLS_MALLOC FAIL    plain program
tracker/open BAD_NAME it asks for an area of the name 'Sizes of mine'
tracker/events ERRNO alloc() of event 0 leaves errno 5
tracker/events LATE it asks for the area 'late' outside of open()
tracker/events ABORTS it crashed: SIGABRT
tracker/events OVERFLOWS it crashed: SIGSEGV
tracker/events UNBACKED it crashed: SIGSEGV
tracker/malloc CALLS_MALLOC calls malloc or free
tracker/fork STALE a forked child crashed: SIGSEGV
tracker/open NO_AREA it crashed: SIGSEGV
tracker/hostile TRUSTS_SIZE it crashed: SIGSEGV
tracker/hostile TRUSTS_COUNT it crashed: SIGSEGV
tracker/hostile NO_MESSAGE report() returns -22 without a message
reporter/empty REFUSES_EMPTY an empty report: write() returns -61
reporter/unknown UNKNOWN MEMOPT_UNKNOWN is written as a number
reporter/unknown NULL_STRING it crashed: SIGSEGV
reporter/newer STRIDE other bytes are written
reporter/pure CLOCK other bytes are written a second later
reporter/pure OPENS a file stays open
reporter/errors SWALLOWS write() returns 0 where call 1 of
reporter/errors OTHER_ERROR write() returns -5 where call 1 of
END
build bad.so HANGS
exits 1 "$top_builddir/cli/conformance" --time-limit 1s --case alignment "$work/bad.so"
says out "it hangs: not done after 1 seconds"

# The plugin's options, and what is none.
exits 0 "$memopt" plugins --test --set size=64MiB --limit 64MiB --scale 20 --case realloc arena
exits 2 "$memopt" plugins --test --set size=x arena
says err "'size'"
exits 2 "$memopt" plugins --test --set nonsense=1 arena
says err "'nonsense=1' is not KEY=VALUE of an option of arena"
exits 2 "$memopt" plugins --test --case nonsense libc
says err "there is no case 'nonsense'"
exits 2 "$memopt" plugins --test
says err "missing PLUGIN"
exits 2 "$memopt" plugins --test nothing
says err "there is no plugin 'nothing'"
exits 2 "$memopt" plugins --test ./nothing.so
says err "can't be opened: No such file or directory"
echo text >text.so
exits 2 "$memopt" plugins --test text.so
says err "is not a shared object"
exits 2 "$memopt" plugins --case realloc libc
says err "'memopt plugins' has no option --case"
# one that ends whoever loads it
exits 2 "$memopt" plugins --test "$top_builddir/tests/bad_plugins/alloc-exits.so"
says err "it ends the process that loads it"

finish
