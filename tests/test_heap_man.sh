#!/bin/sh
# The program in libmemopt(3) compiles as it stands there and does what it says;
# every function that the libraries export has a page in which the right library stands, and every page's function
# is exported.
set -u
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
failures=0
fail() {
    echo "FAIL: $*"
    failures=$((failures + 1))
}

sed -n '/^#include <err.h>/,/^\.Ed/p' "$top_srcdir/man/libmemopt.3" |
    sed -e '/^\.Ed/d' -e 's/\\e/\\/g' > "$dir/example.c"
# shellcheck disable=SC2086
if ${CC:-cc} ${SANITIZE_CFLAGS:-} -Wall -Werror -I"$top_srcdir/include" -o "$dir/example" \
    "$dir/example.c" -L"$top_builddir/.libs" -lmemopt; then
    out=$(cd "$dir" && LD_LIBRARY_PATH="$(cd "$top_builddir" && pwd)/.libs" MEMOPT_CONF=/dev/null \
        ./example) || fail "the example exits with $?"
    case $out in
    "gradients: "*" bytes in 1 blocks, at most "*" bytes") ;;
    *) fail "the example says '$out'" ;;
    esac
else
    fail "the example does not compile"
fi

exports() { nm -D --defined-only "$top_builddir/.libs/$1.so" | sed -n 's/.* T \([^@]*\).*/\1/p' | sort; }
exported=$({ exports libmemopt && exports libmemopt-train; } | sort)
documented=$(sed -n '/^\.Sh NAME/,/^\.Nd/s/^\.Nm \([a-z_]*\).*/\1/p' \
    "$top_srcdir"/man/memopt_*.3 | sort)
[ "$exported" = "$documented" ] || {
    fail "exported and documented functions differ:"
    printf '%s\n' "$exported" > "$dir/exported"
    printf '%s\n' "$documented" > "$dir/documented"
    diff "$dir/exported" "$dir/documented"
}
for function in $exported; do
    [ -f "$top_srcdir/man/$function.3" ] || [ -f "$top_builddir/man/$function.3" ] ||
        fail "no page $function.3"
done
for library in memopt memopt-train; do
    for function in $(exports lib$library); do
        page=$(grep -lE "^\.Nm $function( |\$)" "$top_srcdir"/man/memopt_*.3)
        grep -q "^\.Pq lib$library , " "$page" || fail "$page: $function is of lib$library"
    done
done
[ $failures -eq 0 ] || exit 1
echo "all passed"
