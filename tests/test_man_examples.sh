#!/bin/bash
# The programs in libmemopt's manual pages compile as they stand there and run:
# every literal block of a section 3 page that begins with an #include. A page
# can say what its program prints in a literal block that follows it, introduced
# by a line that ends in "prints:".
set -u
: "${top_srcdir:?}" "${top_builddir:?}"
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
fails=0 programs=0
bad() { echo "FAIL: $*"; fails=$((fails + 1)); }

# page_blocks PAGE: each literal block into $dir/block.N, and a block that is
# announced as output into $dir/block.N.out beside its program.
page_blocks() {
    rm -f "$dir"/block.*
    awk -v dir="$dir" '
        /^\.Bd -literal/ { inside = 1; first = 1; next }
        /^\.Ed/ { if (inside) { inside = 0; prints = 0; close(file) } next }
        inside && first { first = 0
            if (prints && n) file = dir "/block." n ".out"
            else if (/^#include/) { n++; file = dir "/block." n }
            else file = "/dev/null" }
        inside { gsub(/\\e/, "\\"); gsub(/\\&/, ""); gsub(/\\-/, "-"); print > file; next }
        { prints = /prints:$/ }' "$1"
}

for page in "$top_srcdir"/man/*.3; do
    page_blocks "$page"
    for block in "$dir"/block.*; do
        case $block in *.out | *'*') continue ;; esac
        programs=$((programs + 1))
        name=$(basename "$page") where=$dir/run
        rm -rf "$where" && mkdir "$where" && cp "$block" "$where/example.c"
        # shellcheck disable=SC2086
        ${CC:-cc} -std=gnu17 ${SANITIZE_CFLAGS:-} -Wall -Werror -I"$top_srcdir/include" \
            -o "$where/example" "$where/example.c" -L"$top_builddir/.libs" -lmemopt-train -lmemopt -lm -pthread ||
            { bad "$name: the example does not compile"; continue; }
        (cd "$where" && LD_LIBRARY_PATH="$(cd "$top_builddir" && pwd)/.libs" MEMOPT_CONF=/dev/null \
            ./example >out) || bad "$name: the example exits with $?"
        # under a sanitizer heaps keep and pad blocks, so figures differ
        [ ! -f "$block.out" ] || [ -n "${SANITIZE_CFLAGS// /}" ] || diff "$block.out" "$where/out" ||
            bad "$name: the example prints something else"
    done
done
[ $programs -ge 1 ] || bad "no program was found in the manual"
echo "$programs programs"
[ $fails = 0 ]
