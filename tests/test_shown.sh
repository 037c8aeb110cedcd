#!/bin/bash
# test_shown.sh - whatever a program, a file or a plugin is called: no control character and
# no change of the direction of writing reaches the terminal from memopt.
. "$top_srcdir/tests/run_lib.sh" || exit 99

bad=$'x\e[31m\a\xe2\x80\xaey'
shown='x\x1b[31m\x07\xe2\x80\xaey'

# clean WHAT FILE...: no such thing in it
clean() {
    local what=$1
    shift
    if LC_ALL=C grep -qP '[\x00-\x08\x0b-\x1f\x7f]|\xe2\x80\xae' "$@"; then
        echo "FAIL: $what:"
        cat -v "$@" | sed 's/^/    /'
        failures=$((failures + 1))
    fi
}

# messages of the command
for command in "run --" "run -a" "run -t" "run -c" "run --set" compare plugins help \
    "config show -c" "config explain" ""; do
    # shellcheck disable=SC2086
    $memopt $command "$bad" >out 2>err </dev/null
    clean "memopt $command" out err
done
exits 127 "$memopt" run -- "$bad"
says err "there is no program '$shown'"

# the report: the name of the program, of its child, its arguments
cp "$(type -P true)" "$bad"
printf '#!/bin/sh\n"$0.child" "$@"\nexit 0\n' >"$bad.sh"
cp "$bad" "$bad.sh.child"
chmod +x "$bad.sh"
for options in "" "-t stats" "--set reporter.text.detail=full"; do
    # shellcheck disable=SC2086
    exits 0 "$memopt" run $options -- "./$bad" "$bad"
    clean "run $options" err
    says err "memopt: $shown: exit status 0"
    # shellcheck disable=SC2086
    exits 0 "$memopt" run $options -- "./$bad.sh" "$bad"
    clean "run $options, with a child" err
done

# what a process says itself
if have_allocator mmap; then
    cat >twice.c <<'END'
#include <stdlib.h>
int main(void) { void *volatile p = malloc(9); free(p); free(p); return 0; }
END
    if ${CC:-cc} -O0 -w -o "$bad" twice.c; then
        "$memopt" run -a mmap --json report.json -- "./$bad" >out 2>err
        clean "a double free" err
        says err "double free"
        # and a note of level error is in the JSON
        ok "the error is in the JSON" grep -q '"level": "error"' report.json
        clean "JSON" report.json
    fi
    MEMOPT_RUN=/dev/null/$bad LD_PRELOAD=$top_builddir/preload/.libs/libmemopt-preload.so \
        "./$bad.sh.child" >out 2>err
    clean "a process without its run directory" err
fi

# compare: the table keeps its columns, in text and in Markdown
evil='a|b`c``<img src=x>[l](u)'
printf '#!/bin/sh\nexit 0\n' >"$evil"
chmod +x "$evil"
printf '[memopt]\nallocator = libc\n' >"$evil.ini"
printf '[memopt]\nallocator = libc\n' >"$bad.ini"
for format in text markdown json; do
    exits 0 "$memopt" compare -n 1 -a libc -c "./$evil.ini" -c "./$bad.ini" --format $format -- \
        "./$evil" "$bad"
    clean "compare, $format" out err
    cp out compared.$format
done
says compared.markdown '| a\|b\`c\`\`\<img src=x\>\[l\]\(u\)'
says compared.markdown '``` ./a|b`c``<img'
ok "no markup is left outside of the command" sh -c \
    'sed 1d compared.markdown | sed "s/\\\\./x/g" | grep -cE "[\`<>]|\]\(" | grep -qx 0'
ok "no row has more columns" awk -F '|' '/^\|/ { gsub(/\\\|/, "x"); n = split($0, c, "|"); if (all && n != all) exit 1; all = n }' \
    compared.markdown
finish
