#!/bin/bash
# test_cli_config.sh - memopt config and memopt plugins, the shipped
# configurations, and that memopt.ini(5) and the manuals say what the tables and
# the usage say.
. "$top_srcdir/tests/run_lib.sh" || exit 99
config="$memopt config"
plugins="$memopt plugins"
has() { $plugins "$1" 2>/dev/null | grep -q '^allocator' && ! $plugins "$1" | grep -q 'not available'; }

# ---- show: every value and where it came from
exits 0 $config show
says out "allocator = libc                         ; default"
says out "; plugin_path is unset"
says out "output = stderr                          ; default"
printf '[memopt]\ntrackers = stats\n[heap.x]\nlimit = 1GiB\n' >memopt.ini
exits 0 $config show
says out "trackers = stats                         ; ./memopt.ini:2"
says out "[heap.x]"
says out "limit = 1GiB                             ; ./memopt.ini:4"
says out "[tracker.stats]"
printf '[memopt]\nfollow = no\n' >c.ini
exits 0 $config show -c c.ini --set heap.x.limit=2GiB --set memopt.trackers=
says out "limit = 2GiB                             ; --set"
says out "follow = no                              ; c.ini:2"
never out "[tracker.stats]"
MEMOPT_CONF=c.ini exits 0 $config show
says out "; c.ini:2"
# what it prints is a configuration
grep -v '^;' out >shown.ini
exits 0 $config check -c shown.ini
exits 0 $config show --json
if [ -n "$python" ]; then
    ok "show --json is right" "$python" - <<'PY'
import json
j = json.load(open("out"))
s = j["sections"]
assert j["version"] == 1
assert s["memopt"]["trackers"] == {"type": "list", "value": "stats", "origin": "file",
                                   "file": "./memopt.ini", "line": 2}, s["memopt"]
assert s["memopt"]["plugin_path"] == {"type": "list", "value": None, "origin": "default"}
assert s["heap.x"]["limit"]["value"] == "1GiB"
PY
fi
# nothing is left out for bytes that are not UTF-8
odd=$'d\xfc\xc3\xbc'
mkdir "$odd"
cp c.ini "$odd"
exits 0 $config show --json -c "$odd/c.ini" --set reporter.text.output="$odd"
if [ -n "$python" ]; then
    ok "show --json has odd bytes" "$python" - <<'PY'
import json
s = json.load(open("out", encoding="utf-8"))["sections"]
assert s["memopt"]["follow"]["file"] == "d\ufffd\u00fc/c.ini", s["memopt"]
assert s["reporter.text"]["output"]["value"] == "d\ufffd\u00fc", s["reporter.text"]
PY
fi
if [ -w /dev/full ]; then
    exits 1 sh -c "$config show >/dev/full"
    says err "can't write to standard output"
    exits 1 sh -c "$config show --json >/dev/full"
    exits 1 sh -c "$plugins >/dev/full"
fi

