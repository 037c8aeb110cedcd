#!/bin/bash
# test_guard.sh - the guard allocator under a program with planted bugs, as a
# user meets it: `memopt run -a guard`. What it says on stderr, what the run's
# report keeps, and how the program dies.
. "${top_srcdir:?}/tests/run_lib.sh"
planted=$top_builddir/tests/planted
forms=$top_builddir/tests/planted_forms
ulimit -c 0

# With libdw the report has names, in the form "copy_text at planted.c:44".
names=0
grep -q "define HAVE_LIBDW" "$top_builddir/config.h" && names=1

# finds BUG STATUS TEXT...: with `memopt run -a guard $extra`
extra=()
finds() {
    local bug=$1 status=$2
    shift 2
    exits "$status" "$memopt" run -a guard "${extra[@]}" -r text,json \
        --set reporter.json.output="$work/report.json" -- "$planted" "$bug" <text
    for text in "$@"; do
        case $text in \ *) [ $names = 1 ] || continue ;; esac # a function
        says err "$text"
        case $text in
        \ *) says report.json "\"function\": \"${text//[ ]/}\"" ;;
        accessed*) says report.json '"role": "fault"' ;;
        allocated*) says report.json '"role": "allocated"' ;;
        freed*) says report.json '"role": "freed"' ;;
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

finds no-nul 139 "overflow: write at offset 16, right past the end of a block of 16 bytes" \
    " copy_text " " new_word " " count_word " "accessed by thread" "allocated by thread"
echo "seven letters" >text
finds slack 134 "overflow: write at offset 7, right past the end of a block of 7 bytes" \
    "found when it was freed" " copy_text " " free_word " "allocated by thread"
finds use-after-free 139 "use-after-free: read at byte 0 of a block of 24 bytes" \
    " free_all " " free_word " " new_word " "freed by thread"
ok "the stacks are shown once by the program" test "$(grep -c "^  freed by thread" err)" = 1
if [ $names = 1 ]; then
    ok "and once with names" test "$(grep -c "^      freed by thread" err)" = 1
    never err "said above"
else
    says err "that was freed before (said above, with its stacks)"
fi
says err "planted+0x"
says err "  build-id "
finds double-free 139 "use-after-free: read at byte 8 of a block of 24 bytes" " free_word "
finds wild-free 134 "invalid-free: free(0x" "1 byte inside a block of 8 bytes" " copy_text "
finds thread 139 "use-after-free: read at byte" " total_count " " free_all " " new_word "
never err "memopt.so"
never err "libmemopt" # none of memopt's own frames

# a child's fault is in the report of a run that succeeds
finds fork 0 "use-after-free: read at byte" " total_count "
says out "child: signal 11"
says out "2 words, 2 different"

# without guard pages: later, and no worse
extra=(--set allocator.guard.sample_every=1000000)
finds none 0
says out "2 words, 2 different"
finds slack 134 "overflow: write at offset 7, right past the end of a block of 7 bytes"

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
    says err "overflow: write at offset 4000, right past the end of a block of 4000 bytes"
