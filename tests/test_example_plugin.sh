#!/bin/bash
# A third party's plugin: memopt is installed into a directory of its own,
# examples/plugin/ is copied elsewhere and built there with pkg-config only, and
# then runs real programs, by path and by name, and the conformance suite.

set -eu
: "${top_srcdir:?}" "${top_builddir:?}"
unset MEMOPT_PLUGIN_PATH MEMOPT_CONF PKG_CONFIG_SYSROOT_DIR LD_PRELOAD
command -v pkg-config >/dev/null || { echo "no pkg-config"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export XDG_CONFIG_HOME=$work HOME=$work
fail() { echo "FAIL: $*"; exit 1; }

# an installation: sources' headers, built objects, and the .pc file pointing there
root=$work/root
MAKEFLAGS= make -C "$top_builddir" -s install DESTDIR="$root" >"$work/install.log" 2>&1 ||
    { tail -20 "$work/install.log"; fail "make install"; }
pc=$(find "$root" -name memopt.pc)
[ -n "$pc" ] || fail "no memopt.pc was installed"
# what PKG_CONFIG_SYSROOT_DIR would do, for variables too
sed -i "s|^prefix=|prefix=$root|; s|^exec_prefix=/|exec_prefix=$root/|; s|^bindir=/|bindir=$root/|; s|^libdir=/|libdir=$root/|; s|^includedir=/|includedir=$root/|" "$pc"
PKG_CONFIG_PATH=$(dirname "$pc")
export PKG_CONFIG_PATH

# the installed manual names the places of this installation
ini=$(cd "$root" && find . -path '*/memopt/memopt.ini' | sed 's/^\.//')
page=$(find "$root" -name memopt.ini.5)
for place in "$ini" "${ini%/etc/*}/share/memopt/profiles/"; do
    grep -qF ".It Pa $place" "$page" || fail "memopt.ini(5) doesn't name $place"
done
grep -qF ".It Pa $ini" "$(find "$root" -name memopt.1)" || fail "memopt(1) doesn't name $ini"

cp -r "$top_srcdir/examples/plugin" "$work/plugin"
chmod -R u+w "$work/plugin"
env -u CFLAGS -u LDFLAGS make -C "$work/plugin" -s CFLAGS="-O2 -Wall -Wextra -Wshadow -Werror" ||
    fail "the example doesn't build with pkg-config alone"
plugin=$work/plugin/alloc-scrub.so
# nothing of memopt's is linked
if ldd "$plugin" | grep -i memopt; then fail "the plugin links memopt"; fi

memopt=$top_builddir/cli/memopt
job=(bash -c 'for i in $(seq 1200); do text+="$i,"; declare -a a+=("$text"); done; echo ${#text} ${#a[@]}')
"${job[@]}" >"$work/expected"
"$memopt" run -a "$plugin" -- "${job[@]}" >"$work/got" 2>"$work/err" || fail "by path: $(cat "$work/err")"
cmp "$work/expected" "$work/got" || fail "by path: other output"
grep -q "on scrub.*(dispatch)" "$work/err" || fail "by path: $(cat "$work/err")"

export MEMOPT_PLUGIN_PATH=$work/plugin
"$memopt" plugins scrub | grep -q 'fill' || fail "memopt plugins doesn't show its options"
"$memopt" run -a scrub --set allocator.scrub.fill=165 -t stats -- "${job[@]}" >"$work/got" 2>"$work/err" ||
    fail "by name: $(cat "$work/err")"
cmp "$work/expected" "$work/got" || fail "by name: other output"
grep -q "on scrub.*(dispatch)" "$work/err" || fail "by name: $(cat "$work/err")"
if "$memopt" run -a scrub --set allocator.scrub.fill=256 -- true 2>"$work/err"; then
    fail "a value out of its range was taken"
fi
grep -q "255" "$work/err" || fail "the message doesn't say the range: $(cat "$work/err")"

# it installs where memopt looks
make -C "$work/plugin" -s install || fail "make install of the plugin"
[ -f "$(pkg-config --variable=plugindir memopt)/alloc-scrub.so" ] || fail "not in the plugin directory"

# hard programs and the conformance suite
for scenario in fork-storm cross-threads thread-exit; do
    "$memopt" run -q -a scrub -- timeout 300 "$top_builddir/tests/programs/behaviour" $scenario >/dev/null ||
        fail "$scenario: exit status $?"
done
# by the installed memopt, with nothing but pkg-config
env -u CFLAGS -u LDFLAGS -u MEMOPT_PLUGIN_PATH make -C "$work/plugin" -s check >"$work/conformance" 2>&1 ||
    { grep -v '^ok' "$work/conformance" | head -20; fail "make check of the example"; }
# (a program with a sanitizer keeps the sanitizer's malloc)
case ${SANITIZE_CFLAGS:-} in
*=address* | *=thread*) ;;
*) grep -q '^ok      scrub program realloc$' "$work/conformance" || fail "the suite ran no program" ;;
esac
grep -q '^[1-9][0-9]* passed, 0 failed, ' "$work/conformance" || fail "no sum: $(tail -1 "$work/conformance")"
echo "built outside the tree, runs by path and by name, conforms"