# ---- check: all errors, one a line, and nothing else
exits 0 $config check
[ -s out ] || [ -s err ] && ok "check is silent" false
printf '[memopt]\nalocator = libc\nbinding = x\n[heap]\n[store]\nkind\n' >bad.ini
exits 2 $config check -c bad.ini
cat >expected <<'END'
bad.ini:2: unknown key 'alocator' in [memopt]; did you mean 'allocator'?
bad.ini:3: 'binding' is 'x', not one of: auto, direct, dispatch
bad.ini:4: section [heap] lacks a name: [heap.NAME] was expected
bad.ini:6: 'kind' is not a setting: 'key = value' was expected
END
ok "all errors are told" diff expected err
# what only the plugin can tell
printf '[memopt]\nallocator = libc\n\n[allocator.guard]\nalign = 3\n' >bad.ini
exits 2 $config check -c bad.ini
echo "bad.ini:5: 'align' is 3, not a power of two" >expected
ok "a value that the plugin refuses" diff expected err
exits 125 $memopt run -a guard --set allocator.guard.align=3 -- touch ran
says err "memopt run: --set allocator.guard.align: 'align' is 3, not a power of two"
ok "and nothing is run" test ! -e ran
printf '[memopt]\nallocator = libc\n\n[allocator.refusing-size]\nsize = 3000\n' >bad.ini
exits 2 $config check -c bad.ini --set memopt.plugin_path="$top_builddir/tests/bad_plugins"
echo "bad.ini:5: 'size' is 3000, not a power of two" >expected
ok "and of a plugin that has a library" diff expected err
printf '[heap.a]\nallocator = mmap\n[allocator.mmap]\nnuma = 7-3\n' >bad.ini
exits 125 $memopt run -c bad.ini -- true
says err "bad.ini:4: 'numa' is '7-3'"
exits 0 $config check --set allocator.guard.align=16
printf '[memopt]\nalocator = libc\n' >bad.ini
exits 2 $config show -c bad.ini
exits 2 $config check --set memopt.trackers=stts
says err "memopt config: --set memopt.trackers: 'trackers': there is no tracker plugin 'stts'"
exits 2 $config check -c nowhere.ini
says err "nowhere.ini: can't be read: No such file or directory"
# -c FILE is that file alone
cp bad.ini memopt.ini
exits 2 $config check
exits 0 $config check -c c.ini
for ((i = 0; i < 70; i++)); do echo "[memopt]"; echo "no_such_key_at_all_$i = x"; done >many.ini
exits 2 $config check -c many.ini
ok "every error of a long list is told" test "$(wc -l <err)" -eq 70
rm memopt.ini
# values that do not go together
refused() { # TEXT OF THE FILE, MESSAGE
    printf "$1" >together.ini
    exits 2 $config check -c together.ini
    ok "one message for: $1" test "$(grep -c '^together.ini:[0-9]*: ' err)" -eq 1
    says err "$2"
    exits 125 $memopt run -c together.ini -- true
    says err "$2"
}
refused '[memopt]\nallocator = libc\ntrackers = stats\nbinding = direct\n' "together.ini:4: binding = direct"
refused '[memopt]\nbinding = direct\nallocator = mmap\n' "together.ini:2: binding = direct"
refused '[memopt]\nbinding = direct\n[heap.default]\nlimit = 1GiB\n' "together.ini:2: binding = direct"
refused '[heap.default]\nlimit = 1GiB\non_limit = purge, spill\n' "together.ini:3: 'on_limit' can't be set for the default heap"
refused '[heap.default]\nallocator = pool\n' "together.ini:2: 'allocator' can't be set for the default heap"
refused '[heap.default]\nregion = 1MiB\n' "together.ini:2: 'region' can't be set for the default heap"
# a value that is empty: what check says of it, run does, whoever reads the value
exits 0 $config show --set heap.x.limit=1MiB --set memopt.trackers=stats --set memopt.reporters=text,json
sed -n 's/^\[\(.*\)\]$/section \1/p; s/^; \(.*\) is unset$/key \1/p; s/^\([a-z0-9_]*\) = .*/key \1/p' out >keys
exits 0 $plugins
awk '$1 == "allocator" { print "section allocator." $2; while (("'"$plugins"' " $2) | getline line)
    if (match(line, /^[a-z0-9_]+ (=|is unset)/)) { split(line, word, " "); print "key " word[1] } }' out >>keys
ok "all keys were found" test "$(grep -c ^key keys)" -gt 80
while read -r what word; do
    [ "$what" = key ] || { section=$word && continue; }
    grep -qx "$section.$word" tried 2>/dev/null && continue
    echo "$section.$word" >>tried
    $config check --set "$section.$word=" >/dev/null 2>said
    checked=$?
    "$memopt" run -q --json empty.json --set "$section.$word=" -- true >out 2>err
    ran=$?
    same=$([ "$checked:$ran" = 0:0 ] || [ "$checked:$ran:$(sed 's/^memopt config: //' said)" = \
        "2:125:$(sed 's/^memopt run: //' err)" ] || echo no)
    ok "an empty $section.$word: check ends with $checked, run with $ran" test -z "$same"
