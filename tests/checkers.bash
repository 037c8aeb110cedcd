# checkers.bash - a program with planted bugs under AddressSanitizer and under
# Valgrind: does the checker report each, as it would for malloc's memory? Sourced
# by tests/test_*_checkers.sh.
#
#   planted NAME            builds $top_srcdir/tests/programs/NAME.c, once with
#                           -fsanitize=address and once plain, against the libmemopt
#                           of this build; it takes the bug's name, and "none"
#   clean BUG               neither checker has anything to say, and it exits with 0
#   asan BUG TEXT...        AddressSanitizer stops it, and says each TEXT
#   memcheck BUG TEXT...    Valgrind says each TEXT
#   finish                  the result; 77 if there is no checker at all
#
# A missing checker is said and left out. In a build with AddressSanitizer the
# program has it too, and Valgrind is left out; ThreadSanitizer goes with neither.

set -u
: "${top_srcdir:?}" "${top_builddir:?}"
work=$(mktemp -d) || exit 99
trap 'rm -rf "$work"' EXIT
fails=0 checks=0
bad() { echo "FAIL: $*"; fails=$((fails + 1)); }

lib=$(cd "$top_builddir" && pwd)/.libs
export LD_LIBRARY_PATH=$lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} MEMOPT_CONF=/dev/null
export ASAN_OPTIONS=abort_on_error=0:exitcode=66:detect_leaks=0:handle_segv=1
ulimit -c 0

sanitized=${SANITIZE_CFLAGS:-}
case $sanitized in
*=thread*) echo "ThreadSanitizer goes with no other checker"; exit 77 ;;
*=address*) ;;
*) sanitized= ;; # UBSan goes with both
esac

compile() { # OUTPUT SOURCE FLAGS...
    local output=$1 source=$2
    shift 2
    ${CC:-cc} -std=gnu17 -D_GNU_SOURCE -g -O1 -fno-omit-frame-pointer -Wall "$@" -I"$top_srcdir/include" \
        -o "$output" "$source" -L"$lib" -lmemopt-train -lmemopt -lm -pthread
}

planted() {
    local source=$top_srcdir/tests/programs/$1.c
    has_asan=no has_valgrind=no
    if [ -n "$sanitized" ]; then
        # shellcheck disable=SC2086
        compile "$work/with_asan" "$source" $sanitized && has_asan=yes
    else
        compile "$work/plain" "$source" || { bad "$1.c does not compile"; return; }
        echo 'int main(void) { return 0; }' >"$work/empty.c"
        if ${CC:-cc} -fsanitize=address -o "$work/empty" "$work/empty.c" 2>/dev/null &&
            "$work/empty" 2>/dev/null; then
            compile "$work/with_asan" "$source" -fsanitize=address && has_asan=yes
        else
            echo "no AddressSanitizer here"
        fi
        if valgrind -q true 2>/dev/null; then has_valgrind=yes; else echo "no valgrind here"; fi
    fi
}

under_valgrind() { valgrind -q --error-exitcode=66 --num-callers=20 "$work/plain" "$1"; }

# expect CHECKER BUG TEXT...: exit status in $got, output in $work/said
expect() {
    local checker=$1 bug=$2 text
    shift 2
    checks=$((checks + 1))
    [ "$got" != 0 ] || bad "$checker does not find $bug: exit status 0"
    for text; do
        grep -qE -- "$text" "$work/said" || { bad "$checker, $bug: '$text' was not said:"; head -30 "$work/said"; }
    done
}

asan() {
    [ $has_asan = yes ] || return
    timeout 600 "$work/with_asan" "$1" >"$work/said" 2>&1
    got=$?
    expect asan "$@"
}

memcheck() {
    [ $has_valgrind = yes ] || return
    under_valgrind "$1" >"$work/said" 2>&1
    got=$?
    expect memcheck "$@"
}

clean() {
    if [ $has_asan = yes ]; then
        timeout 600 "$work/with_asan" "$1" >"$work/said" 2>&1 || { bad "asan, $1: reports something"; cat "$work/said"; }
        checks=$((checks + 1))
    fi
    if [ $has_valgrind = yes ]; then
        under_valgrind "$1" >"$work/said" 2>&1 || { bad "memcheck, $1: reports something"; cat "$work/said"; }
        checks=$((checks + 1))
    fi
}

finish() {
    [ $fails = 0 ] || exit 1
    [ $checks -gt 0 ] || exit 77
    echo "$checks checks"
    exit 0
}
