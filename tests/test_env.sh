#!/bin/bash
# test_env.sh - memopt env: what each format prints is read back as its reader does, and puts
# a program and its child on the allocator; memopt run --exec: the process stays the same.
. "$top_srcdir/tests/run_lib.sh" || exit 99
case ${SANITIZE_CFLAGS-} in
*address* | *thread*) # the library of a sanitized build would have to come first
    echo "not with sanitizers"
    exit 77
    ;;
esac
[ -n "$python" ] || { echo "no python3"; exit 77; }

# Reads a format on stdin as its reader does, and runs argv in that environment.
cat >reader.py <<'END'
import os, re, sys
form, argv = sys.argv[1], sys.argv[2:]
environment, text = dict(os.environ), sys.stdin.read()

def docker(word):
    """One ENV line's value, as Dockerfile(5) and BuildKit's shell lexer have it."""
    assert word[0] == word[-1] == '"', word
    word, out, i = word[1:-1], "", 0
    while i < len(word):
        c = word[i]
        if c == "\\" and word[i + 1] in '"$\\':
            out += word[i + 1]; i += 2
        elif c == "$":
            m = re.match(r"\$\{(\w+):\+([^}]*)\}", word[i:])
            old = environment.get(m[1], "")
            out += m[2].replace("$" + m[1], old) if old else ""
            i += m.end()
        else:
            assert c != '"'
            out += c; i += 1
    return out

def unquote(word):
    assert word[0] == word[-1] == '"', word
    return re.sub(r"\\(.)", r"\1", word[1:-1])

lines = text.splitlines()
if form == "docker":
    for line in lines:
        key, word = re.fullmatch(r"ENV (\w+)=(.*)", line).groups()
        environment[key] = docker(word)
elif form == "systemd":
    assert not lines or lines.pop(0) == "[Service]"
    for line in lines:
        word = unquote(re.fullmatch(r"Environment=(.*)", line)[1])
        key, _, value = word.partition("=")
        assert "%" not in value.replace("%%", "")
        environment[key] = value.replace("%%", "%")
elif form == "k8s":
    seen = set()
    for name, value in zip(lines[::2], lines[1::2], strict=True):
        key = re.fullmatch(r"- name: (\w+)", name)[1]
        assert key not in seen
        seen.add(key)
        value = unquote(re.fullmatch(r"  value: (.*)", value)[1])
        assert not re.search(r"(?<!\$)\$\(", value)
        environment[key] = value.replace("$$(", "$(")
os.execve(argv[0], argv, environment)
END

# in FORMAT COMMAND...: runs it in the environment that file `printed` has
in_format() {
    local format=$1
    shift
    case $format in
    sh) (eval "$(cat printed)" && exec "$@") ;;
    *) "$python" reader.py "$format" "$@" <printed ;;
    esac
}

declare -A library=([jemalloc]=libjemalloc [tcmalloc]=libtcmalloc [mimalloc]=libmimalloc
    [pool]=libmemopt-pool)
grep=$(type -P grep) sh=$(type -P sh)
for format in sh docker systemd k8s; do
    for allocator in jemalloc tcmalloc mimalloc pool; do
        have_allocator $allocator || continue
        exits 0 "$memopt" env -a $allocator --format $format
        cp out printed
        ok "$format: $allocator is in the program" \
            in_format $format "$grep" -q "${library[$allocator]}" /proc/self/maps
        ok "$format: $allocator is in its child" in_format $format "$sh" -c \
            "'$grep' -q ${library[$allocator]} /proc/self/maps; exit \$?"
    done
done

# what is preloaded already stays, behind; settings go behind those that are there
if have_allocator jemalloc; then
    cc=${CC:-cc}
    echo 'int memopt_test_other;' >other.c
    ok "a library" $cc -shared -fPIC -o other.so other.c
    for format in sh docker systemd k8s; do
        export LD_PRELOAD=$work/other.so MALLOC_CONF=narenas:7,tcache:false
        "$memopt" env -a jemalloc --format $format --set allocator.jemalloc.narenas=3 \
            --set allocator.jemalloc.dirty_decay_ms=5s >printed
        in_format $format "$sh" -c 'echo "$LD_PRELOAD $MALLOC_CONF"' >values
        unset LD_PRELOAD MALLOC_CONF
        ok "$format: $(cat values)" grep -qE "^/[^ :]*/libjemalloc\.so\.2:$work/other\.so \
narenas:7,tcache:false,dirty_decay_ms:5000,narenas:3$" values
        # and without them nothing stands before or behind
        "$memopt" env -a jemalloc --format $format --set allocator.jemalloc.narenas=3 >printed
        in_format $format "$sh" -c 'echo "$LD_PRELOAD $MALLOC_CONF"' >values
        ok "$format: $(cat values)" grep -qE "^/[^ :]*/libjemalloc\.so\.2 narenas:3$" values
    done
    # within memopt run its own entries are not the user's
    exits 0 "$memopt" run -q -a pool -- "$memopt" env -a jemalloc --format k8s
    never out memopt
    # every character of a value comes through
    odd='x"\$a$(b)`c`%d'"'e"
    for format in sh docker systemd k8s; do
        # jemalloc itself would complain of such a value, so it is only read back
        "$memopt" env -a jemalloc --format $format \
            --set "allocator.jemalloc.malloc_conf=$odd" >printed 2>err
        in_format $format "$sh" -c 'printf "%s\n" "$MALLOC_CONF"' >values 2>/dev/null
        ok "$format: $(cat values)" test "$(cat values)" = "$odd"
    done