done <keys
printf '[heap.x]\nallocator =\n' >empty.ini
exits 0 $config check -c empty.ini
exits 0 $memopt run -q -c empty.ini -- true
exits 0 $config check --set heap.default.on_limit=purge,fail --set heap.other.allocator=pool
exits 2 $config check --set memopt.binding=direct --set memopt.trackers=stats
says err "memopt config: --set memopt.binding: binding = direct"
exits 2 $config show --set x
says err "memopt config: --set: 'x' is not section.key=value"
exits 0 $config check --set memopt.binding=direct

# ---- explain
exits 0 $config explain
for section in memopt heap monitor pressure optimizer store; do says out "[$section]"; done
says out "    allocator.libc"
exits 0 $config explain memopt.binding
says out "enum, one of: auto, direct, dispatch; default auto"
exits 0 $config explain heap.limit
ok "one key is explained alone" test "$(grep -c '^[^ ]' out)" -eq 1
exits 0 $config explain heap.gradients.limit
says out "heap.gradients.limit"
exits 0 $config explain reporter.json.output
says out "default memopt-%p.json"
exits 0 $config explain allocator.libc
says out "allocator.libc.arena_max"
exits 2 $config explain memopt.bindin
says err "did you mean 'binding'?"
exits 2 $config explain xyzzy
says err "unknown section [xyzzy]"
# also when the configuration has errors
MEMOPT_CONF=bad.ini exits 0 $config explain memopt

# ---- plugins: what is built in has memopt's own version
exits 0 $plugins
ok "built-in plugins have memopt's version" test -z \
    "$(awk -v own="$($memopt --version | awk '{ print $2 }')" '$3 != own' out)"

# ---- wrong usage
exits 2 $config
exits 2 $config shw
says err "did you mean 'show'?"
exits 2 $config show x
exits 2 $config check --json
exits 2 $config explain -c c.ini
exits 2 $config explain a b
exits 2 $config --nothing
says err "'--nothing'"
exits 2 $config check -c
says err "'-c' needs a value"
exits 2 $plugins a b
exits 2 $plugins jsn
says err "did you mean 'json'?"
exits 2 $plugins xyzzy

# ---- plugins
exits 0 $plugins
for kind in allocator tracker reporter; do ok "there is a $kind" grep -q "^$kind " out; done
exits 0 $plugins libc
says out "alloc-libc.so"
ok "an option is a line" grep -qE '^arena_max = +; the most arenas' out
exits 0 $plugins guard
ok "with its value" grep -qE '^side = end +; which side' out
ok "and nothing more" test "$(grep -cvE '^(allocator|    /|[a-z_]+ = |; )' out)" -eq 0
printf '[allocator.libc]\narena_max = 3\n' >c.ini
exits 0 $plugins -c c.ini libc
ok "where a value comes from" grep -qE '^arena_max = 3 +; the most arenas .*\(c.ini:2\)$' out
# what follows the file's name is a section
for name in guard stats text; do
    exits 0 $plugins $name
    kind=$(awk '{ print $1; exit }' out)
    { echo "[$kind.$name]" && sed '1,2d; /^    /d' out; } >section.ini
    exits 0 $config check -c section.ini
done
# a file by its path, whatever its name and kind
for file in alloc-mmap track-stats report-json; do
    cp -L "$top_builddir/plugins/.libs/$file.so" "$work/any.so"
    exits 0 $plugins "$work/any.so"
    says out " ${file#*-} "
    says out "    $work/any.so"
    exits 0 $plugins --json "$work/any.so"
    says out "\"path\": \"$work/any.so\""
    rm "$work/any.so"
done
exits 2 $plugins "$work/any.so"
says err "plugin '$work/any.so' cannot be opened: there is no such file"
exits 2 $plugins ./any.so
says err "a relative path is refused"
exits 0 $plugins --json
if [ -n "$python" ]; then
    ok "plugins --json is right" "$python" - <<'PY'
