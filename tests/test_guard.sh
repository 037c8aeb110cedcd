#!/bin/bash
# test_guard.sh - the guard allocator under a program with planted bugs, as a
# user meets it: `memopt run -a guard`. What it says on stderr, what the run's
# report keeps, and how the program dies.
. "${top_srcdir:?}/tests/run_lib.sh"
planted=$top_builddir/tests/planted
forms=$top_builddir/tests/planted_forms
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
        [a-z]*-free:\ * | *flow:\ * | *-mismatch:\ *)
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

# By which form a block was made and freed. In each row: the bug, what is said of it up
# to the address, and after it.
extra=()
while IFS='|' read -r bug kind operation rest; do
    exits 134 "$memopt" run -a guard -r text,json --set reporter.json.output="$work/report.json" \
        -- "$forms" "$bug"
    says err "$kind: $operation(0x"
    says err "$rest"
    says err "allocated by thread"
    says err "called by thread"
    case $operation in
    *free*) says err "sizedPv" ;;
    delete*) [[ $bug = *array-size || $bug = aligned-* ]] || says err "_delete" ;;
    esac
    says report.json "\"kind\": \"$kind\""
    says report.json "\"text\": \"$operation(0x"
    exits 134 "$memopt" run -a guard -t stats -- "$forms" in-thread "$bug"
    says err "$kind: $operation(0x"
    exits 0 "$memopt" run -a guard --set allocator.guard.max_size=1 -- "$forms" in-child "$bug"
    says err "$kind: $operation(0x"
    says out "grandchild: signal 6"
    exits 0 "$memopt" run -a guard --set allocator.guard.forms=no -- "$forms" "$bug"
    never err mismatch
done <<'END'
delete-size|size-mismatch|delete|with size 24 of a block of 40 bytes
delete-base|size-mismatch|delete|with size 8 of a block of 64 bytes
delete-array-size|size-mismatch|delete[]|with size 72 of a block of 80 bytes
delete-of-array|form-mismatch|delete|made by new[]: expected delete[]
delete-of-one-array|form-mismatch|delete|made by new[]: expected delete[]
array-delete|form-mismatch|delete[]|made by new: expected delete
nothrow-array|form-mismatch|delete|made by new[]: expected delete[]
aligned-array|form-mismatch|delete|made by new[]: expected delete[]
delete-alignment|size-mismatch|delete|with size 64 of a block of 128 bytes
aligned-delete|alignment-mismatch|delete|with alignment 64 of a block of 100 bytes
aligned-size|size-mismatch|delete|with size 64 of a block of 128 bytes
free-sized|size-mismatch|free_sized|with size 41 of a block of 40 bytes
free-sized-realloc|size-mismatch|free_sized|with size 40 of a block of 400 bytes
free-sized-aligned|alignment-mismatch|free_sized|without alignment of a block of 128 bytes
free-aligned-size|size-mismatch|free_aligned_sized|with size 64 of a block of 128 bytes
free-aligned-alignment|alignment-mismatch|free_aligned_sized|with alignment 32 of a block of 128
free-aligned-malloc|alignment-mismatch|free_aligned_sized|expected alignment 16 or less
END

# and what is right: nothing is said
for program in "0 $forms none" "0 $forms in-thread none" "0 $forms in-child none" \
    "0 $top_builddir/tests/programs/cxx_new" "0 $top_builddir/tests/programs/cxx_own_new" \
    "0 $top_builddir/tests/cxx_partly_1" "0 $top_builddir/tests/cxx_partly_2" \
    "0 $top_builddir/tests/cxx_partly_3" "0 $top_builddir/tests/cxx_partly_4" \
    "0 $top_builddir/tests/cxx_partly_5" \
    "3 $top_builddir/tests/programs/cxx_exceptions"; do
    for more in "" "-t stats" "--set allocator.guard.sample_every=5" "--set heap.default.limit=100MiB"; do
        # shellcheck disable=SC2086
        exits "${program%% *}" "$memopt" run -a guard $more -- ${program#* }
        never err mismatch
    done
done

# a program that was never built for this: an overflow made by Python's ctypes
if [ -n "$python" ] && "$python" -c 'import ctypes' 2>/dev/null; then
    exits 139 "$memopt" run -a guard -- "$python" -c '
import ctypes
buffer = ctypes.create_string_buffer(4000)
ctypes.memset(ctypes.addressof(buffer), 1, 4001)'
    says err "overflow: write 1 byte after the end of a block of 4000 bytes"
fi
finish
