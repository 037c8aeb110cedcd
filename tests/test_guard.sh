#!/bin/bash
# test_guard.sh - the guard allocator under a program with planted bugs, as a
# user meets it: `memopt run -a guard`. What it says on stderr, what the run's
# report keeps, and how the program dies.
. "${top_srcdir:?}/tests/run_lib.sh"
planted=$top_builddir/tests/planted
ulimit -c 0

# finds BUG STATUS TEXT...: with `memopt run -a guard $extra`
extra=()
finds() {
    local bug=$1 status=$2
    shift 2
    exits "$status" "$memopt" run -a guard "${extra[@]}" -r text,json \
        --set reporter.json.output="$work/report.json" -- "$planted" "$bug" <text
    for text in "$@"; do
        says err "$text"
        case $text in
        [a-z]*-free:\ * | *flow:\ *)
            says report.json "\"kind\": \"${text%%:*}\""
            says report.json "\"text\": \"${text#*: }"
            ;;
        *) says report.json "$text" ;;
        esac
    done
}

echo "the quick brown fox and the lazy dog abcdefghijklmnop" >text
finds none 0
says out "9 words, 8 different"
never err "of a block"

finds no-nul 139 "overflow: write 1 byte after the end of a block of 16 bytes" \
    "copy_text+0x" "new_word+0x" "count_word+0x" "accessed by thread" "allocated by thread"
echo "seven letters" >text
finds slack 134 "overflow: write 1 byte after the end of a block of 7 bytes" \
    "found when it was freed" "copy_text+0x" "free_word+0x" "allocated by thread"
finds use-after-free 139 "use-after-free: read at byte 0 of a block of 24 bytes" \
    "free_all+0x" "free_word+0x" "new_word+0x" "freed by thread"
ok "the stacks are shown once" test "$(grep -c "freed by thread" err)" = 1
says err "that was freed before (said above, with its stacks)"
finds double-free 139 "use-after-free: read at byte 8 of a block of 24 bytes" "free_word+0x"
finds wild-free 134 "invalid-free: free(0x" "1 byte inside a block of 8 bytes" "copy_text+0x"
finds thread 139 "use-after-free: read at byte" "total_count+0x" "free_all+0x" "new_word+0x"
never err "memopt.so"
never err "libmemopt" # none of memopt's own frames

# a child's fault is in the report of a run that succeeds
finds fork 0 "use-after-free: read at byte" "total_count+0x"
says out "child: signal 11"
says out "2 words, 2 different"

# without guard pages: later, and no worse
extra=(--set allocator.guard.sample_every=1000000)
finds none 0
says out "2 words, 2 different"
finds slack 134 "overflow: write 1 byte after the end of a block of 7 bytes"

# a program that was never built for this: an overflow made by Python's ctypes
if [ -n "$python" ] && "$python" -c 'import ctypes' 2>/dev/null; then
    exits 139 "$memopt" run -a guard -- "$python" -c '
import ctypes
buffer = ctypes.create_string_buffer(4000)
ctypes.memset(ctypes.addressof(buffer), 1, 4001)'
    says err "overflow: write 1 byte after the end of a block of 4000 bytes"
fi
finish