import json
j = json.load(open("out"))
names = {(p["kind"], p["name"]): p for p in j["plugins"]}
libc = names[("allocator", "libc")]
assert libc["available"] is True and libc["why_not"] is None, libc
assert libc["path"].startswith("/"), libc
binding = [o for o in names[("reporter", "json")]["options"] if o["key"] == "output"]
assert binding[0]["default"] == "memopt-%p.json", binding
PY
fi
# what can't be used says why
mkdir broken
echo nonsense >broken/alloc-broken.so
MEMOPT_PLUGIN_PATH=$work/broken exits 0 $plugins broken
says out "not available: "
says out "$work/broken/alloc-broken.so"
# a directory that can't be searched is said once, and memopt's own plugins are there
MEMOPT_PLUGIN_PATH=broken exits 0 $plugins
ok "said once: $(cat err)" test "$(cat out err | grep -c "MEMOPT_PLUGIN_PATH holds 'broken'")" = 1
says out " libc "
never out "not available: MEMOPT"
cp broken/alloc-broken.so "$odd"
MEMOPT_PLUGIN_PATH=$work/$odd exits 0 $plugins --json broken
if [ -n "$python" ]; then
    ok "plugins --json has odd bytes" "$python" - <<'PY'
import json
plugin = json.load(open("out", encoding="utf-8"))["plugins"][0]
assert plugin["path"].endswith("/d\ufffd\u00fc/alloc-broken.so"), plugin
assert "/d\ufffd\u00fc/alloc-broken.so" in plugin["why_not"], plugin
PY
fi
printf '[allocator.libc]\narena_max = 3\n' >"$odd/c.ini"
exits 0 $plugins --json -c "$odd/c.ini" libc
if [ -n "$python" ]; then
    ok "plugins --json has every option" "$python" - <<'PY'
import json
options = json.load(open("out", encoding="utf-8"))["plugins"][0]["options"]
assert [o["origin"] for o in options if o["key"] == "arena_max"] == ["d\ufffd\u00fc/c.ini:2"]
PY
fi
printf '[memopt]\nplugin_path = %s/broken\n' "$work" >c.ini
exits 0 $plugins -c c.ini broken
MEMOPT_CONF=bad.ini exits 0 $plugins libc
says err "bad.ini:2: unknown key"

# ---- what is shipped
conf=$top_srcdir/conf
optional='\[(monitor|pressure|optimizer|store)\]'
keys() { sed 's/ *;[^;]*$//' "$1" | awk '/^\[/ { section = $0; next } NF { print section, $0 }'; }
exits 0 $config show
sed '/; default$/!{/^\[/!d}' out >builtin
exits 0 $config check -c "$conf/memopt.ini"
# a key that is set is more than its default, even with the same value: it goes
# before each optimizer's own, and its section before that of the program
exits 0 $config show -c "$conf/memopt.ini"
sed '/; default$/d; /^; /d' out >set
keys set | grep -E "^$optional" >optional
ok "conf/memopt.ini sets no optional key" diff /dev/null optional
settings() { "$memopt" run -q "$@" -- sh -c 'grep -v " = $" "$MEMOPT_RUN/settings.ini"'; }
settings >without
settings -c "$conf/memopt.ini" >with
ok "memopt run wrote its settings" grep -qxF 'allocator = libc' without
ok "conf/memopt.ini changes nothing" diff without with
# the settings that are commented out are right, too
for allocator in jemalloc tcmalloc mimalloc; do
    has $allocator || echo "/^\\[allocator.$allocator\\]/,/^\$/d"
done >absent
sed 's/^;\([^ -]\)/\1/' "$conf/memopt.ini" | sed -f absent >all.ini
exits 0 $config check -c all.ini
exits 0 $config show -c all.ini
keys out >all
keys builtin | grep -E "^(\[memopt\]|$optional)" | while read -r line; do
    grep -qxF -- "$line" all || echo "$line"
done >missing
ok "conf/memopt.ini has the defaults" diff /dev/null missing
ok "every section stands in conf/memopt.ini" test "$(grep -c '^\[' all.ini)" -ge 10
for profile in "$conf"/profiles/*.ini; do
    allocator=$(sed -n 's/^allocator *= *//p' "$profile" | head -1)
    if has "$allocator"; then
        exits 0 $config check -c "$profile"
        exits 0 "$memopt" run -q -c "$profile" --set reporter.json.output="$work/r.json" \
            --set reporter.text.output="$work/r.txt" -- true
    else # names the line, the allocator and the package
        exits 2 $config check -c "$profile"
        says err "'allocator': there is no allocator plugin '$allocator': memopt was built without it"
        says err "-dev"
    fi
