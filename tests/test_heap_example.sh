#!/bin/sh
# The example of named heaps: without an INI all of them are in libc; with its own
# they are where that says, and a purge or the callback makes room at a limit.
set -u
: "${top_srcdir:?}" "${top_builddir:?}"
failures=0
check() { # CONFIGURATION PATTERN...: each must match a line
    configuration=$1
    shift
    out=$(MEMOPT_CONF=$configuration "$top_builddir/examples/heaps") || {
        echo "FAIL: with $configuration it exits with $?"
        failures=$((failures + 1))
    }
    for pattern; do
        printf '%s\n' "$out" | grep -Eq -- "$pattern" || {
            echo "FAIL: with $configuration no '$pattern' in:"
            printf '%s\n' "$out"
            failures=$((failures + 1))
        }
    done
}
check /dev/null '^gradients +libc ' '^activations +libc ' '^cache +libc ' \
    '^cache: 8[0-9] entries evicted, 1[0-9] kept$' '^gradient\[0\] = 50$'
check "$top_srcdir/examples/heaps.ini" '^gradients +mmap ' '^activations +pool ' '^cache +libc ' \
    '^cache: 8[0-9] entries evicted, 1[0-9] kept$' '^gradient\[0\] = 50$'
[ $failures -eq 0 ] && echo "all passed"
exit $failures
