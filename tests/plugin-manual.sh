#!/bin/sh
# The plugin that memopt-plugin(7) prints is compiled as the page says, passes
# the conformance suite, and does what the page says it does.
set -eu
top_srcdir=${top_srcdir:-.}
top_builddir=${top_builddir:-.}
case ${SANITIZE_CFLAGS-} in
*thread* | *address*) # which know nothing of a plugin that is built without them
    echo "not under a sanitizer"
    exit 77
    ;;
esac
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT

sed -n '/^#include <memopt\/plugin.h>/,/^\.Ed/p' "$top_srcdir/man/memopt-plugin.7" |
    sed '$d; s/\\e/\\/g' >"$directory/junk.c"
${CC:-cc} -shared -fPIC -Wall -Wextra -Werror -I"$top_srcdir/include" \
    -o "$directory/alloc-junk.so" "$directory/junk.c"
"$top_builddir/cli/memopt" plugins --test --scale 20 "$directory/alloc-junk.so" >"$directory/log" 2>&1 || {
    cat "$directory/log"
    exit 1
}
grep -q '^ok .* realloc$' "$directory/log"

cat >"$directory/reader.c" <<'END'
#include <stdio.h>
#include <stdlib.h>
int main(void) {
    volatile unsigned char *p = malloc(100);
    printf("%d %d\n", p[0], p[99]);
    return 7;
}
END
${CC:-cc} -O0 -w -o "$directory/reader" "$directory/reader.c"
status=0
"$top_builddir/cli/memopt" run --quiet -r '' -a "$directory/alloc-junk.so" \
    --set allocator.junk.byte=85 -- "$directory/reader" >"$directory/output" || status=$?
[ $status -eq 7 ] && [ "$(cat "$directory/output")" = "85 85" ] || {
    echo "under memopt run: status $status, output '$(cat "$directory/output")'"
    exit 1
}
