# run_lib.sh - what the shell tests of the memopt command share: sourced by
# them. Runs in a directory of its own with no configuration but what the test
# makes; counts failures.
set -u
: "${top_srcdir:?run by make check}" "${top_builddir:?run by make check}"
memopt=$top_builddir/cli/memopt
work=$(mktemp -d "${TMPDIR:-/tmp}/memopt-test.XXXXXX") || exit 99
trap 'cd /; chmod -R u+rwX "$work"; rm -rf "$work"' EXIT
cd "$work" || exit 99
export XDG_CONFIG_HOME=$work/none HOME=$work
# in a sanitized build it names plugins that only a sanitized program can load
unset MEMOPT_CONF MEMOPT_PLUGIN_PATH LD_PRELOAD
# the real one: a wrapper script (pyenv) would start dozens of processes
python=/usr/bin/python3
[ -x "$python" ] || python=$(command -v python3) || python=
failures=0

# ok NAME COMMAND...: the command must succeed
ok() {
    local what=$1
    shift
    if ! "$@" >ok.out 2>&1; then
        echo "FAIL: $what: $*"
        sed 's/^/    /' ok.out
        failures=$((failures + 1))
    fi
}

# exits STATUS COMMAND...: output in `out` and `err`
exits() {
    local expected=$1 status
    shift
    "$@" >out 2>err
    status=$?
    if [ "$status" -ne "$expected" ]; then
        echo "FAIL: exit status $status, expected $expected: $*"
        sed 's/^/    /' err
        failures=$((failures + 1))
    fi
}

# says FILE TEXT: a fixed string must be in the file; `never` the opposite
says() {
    if ! grep -qF -- "$2" "$1"; then
        echo "FAIL: '$2' is not in $1:"
        sed 's/^/    /' "$1"
        failures=$((failures + 1))
    fi
}
never() {
    if grep -qF -- "$2" "$1"; then
        echo "FAIL: '$2' is in $1:"
        sed 's/^/    /' "$1"
        failures=$((failures + 1))
    fi
}

# named DIRECTORY: calls it as memopt calls a run directory, and prints that name
named() {
    local name
    name=$(printf '%s-%x.%x' "$1" "$(stat -c %d "$1")" "$(stat -c %i "$1")")
    chmod 711 "$1" && mv "$1" "$name" && echo "$name"
}

have() { command -v "$1" >/dev/null 2>&1; }
have_allocator() { "$memopt" run -q -a "$1" -- true >/dev/null 2>&1; }

finish() {
    [ "$failures" -eq 0 ] || echo "$failures failures"
    exit $((failures > 0))
}