fi

# settings reach a program that is bound directly
cat >mapped.c <<'END'
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
int main(void)
{
    void *volatile p;
    for (int i = 0; i < 9; i++)
        p = malloc(100000);
    printf("%zu\n", mallinfo2().hblks);
    return p == NULL;
}
END
ok "the program" ${CC:-cc} -O0 -w -o mapped mapped.c
threshold="--set allocator.libc.mmap_threshold=64K"
exits 0 "$memopt" env $threshold
cp out printed
ok "env: mmap_threshold" test "$(in_format sh ./mapped)" -gt 0
ok "run: mmap_threshold" test "$("$memopt" run -q $threshold -- ./mapped)" -gt 0
ok "run --exec: mmap_threshold" test "$("$memopt" run --exec $threshold -- ./mapped)" -gt 0
ok "without it" test "$(./mapped)" = 0
exits 0 "$memopt" env -a libc
ok "nothing for libc" test ! -s out
says err "memopt env: nothing to set: the C library's allocator with its defaults"
exits 0 "$memopt" env $threshold
ok "something: no such word" test ! -s err

# what can't be: one message, no output that might be evaluated
for wrong in "-a guard" "-a arena" "-a nowhere" "--set memopt.trackers=stats" \
    "--set memopt.binding=dispatch" "--set heap.default.limit=1G" "-c nowhere.ini"; do
    exits 1 "$memopt" env $wrong
    ok "env $wrong prints nothing" test ! -s out
    ok "env $wrong says why" test -s err
done
says err nowhere.ini
# advice that can be followed, with the place that is at fault
printf '\n[memopt]\ntrackers = stats\n' >memopt.ini
for command in "env" "run --exec"; do
    case $command in
    env) program= status=1 ;;
    *) program="-- true" status=125 ;;
    esac
    exits $status "$memopt" $command $program
    says err "memopt.ini:3: trackers = stats needs dispatch, which memopt $command can't give; --set memopt.trackers= leaves it out"
    exits 0 "$memopt" $command --set memopt.trackers= $program
    exits $status "$memopt" $command -a guard --set memopt.trackers= $program
    says err "allocator 'guard' works behind memopt's dispatch only: use memopt run"
    never err "binding ="
    exits $status "$memopt" $command --set heap.default.limit=1G --set memopt.trackers= $program
    never err "binding = auto"
    says err "memopt $command can only bind a program directly: use memopt run"
done
rm memopt.ini
exits 2 "$memopt" env --format xml
says err "'xml' is not a format"
exits 2 "$memopt" env true
says err "memopt run --exec"
# late: the heap's allocator is at fault, after the program's own was fine
if have_allocator jemalloc; then
    exits 1 "$memopt" env -a jemalloc --set heap.x.allocator=nowhere
    ok "no half environment" test ! -s out
fi

# ---- run --exec
exits 0 sh -c 'echo $$; exec "$1" run --exec -a pool -- sh -c "echo \$\$; grep -c memopt-pool /proc/self/maps"' \
    sh "$memopt"
{ read -r before; read -r after; read -r mappings; } <out
ok "the same process: $before, $after" test "$before" = "$after"
ok "on the allocator" test "$mappings" -gt 0
ok "and quiet" test ! -s err
exits 7 "$memopt" run --exec -- sh -c 'exit 7'
exits 143 sh -c '"$1" run --exec -- sh -c "kill \$\$"' sh "$memopt"
exits 127 "$memopt" run --exec -- nowhere
exits 126 "$memopt" run --exec -- /
exits 125 "$memopt" run --exec -t stats -- true
says err "trackers = stats needs dispatch, which memopt run --exec can't give"
exits 125 "$memopt" run --exec -a guard -- true
exits 125 "$memopt" run --exec --json x -- true
says err "leave out --json"
exits 125 "$memopt" run --exec -r text -- true
says err "leave out -r"
# the environment, descriptors, ignored signals: the program's own
"$memopt" run --exec -a pool -- env >out
never out MEMOPT_RUN
ls -1 /proc/self/fd | wc -l >before
"$memopt" run --exec -a pool -- ls -1 /proc/self/fd | wc -l >after
ok "no descriptor is left over" cmp before after
"$memopt" run --exec -- ls -1 /proc/self/fd <&- | wc -l >after
ls -1 /proc/self/fd <&- | wc -l >before
ok "a closed one stays closed" cmp before after
(trap '' USR1 && "$memopt" run --exec -- grep SigIgn /proc/self/status) >out
(trap '' USR1 && grep SigIgn /proc/self/status) >before
ok "ignored signals" cmp before out
# a script without "#!" goes to the shell, as with a shell
echo 'echo "$0 $1"' >script
chmod +x script
exits 0 "$memopt" run --exec -- ./script x
says out "./script x"
# what can't be preloaded is said, and runs
if ${CC:-cc} -static -o static mapped.c 2>/dev/null; then
    exits 0 "$memopt" run --exec -a pool -- ./static
    says err "statically linked"
    exits 0 "$memopt" run --exec -q -a pool -- ./static
    ok "-q" test ! -s err
fi
finish