done
for name in low-rss throughput debug ci training; do
    ok "the profile $name is there" test -f "$conf/profiles/$name.ini"
    has "$(sed -n 's/^allocator *= *//p' "$conf/profiles/$name.ini" | head -1)" || continue
    exits 0 $config check --profile $name
    exits 0 $config show --profile $name
    says out "conf/profiles/$name.ini:"
done
cp out as_profile
exits 0 $config show -c "$(realpath "$conf/profiles/training.ini")"
ok "a profile is its file" diff as_profile out
exits 0 "$memopt" run --profile ci --set reporter.json.output="$work/profile.json" -- true
ok "run takes a profile" test -s profile.json
exits 0 $plugins --profile ci json
says out "conf/profiles/ci.ini:"
exits 0 "$memopt" compare -n 1 --profile ci --set reporter.json.output=/dev/null -- true
ok "compare takes a profile, under its name" grep -q '^ci ' out
for command in "config show" "config check" "plugins" "run" "compare"; do
    case $command in run | compare) status=125 ;; *) status=2 ;; esac
    for name in low-rs ../profiles/ci ""; do
        exits $status "$memopt" $command --profile "$name" -- true
        says err "there is no profile '$name'"
        says err "known: ci, debug, low-rss, throughput, training"
    done
done
exits 125 "$memopt" run --profile low-rs -- true
says err "did you mean 'low-rss'?"
# where an installed tree has them, wherever it was moved to
mkdir -p moved/lib/memopt moved/bin moved/share/memopt/profiles
cp "$memopt" moved/bin
cp -L "$top_builddir"/plugins/.libs/*.so moved/lib/memopt
printf '[monitor]\ninterval = 77ms\n' >moved/share/memopt/profiles/own.ini
exits 0 moved/bin/memopt config show --profile own
says out "; $work/moved/share/memopt/profiles/own.ini:2"

# ---- the manuals
page=$top_srcdir/man/memopt.ini.5
"$top_srcdir/man/reference.sh" "$memopt" "$page" >page 2>&1
ok "memopt.ini(5) says what the tables say (else: make man-reference)" diff "$page" page
for section in memopt heap monitor pressure optimizer store; do
    ok "memopt.ini(5) has [$section]" grep -qxF ".\\\" begin $section" "$page"
done
$plugins | awk '/^(allocator|tracker|reporter) / { print $1 "." $2 }' >found
while read -r section; do
    ok "memopt.ini(5) has [$section]" grep -qxF ".\\\" begin $section" "$page"
done <found
plain() { tr 'A-Z\n' 'a-z ' | sed 's/  */ /g; s/^ //; s/ $//'; }
for command in config plugins; do
    $memopt $command -h | sed '/^$/q' | sed 's/^usage: //' | plain >synopsis
    have mandoc || continue
    mandoc -T ascii "$top_srcdir/man/memopt-$command.1" | sed 's|.\x08||g' |
        awk '/^SYNOPSIS/ { on = 1; next } /^[A-Z]/ { on = 0 } on' | plain >manual
    ok "memopt $command -h and its SYNOPSIS" diff synopsis manual
    # the examples of the manual
    sed -n 's/^\$ \(memopt .*\)/\1/p' "$top_srcdir/man/memopt-$command.1" >examples
    ok "memopt-$command(1) has examples" test -s examples
    echo '[memopt]' >memopt.ini
    while read -r example; do
        ok "$example" env PATH="$(dirname "$memopt"):$PATH" sh -c "$example"
    done <examples
done
# the configuration in memopt.ini(5) is right
sed -n '/^\.Sh EXAMPLES/,/^\.Ed/p' "$page" | sed '/^\./d' >example.ini
has jemalloc && exits 0 $config check -c example.ini
ok "memopt.ini(5) has an example" test -s example.ini

finish