fi
# ---- at exit: blocks that nobody frees, of the process that allocated them
cat >late.c <<'END'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
static void *volatile kept[8];
static char *block(int i) { return kept[i] = malloc(13); }
static void damage(char *p) { ((volatile char *)p)[13] = 0; }
static void *leave(void *unused) { (void)unused; exit(4); }
static int in_child(void (*what)(int)) {
    int status;
    fflush(stdout);
    if (fork() == 0)
        what(0);
    wait(&status);
    printf("child: %s %d\n", WIFSIGNALED(status) ? "signal" : "status",
           WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    fflush(stdout);
    return 0;
}
static void damages_its_own(int unused) { (void)unused; damage(block(1)); exit(0); }
int main(int argc, char **argv) {
    (void)argc;
    const char *how = argv[1];
    char *p = block(0), *pages = kept[2] = aligned_alloc(4096, 3 * 4096 - 8);
    pthread_t thread;
    mprotect(pages, 3 * 4096, PROT_NONE); /* left like that, and its slack: nobody's fault */
    if (strcmp(how, "child") == 0)
        return in_child(damages_its_own);
    if (strcmp(how, "none") == 0)
        return 4;
    damage(p);
    if (strcmp(how, "fork") == 0) {
        in_child(exit);
        free(p);
    }
    if (strcmp(how, "exit") == 0)
        exit(4);
    if (strcmp(how, "thread") == 0)
        pthread_create(&thread, NULL, leave, NULL), pthread_join(thread, NULL);
    if (strcmp(how, "_exit") == 0)
        _exit(4);
    if (strcmp(how, "quick") == 0)
        quick_exit(4);
    return 4;
}
END
if have $CC && $CC -g -O0 -w late.c -o late -pthread; then
    while read -r how status what; do
        line=$(grep -n "^static char .block" late.c | cut -d: -f1)
        for more in "" "-t stats" "--set allocator.guard.sample_every=1000000"; do
            # shellcheck disable=SC2086
            exits "$status" "$memopt" run -a guard $more --json late.json -- ./late "$how"
            if [ "$what" = said ]; then
                says err "overflow: write at offset 13, right past the end of a block of 13 bytes"
                says late.json "found at exit: it was never freed"
                [ $names = 0 ] || says err "block at late.c:$line"
            elif [ "$what" = freed ]; then
                says out "child: status 0"
                says err "found when it was freed"
            else
                never err "overflow"
                [ "$what" = - ] || says out "$what"
            fi
            [ "$how" != child ] || says out "child: signal 6"
        done
    done <<'END'
none 4 -
return 134 said
exit 134 said
thread 134 said
_exit 4 -
quick 4 -
fork 134 freed
child 0 said
END
fi

# ---- names: of programs and libraries as they were built and are found
cat >fault.c <<'END'
#include <stdlib.h>
#include <stdio.h>
#include <unistd.h>
__attribute__((noinline)) static void touch(volatile char *p) { p[0] = 1; }
void wrong(void);
void wrong(void) {
    char *p = malloc(24);
    free(p);
    touch(p);
}
END
cat >main.c <<'END'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <stdio.h>
#include <unistd.h>
void wrong(void);
int main(int argc, char **argv) {
    for (int i = 1; i + 1 < argc; i++)
        if (rename(argv[i], argv[i + 1]) != 0)
            return 9;
#ifdef LIBRARY
    void (*there)(void) = (void (*)(void))dlsym(dlopen(LIBRARY, RTLD_NOW), "wrong");
    there();
#else
    wrong();
#endif
    return 0;
}
END
# named TEXT [ARGUMENT...]: what ./prog says of itself
named() {
    local text=$1
    shift
    exits 139 "$memopt" run -a guard -- ./prog "$@"
    says err "use-after-free: write at byte 0 of a block of 24 bytes"
    [ $names = 0 ] || says err "$text"
}

# ---- facts and stacks are fields of the report, of the process, its child and grandchild
facts() { # WHAT, a condition on e, the one event that there is
    [ -z "$python" ] || ok "$1" "$python" -c 'import json, sys
report = json.load(open("report.json"))
e = [e for p in report["processes"] for e in p["events"]]
assert len(e) == 1, e
e = e[0]
s = {s["role"]: s for s in e["stacks"]}
f = {r: [f["function"] for f in s[r]["frames"]] for r in s}
assert eval("(" + sys.argv[1] + ")"), json.dumps(e, indent=1)' "$1"
}
echo "the quick brown fox and the lazy dog abcdefghijklmnop" >text
finds no-nul 139
facts 'e["block_size"] == 16 and e["block_offset"] == 16 and "\n" not in e["text"]'
facts 'e["address"] == e["block_address"] + 16'
facts 'list(s) == ["fault", "allocated"] and all(s[r]["tid"] for r in s)'
facts 'all(f["module"].endswith("planted") and f["build_id"] != "" and f["address"] > 0
    for f in s["fault"]["frames"][:2])'
[ $names = 0 ] || facts 'f["fault"][0] == "copy_text" and s["fault"]["frames"][0]["line"] > 0 and
    s["fault"]["frames"][0]["file"].endswith("planted.c")'
finds use-after-free 139
facts 'sorted(s) == ["allocated", "fault", "freed"] and e["block_offset"] == 0'
[ $names = 0 ] || facts '"free_word" in f["freed"] and "new_word" in f["allocated"]'
finds wild-free 134
facts 'e["block_size"] > 1 and e["block_offset"] == 1 and s["fault"]["by"] == "called by"'
if have $CC && $CC -g -O0 -w main.c fault.c -o prog; then
    for flags in "-O0" "-O0 -no-pie" "-O0 -static-pie -DNONE" "-O0 -Wl,-Bsymbolic"; do
        case $flags in *static*) continue ;; esac
        # shellcheck disable=SC2086
        $CC -g -w $flags main.c fault.c -o prog
        named "#0 touch at fault.c:4"
        says err "#1 wrong at fault.c:9"
    done
    # inlined: the innermost function, and its own line
    sed 's/noinline/always_inline/' fault.c >inlined.c
    $CC -g -w -O1 main.c inlined.c -o prog && named "#0 touch in wrong at inlined.c:4"
    # in a library that is loaded later
    $CC -g -w -O0 -fPIC -shared fault.c -o libfault.so &&
        $CC -g -w -DLIBRARY='"./libfault.so"' main.c -o prog -ldl && named "#0 touch at fault.c:4"
    # a name without a line, and no name at all
    $CC -w -O0 main.c fault.c -o prog && named "#0 touch ($PWD/prog)"
    strip prog && named "use-after-free: write at byte 0"
    says err "prog+0x"
    # another file has its place: no wrong names
    $CC -g -w -O0 main.c fault.c -o prog
    sed 's/touch/other/' fault.c >other.c && $CC -g -w -O0 main.c other.c -o later
    named "prog+0x" later prog
    ok "another file has its place" grep -qE "said above|^        #0 $PWD/prog\+0x" err
    never err "#0 touch at"
    never err "#0 other"
    # others may write it
    $CC -g -w -O0 main.c fault.c -o prog && chmod o+w prog
    named "prog+0x"
    never err "#0 touch"
fi
finish
