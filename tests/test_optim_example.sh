#!/bin/sh
# The example of optimizers fits its line with AdamW without an INI, and with the
# optimizer, and in the heap, that its INI names.
set -u
: "${top_srcdir:?}" "${top_builddir:?}"
failures=0
check() { # CONFIGURATION EXPECTED
    out=$(MEMOPT_CONF=$1 "$top_builddir/examples/optimizer") || {
        echo "FAIL: with $1 it exits with $?"
        failures=$((failures + 1))
    }
    case $out in
    *"$2"*) ;;
    *)
        echo "FAIL: with $1 it says: $out"
        failures=$((failures + 1))
        ;;
    esac
}
check /dev/null "adamw: y = "
check "$top_srcdir/examples/optimizer.ini" "nadam: y = "
[ $failures -eq 0 ] && echo "all passed"
exit $failures
