#!/bin/bash
# lib/ is freestanding: no header but the compiler's and <string.h>, and in what is
# compiled for foreign programs no symbol from outside but functions for bytes and strings.

set -u
: "${top_srcdir:?}" "${top_builddir:?}"
fails=0
bad() { echo "FAIL: $*"; fails=1; }

headers=0
while IFS=: read -r file header; do
    headers=$((headers + 1))
    case $header in
    '"lib/'* | '<stdatomic.h>' | '<stdbool.h>' | '<stddef.h>' | '<stdint.h>' | '<string.h>') ;;
    *) bad "$file includes $header" ;;
    esac
done < <(cd "$top_srcdir" &&
    sed -nE 's/^ *# *include *(["<][^">]*[">]).*/\1/p;T;F' lib/*.[ch] /dev/null |
    awk '/^lib\// { print $0 ":" header; next } { header = $0 }')
[ $headers -ge 5 ] || bad "only $headers includes were seen"

archive=$top_builddir/lib/.libs/libmo-program.a
[ -f "$archive" ] || bad "no $archive"
symbols=$(nm -A "$archive" 2>/dev/null)
defined=$(awk '$2 != "U" { print $NF }' <<<"$symbols" | sort -u)
[ -n "$defined" ] || bad "$archive defines nothing"
for symbol in $(awk '$(NF - 1) == "U" { print $NF }' <<<"$symbols" | sort -u); do
    case $symbol in
    mem* | str* | _GLOBAL_OFFSET_TABLE_ | __stack_chk_fail | __gcov_* | __llvm_*) continue ;;
    esac
    grep -qxF "$symbol" <<<"$defined" || bad "lib/ uses $symbol"
done

[ $fails = 0 ] && echo "$headers includes"
exit $fails
