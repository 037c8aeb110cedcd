#!/bin/bash
# test_run.sh - memopt run on real programs: exit statuses, what the program is
# given, programs that can't be preloaded, reports, messages, signals.
. "$top_srcdir/tests/run_lib.sh" || exit 99
case ${SANITIZE_CFLAGS-} in
*thread*) # which blocks signals of its own and is no small process; memopt has no threads
    echo "not under ThreadSanitizer"
    exit 77
    ;;
esac
run="$memopt run"
CC=${CC:-cc}

# ---- exit statuses
exits 0 $run -- true
exits 7 $run -- sh -c 'exit 7'
exits 255 $run -- sh -c 'exit 255'
exits 137 $run -- sh -c 'kill -KILL $$'
says err "killed by SIGKILL"
exits 143 $run -- sh -c 'kill -TERM $$'
exits 127 $run -- nowhere
says err "there is no program 'nowhere' on the path"
exits 127 $run -- ./nowhere
exits 126 $run -- /
says err "is a directory"
echo 'exit 0' >plain
exits 126 $run -- ./plain
says err "chmod +x"
printf '#!/nowhere/sh\n' >lost
chmod +x lost
exits 126 $run -- ./lost
says err "/nowhere/sh"
printf '\1\2\0\4\n' >garbage
chmod +x garbage
exits 126 $run -- ./garbage
exits 125 $run
says err "missing PROGRAM"
exits 0 $run -h
ok "run -h has 80 columns" awk 'length($0) > 80 { exit 1 }' out
# a file that nobody has named is
for how in "-r json" "-r text,json"; do
    exits 0 $run $how -- true
    file=$(sed -n 's/^memopt run: report written to \(memopt-[0-9]*\.json\)$/\1/p' err)
    ok "$how: said: $file" test -s "$file"
    rm -f memopt-*.json
done
exits 0 $run -q -r json -- true
ok "-q" test ! -s err
rm -f memopt-*.json
exits 0 $run -r json --set reporter.json.output=named.json -- true
never err "report written"
exits 0 $run -r text --json named.json -- true
never err "report written"
exits 125 $run -Z true
says err "unknown option '-Z'"
exits 125 $run -a
says err "needs a value"
exits 125 $run -a pooll true
says err "did you mean 'pool'"
exits 125 $run -a json true
says err "there is no allocator plugin 'json'; 'json' is a reporter"
never err "did you mean"
exits 125 $run --set memopt.bindin=auto true
says err "binding"
exits 125 $run --set memopt.binding=direct -t stats true
says err "a tracker has to see each call"
exits 125 $run -c nowhere.ini true
says err "nowhere.ini"

# ---- options end at the program
exits 0 $run echo -a -q --json
says out "-a -q --json"
exits 0 $run -- echo -- x
says out "-- x"

# ---- the program's own: output, input, directory, descriptors, limits
exits 0 $run -- sh -c 'echo out; echo err >&2'
[ "$(cat out)" = out ] || ok "stdout is the program's alone" false
says err "err"
exits 0 $run -q -- sh -c 'echo out; echo err >&2'
[ "$(cat err)" = err ] || ok "quiet leaves stderr to the program" false
printf 'a\nb\n' >in
exits 0 $run -q -- sh -c 'read x; echo $x' <in
says out a
(read -r first; $run -q -- cat; ) <in >out
ok "the rest of the input" grep -qx b out
for state in 'umask' 'ulimit -a' 'pwd' 'nice' 'ps -o pgid=,sid= -p $$' 'ls -l /proc/self/fd | wc -l' \
    'env | grep -vE "^(LD_PRELOAD|MEMOPT_|_|SHLVL)=?"'; do
    (umask 027; ulimit -n 100; nice -n 3 sh -c "$state" >bare 2>&1
        nice -n 3 $run -q -- sh -c "$state" >watched 2>&1)
    ok "the same under memopt: $state" diff bare watched
done
# a descriptor of the user's reaches the program; none of memopt's does
exits 0 $run -q -- sh -c 'echo three >&3' 3>three
ok "descriptor 3" grep -qx three three
exits 0 $run -q -- ls /proc/self/fd
sort out >fds
ls /proc/self/fd | sort >bare
ok "no descriptor leaks" diff bare fds
exits 0 sh -c "exec $run -q -- sh -c 'ls -l /proc/self/fd >fds' <&- 2>&- 3>&-"
ok "closed descriptors stay closed" test -z "$(grep -E '^[l-].* (2|3) -> ' fds | grep -v /proc/)"
exits 0 $run -q -- sh -c 'exit 0' >&- 2>&- <&-

# ---- every allocator, byte by byte
cat >work.pl <<'PERL'
my %h; for my $i (1 .. 20000) { $h{"key$i"} = "x" x ($i % 100); }
my $n = 0; $n += length $h{$_} for sort keys %h; print "$n\n";
print join(",", map { $_ * 2 } 1 .. 50), "\n";
PERL
if have perl; then
    perl work.pl >expected
    for allocator in libc jemalloc tcmalloc mimalloc pool mmap; do
        have_allocator $allocator || continue
        for trackers in '' stats; do
            exits 0 $run -a $allocator -t "$trackers" -- perl work.pl
            ok "perl's output on $allocator" cmp expected out
            says err "on $allocator"
        done
    done
fi

# ---- reports
exits 0 $run --json report.json -- true
says err "memopt: true: exit status 0"
if [ -n "$python" ]; then
    ok "JSON" "$python" -c '
import json, sys
report = json.load(open("report.json"))
assert report["exit_status"] == 0, report' 
fi
exits 3 $run -q --json quiet.json -- sh -c 'exit 3'
[ -s err ] && ok "nothing is said with --quiet" false
ok "--json with --quiet" test -s quiet.json
exits 3 $run --json /nowhere/x.json -- sh -c 'exit 3'
says err "/nowhere/x.json"
exits 3 $run -r '' -- sh -c 'exit 3'
says err "exit status 3"
# ... and before the program runs, not only after an hour of it
before_the_program() { # TEXT
    says err "the program runs all the same"
    sed '/^started$/,$d' err >before
    says before "$1"
}
exits 3 $run --json /nowhere/x.json -- sh -c 'echo started >&2; exit 3'
before_the_program "--json: '/nowhere/x.json': No such file or directory"
exits 3 $run -q -r json --set reporter.json.output=/nowhere/%p.json -- sh -c 'echo started >&2; exit 3'
before_the_program "reporter 'json': '/nowhere/0.json': No such file or directory"
exits 3 $run --json "$work" -- sh -c 'echo started >&2; exit 3'
before_the_program "Is a directory"
exits 3 $run --json fine.json -- sh -c 'ls -A .memopt-* fine.json; exit 3'
[ ! -s out ] || ok "trying an output leaves nothing" false
# a full disk: nothing half-written under the name, the status is the program's
exits 3 $run -q --json /dev/full -- sh -c 'exit 3'
says err "/dev/full"
# (a coverage build has files of its own to write, and much to say where it can't)
(
    export GCOV_PREFIX=/dev/null
    ulimit -f 1
    exits 3 sh -c "exec $run --json big.json -t stats -- sh -c 'exit 3' 2>/dev/null"
    exit $failures
)
failures=$?
[ ! -e big.json ] || ok "big.json is whole or not there" "${python:-true}" -m json.tool big.json

# ---- a small program's size is its own, not memopt's, or it is not known
exits 0 $run --json true.json -- true
# (a sanitized memopt is larger than both, and what is larger than memopt is all that is known)
if [ -n "$python" ] && [ -z "${SANITIZE_CFLAGS// /}" ]; then
    ok "the peak RSS of true" "$python" -c '
import json
peak = json.load(open("true.json"))["peak_rss"]
assert peak is None or 200 * 1024 < peak < 8 << 20, peak'
    exits 0 $run --json big.json -- "$python" -c 'x = bytearray(64 << 20)'
    ok "the peak RSS of 64 MiB" "$python" -c '
import json
peak = json.load(open("big.json"))["peak_rss"]
assert 64 << 20 < peak < 110 << 20, peak'
fi

# ---- programs that can't be preloaded
cat >small.c <<'C'
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv) {
    char *p = malloc(20 << 20);
    memset(p, 1, 20 << 20);
    puts("small");
    if (argc > 1) execvp(argv[1], argv + 1);
    return p[5] + 3;
}
C
# peaks FILE PYTHON: an expression over what is known of the largest and of the main process
peaks() {
    [ -n "$python" ] || return 0
    ok "$1: $2" "$python" -c '
import json, sys
report = json.load(open(sys.argv[1]))
peak, processes = report["peak_rss"], report["processes"]
main = processes[0]["peak_rss"]
assert eval(sys.argv[2]), (peak, [(p["program"], p["peak_rss"]) for p in processes])' "$1" "$2"
}
cat >sizes.c <<'C'
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* sizes MIB [COMMAND]: has MIB MiB; COMMAND "fork": so has a child that nobody waits for */
int main(int argc, char **argv) {
    size_t size = (size_t)atoi(argv[1]) << 20;
    char *volatile p = malloc(size);
    memset(p, 1, size);
    if (argc < 3) return p[size / 2] - 1;
    if (strcmp(argv[2], "fork") != 0) return system(argv[2]) != 0;
    int ends[2];
    char byte = 0;
    if (pipe(ends) != 0) return 1;
    /* time enough to be looked at */
    if (fork() != 0) { sleep(read(ends[0], &byte, 1) == 1 ? 2 : 0); return 0; }
    p = malloc(2 * size);
    memset(p, 1, 2 * size);
    if (write(ends[1], &byte, 1) == 1) sleep(5);
    _exit(0);
}
C
cat >hello.c <<'C'
#include <stdio.h>
int main(void) { return puts("hello") < 0; }
C
# A sanitized memopt is larger than these, and grows on its way to execve().
small_rounds=
[ -n "${SANITIZE_CFLAGS// /}${COVERAGE_CFLAGS// /}" ] || small_rounds="1 2 3 4 5 6 7 8 9 10"
if have $CC && $CC -static sizes.c -o sizes 2>/dev/null && $CC -static hello.c -o hello; then
    # (well above what a sanitized memopt has before execve())
    exits 0 $run -q --json peak.json -- ./sizes 100
    peaks peak.json "100 << 20 < main == peak < 104 << 20"
    exits 0 $run -q --json peak.json -- ./sizes 100 './sizes 150; exit 0'
    peaks peak.json "150 << 20 < peak < 154 << 20 and main is None"
    exits 0 $run --json peak.json -- ./sizes 100 fork
    peaks peak.json "peak is None and 100 << 20 < main < 104 << 20 and processes[1]['peak_rss'] is None"
    says err "peak RSS at least "
    # smaller than memopt was before execve(): not memopt's size, nor what a look saw
    for _ in $small_rounds; do
        exits 0 $run -q --json peak.json -- ./hello
        peaks peak.json "peak is None and main is None"
    done
fi
if have $CC && $CC -fsanitize=address hello.c -o hello 2>/dev/null && ./hello >/dev/null 2>&1; then
    for _ in $small_rounds; do
        exits 0 $run -q --json peak.json -- ./hello
        peaks peak.json "1 << 20 < main == peak and len(processes) == 1"
    done
fi
if have $CC && $CC -static small.c -o static 2>/dev/null; then
    exits 4 $run --json static.json -- ./static
    says out small
    says err "statically linked"
    ok "a note is said once" test "$(grep -c "statically linked" err)" = 1
    says err "peak RSS"
    exits 4 $run --set reporter.text.output=static.text -- ./static
    says static.text "statically linked"
    exits 0 $run --json static.json -- ./static true
    exits 4 $run -q -- ./static
    [ -s err ] && ok "quiet about a static program" false
    ok "the note is in the report" grep -q "statically linked" static.json
    exits 125 $memopt compare -n 1 -- ./static
    says err "nothing to compare"
fi
# ---- a program that becomes one that leaves no record: what it became, its own end, and
# nothing of it given to the wrapper
# processes FILE PYTHON: an expression over the report and its processes
processes() {
    [ -n "$python" ] || return 0
    ok "$1: $2" "$python" -c '
import json, sys
report = json.load(open(sys.argv[1]))
p = report["processes"]
assert eval(sys.argv[2]), json.dumps(report, indent=1)' "$1" "$2"
}
cat >become.c <<'C'
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>
int main(int argc, char **argv) {
    if (argc > 2) sleep(1);
    return argc < 2 ? 4 : raise(atoi(argv[1]));
}
C
became="p[0]['binding'] is p[0]['allocator'] is p[0]['counts'] is None and p[0]['main'] and \
    p[1]['end'] == 'exec' and not p[1]['main'] and p[1]['pid'] == p[0]['pid']"
if have $CC && $CC -static become.c -o become 2>/dev/null; then
    exits 4 $run -t stats --json became.json -- sh -c 'exec ./become'
    # by its name, or by its file if memopt has looked while it ran
    ok "what it became is said" grep -qE "was called 'become'|became '.*/become'" err
    never err "on libc"
    processes became.json "$became and (p[0]['end'], p[0]['end_value']) == ('exit', 4)"
    processes became.json "len(p) == 2 and (p[0]['program'] or '/become').endswith('/become') and p[1]['counts'] is not None"
    exits 137 $run --json became.json -- sh -c 'exec ./become 9 wait'
    says err "became '$work/become'"
    processes became.json "$became and (p[0]['end'], p[0]['end_value']) == ('signal', 9)"
    # too short to be seen: what is not known is not said
    exits 137 $run --json became.json -- sh -c 'exec ./become 9'
    says err "left no record" # whether memopt has looked in time or not
    # of a child and a grandchild only their own parents are told how they end
    exits 6 $run --json became.json -- sh -c "sh -c 'sh -c \"exec ./become\"; exec ./become'; exit 6"
    processes became.json "[q['end'] for q in p if q['program'].endswith('sh')][0] == 'exit'"
    processes became.json "len(p) > 2 and all(q['end'] in ('exec', None) for q in p[1:])"
    processes became.json "all(q['end_value'] is None for q in p[1:])"
    # one that still runs
    exits 0 $run --json became.json -- sh -c 'sh -c "exec ./become 9 wait" >/dev/null 2>&1 &
        until readlink /proc/$!/exe | grep become; do :; done'
    processes became.json "[q['end'] for q in p if q['program'].endswith('/become')] == ['running']"
fi
if [ "$(id -u)" = 0 ] && have setpriv; then
    exits 0 $run --json became.json -- setpriv --reuid 65534 --clear-groups sleep 1
    processes became.json "$became and p[0]['end'] == 'exit' and p[0]['program'].endswith('sleep')"
    processes became.json "p[1]['program'].endswith('setpriv')"
fi
# one that exits by a system call of its own has not recorded it, and is no other program
cat >raw.c <<'C'
#include <sys/syscall.h>
#include <unistd.h>
int main(void) { return (int)syscall(SYS_exit_group, 3); }
C
if have $CC && $CC raw.c -o raw; then
    exits 3 $run --json became.json -- ./raw
    says err "its end was not recorded"
    processes became.json "len(p) == 1 and (p[0]['end'], p[0]['end_value']) == ('exit', 3)"
fi

# ---- what is not known is never 0: on the user's own malloc, also a child's, memopt's
# allocator has nothing to tell
cat >some.c <<'C'
#include <stdlib.h>
int main(void) { void *volatile p = malloc(100); return p == NULL; }
C
have $CC && $CC some.c -o some
for library in libmimalloc.so.2 libjemalloc.so.2; do
    [ -x some ] && LD_PRELOAD=$library sh -c 'grep -q $LD_PRELOAD /proc/self/maps' || continue
    if [ -z "${SANITIZE_CFLAGS// /}" ]; then # a sanitized memopt does not run on another malloc
        LD_PRELOAD=$library exits 0 $run -a libc --json own.json -- sh -c './some; exit 0'
        never err "live at the end"
        processes own.json "len(p) == 2 and all(q['heap_live'] is q['heap_committed'] is None for q in p)"
    fi
    for trackers in '' stats; do
        # the user has put it before memopt's
        exits 0 $run -a libc -t "$trackers" --json own.json -- \
            sh -c "LD_PRELOAD=$library:\$LD_PRELOAD sh -c './some; exit 0'; ./some; exit 0"
        processes own.json "[q['binding'] == 'none' for q in p] == [False, True, True, False]"
        processes own.json "all(q['counts'] is q['heap_live'] is q['heap_committed'] is None for q in p[1:3])"
        processes own.json "p[3]['allocator'] == 'libc'"
    done
    # ... and behind them: direct is on it, dispatch is not
    exits 0 $run -a libc --json own.json -- \
        sh -c "LD_PRELOAD=\$LD_PRELOAD:$library ./some; exit 0"
    processes own.json "p[1]['binding'] == 'none' and p[1]['heap_live'] is p[1]['heap_committed'] is None"
    exits 0 $run -a libc -t stats --json own.json -- \
        sh -c "LD_PRELOAD=\$LD_PRELOAD:$library ./some; exit 0"
    processes own.json "p[1]['counts']['allocations'] == 1 and p[1]['binding'] == 'dispatch'"
done
# in a sandbox memopt makes no system call: a thread has a slot of its own if one is left, and
# else shares one, whose counts are no thread's and not the program's
cat >shut.c <<'C'
#include <pthread.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
static void *work(void *x) {
    for (int i = 0; i < 1000; i++) *(void *volatile *)&x = malloc(100);
    return x;
}
int main(int argc, char **argv) {
    pthread_t threads[20];
    int count = atoi(argv[1]);
    if (argc > 2 && fork() != 0) { int s; return wait(&s) < 0; }
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    work(0);
    for (int i = 0; i < count; i++) pthread_create(&threads[i], 0, work, 0);
    for (int i = 0; i < count; i++) pthread_join(threads[i], 0);
    _exit(0);
}
C
if have $CC && $CC shut.c -pthread -o shut 2>/dev/null; then
    # the main process, and a child
    for child in '' child; do
        last="p[-1]" # of one, or the child
        exits 0 $run -t stats --json shut.json -- ./shut 2 $child
        processes shut.json "$last['counts']['allocations'] >= 3000"
        processes shut.json "$last['counts']['live_bytes'] >= 300000"
        processes shut.json "len([t for t in $last['threads'] if t['counts']['allocations'] >= 1000]) == 3"
        exits 0 $run -t stats --json shut.json -- ./shut 20 $child
        processes shut.json "$last['counts'] is None and $last['threads'] == $last['histogram'] == []"
        says err "are left out"
    done
fi

# ---- a process number that is given again: the process that had it before was killed, and
# did not become the later program
if [ "$(id -u)" = 0 ] && [ -n "$python" ] && unshare -pf --mount-proc true 2>/dev/null; then
    cat >again.py <<'PY'
import os, struct, subprocess, sys, time
first = subprocess.Popen(["sleep", "600"], close_fds=False)  # by vfork: no record of the fork
with open("/proc/%d/comm" % first.pid) as comm:
    while comm.read() != "sleep\n":
        comm.seek(0)
def is_recorded():
    with open(os.environ["MEMOPT_RUN"] + "/ledgers", "rb") as ledgers:
        page = ledgers.read(4096)
        stride, room, taken = struct.unpack_from("<QQQ", page, 16)
        for record in range(1, taken + 1):
            ledgers.seek(record * stride)
            head = ledgers.read(64)
            if head[:7] == b"memoptL" and struct.unpack_from("<q", head, 24)[0] == first.pid:
                return True
while not is_recorded():
    pass
time.sleep(0.05)  # the kernel has starts to 10 ms; no number comes again that soon by itself
first.kill()
first.wait()
with open("/proc/sys/kernel/ns_last_pid", "w") as last:
    last.write(str(first.pid - 1))
second = subprocess.Popen(["true"], close_fds=False)
second.wait()
sys.exit(first.pid != second.pid)
PY
    unshare -pf --mount-proc $run -q --json again.json -- "$python" again.py
    if [ $? -eq 0 ]; then
        processes again.json "[q['end'] for q in p if q['program'].endswith('/sleep')] == [None]"
        processes again.json "[q['end'] for q in p if q['program'].endswith('/true')] == ['exit']"
    fi
fi
cat >leak.c <<'C'
#include <stdio.h>
#include <stdlib.h>
__attribute__((noinline)) void *lose(int n) { void *volatile p = malloc(n); return p; }
int main(int argc, char **argv) {
    char *p = lose(1234);
    p = NULL;
    fprintf(stderr, "before\n");
    if (argc > 1) { char *x = lose(10); free(x); return x[3]; }
    return p != NULL;
}
C
for flags in "-fsanitize=address" "-fsanitize=address -static-libasan"; do
    have $CC && $CC -g $flags leak.c -o leak 2>/dev/null || continue
    ASAN_OPTIONS=detect_leaks=1 ./leak >/dev/null 2>bare
    status=$?
    [ $status -eq 23 ] || [ $status -eq 1 ] || continue # LeakSanitizer needs ptrace
    grep -q "1234 byte" bare || continue
    exits $status $run --json leak.json -- ./leak
    says err "AddressSanitizer"
    says err "before"
    says err "Direct leak of 1234 byte(s)"
    says err "leaked: 1.21 KiB in 1 block, by 1 call site"
    says err "  1.21 KiB in 1 block: lose (leak.c:3) < main (leak.c:5)"
    [ -z "$python" ] || ok "the leak in JSON" "$python" -c '
import json
s, = json.load(open("leak.json"))["samples"]
assert s["values"] == {"leaked_blocks": 1, "leaked_bytes": 1234} and s["process"] == 0
assert s["labels"] == {"leak": "direct"} and [f["line"] for f in s["frames"][:2]] == [3, 5]'
    exits 1 $run --json leak.json -- ./leak x
    says err "heap-use-after-free"
    says err "freed in:"
    says leak.json "heap-use-after-free"
    says leak.json '"role": "freed"'
    # started by the program, it isn't known before; it starts all the same
    exits $status $run -q -a libc -- sh -c './leak; exit $?'
    says err "Direct leak of 1234 byte(s)"
    # dispatch is no advice for it: AddressSanitizer would not start
    exits $status $run -a libc -- sh -c './leak; exit $?'
    case $flags in *static*) ;; *) says err "built with AddressSanitizer and keeps its allocator" ;; esac
    never err "binding = dispatch"
    # a log path of the user's is respected
    ASAN_OPTIONS=log_path=$work/mine exits $status $run -q -- ./leak
    ok "the user's log_path" grep -q "1234 byte" mine.*
    rm -f mine.*
done
cat >own.c <<'C'
#include <stddef.h>
#include <stdio.h>
static char heap[1 << 20]; static size_t used;
void *malloc(size_t n) { void *p = heap + used; used += (n + 31) & ~(size_t)15; return p; }
void free(void *p) { (void)p; }
void *calloc(size_t a, size_t b) { return malloc(a * b); }
void *realloc(void *p, size_t n) { char *q = malloc(n); for (size_t i = 0; p && i < n; i++) q[i] = ((char *)p)[i]; return q; }
int main(void) { puts("own"); return 6; }
C
if have $CC && $CC -O0 -fno-builtin own.c -o own 2>/dev/null; then
    exits 6 $run -a pool -t stats -- ./own
    says out own
    says err "an allocator of its own"
fi
if [ "$(id -u)" -eq 0 ] && have setpriv && cp "$(command -v sleep)" suid && chmod 4755 suid; then
    chmod 755 "$work"
    exits 0 setpriv --reuid 65534 --clear-groups $run -- ./suid 0
    says err "set-uid"
    exits 0 $run -- ./suid 0
    never err "set-uid"
fi
printf '\177ELF\1\1\1\0\0\0\0\0\0\0\0\0\2\0\3\0\1\0\0\0' >foreign
head -c 100 /dev/zero >>foreign
chmod +x foreign
exits 126 $run -- ./foreign
says err "32-bit x86"
echo 'echo by the shell $0 $1' >text
chmod +x text
exits 0 $run -q -- ./text x
says out "by the shell ./text x"

# ---- paths that LD_PRELOAD can't take
if have cp && [ -d "$top_builddir/preload/.libs" ]; then
    odd="$work/a b:c"
    mkdir -p "$odd/bin" "$odd/lib/memopt"
    cp "$memopt" "$odd/bin/"
    cp "$top_builddir"/plugins/.libs/*.so "$top_builddir"/preload/.libs/*.so "$odd/lib/memopt/"
    for trackers in '' stats; do
        exits 0 "$odd/bin/memopt" run -a pool -t "$trackers" -- \
            sh -c 'grep -o "/lib.*/libmemopt-pool.so" /proc/self/maps | sort -u'
        says err "on pool"
        never err "LD_PRELOAD"
        says out "/lib/memopt/libmemopt-pool.so"
    done
fi

# ---- within itself
exits 5 $run -q -a pool -- $run -a libc -- sh -c 'exit 5'
says err "on libc"
exits 0 $run -q -a pool -- $run -q -a libc -- sh -c 'echo "$LD_PRELOAD"'
never out "preload.so"
# (a sanitized memopt insists on being first)
ASAN_OPTIONS=verify_asan_link_order=0 LD_PRELOAD=libc.so.6 exits 0 $run -q -- sh -c 'echo "$LD_PRELOAD"'
says out "libmemopt-agent.so:libc.so.6"
# of LD_PRELOAD only memopt's entries go, wherever they stand: also of what a program
# (fakeroot) has put before them, and for a grandchild that is not followed
cat >first.c <<'C'
int nothing;
C
if have $CC && $CC -shared -fPIC first.c -o first.so && cp first.so own.so; then
    inner='echo "inner=$LD_PRELOAD"'
    # (a sanitized memopt insists on being first)
    export ASAN_OPTIONS=verify_asan_link_order=0
    for allocator in libc jemalloc; do
        have_allocator $allocator || continue
        # a sanitized memopt, the inner one here, runs on no other malloc
        [ $allocator = libc ] || [ -z "${SANITIZE_CFLAGS// /}" ] || continue
        LD_PRELOAD=$work/own.so exits 0 $run -q -a $allocator -- sh -c "
            LD_PRELOAD=$work/first.so:\$LD_PRELOAD $run -q -a libc -- sh -c '$inner'"
        ok "nested, on $allocator: $(cat out)" \
            grep -q "^inner=[^:]*/libmemopt-agent.so:$work/first.so:$work/own.so\$" out
        LD_PRELOAD=$work/own.so exits 0 $run -q -a $allocator -- sh -c "
            export LD_PRELOAD=$work/first.so:\$LD_PRELOAD
            $run -q -a libc --set memopt.follow=no -- sh -c 'sh -c \"echo \\\$LD_PRELOAD\"'"
        ok "not followed, on $allocator: $(cat out)" grep -qx "$work/first.so:$work/own.so" out
    done
    unset ASAN_OPTIONS
fi

# ---- a summary that can't be written where it should be is not lost
exits 0 $run --set reporter.text.output=/nonexistent/x -- true
says err "/nonexistent/x"
says err "ms wall"

# ---- children that a signal ends: what can be known is said
exits 0 $run -- sh -c 'sh -c "kill -9 \$\$"; sh -c "exit 4"; exit 0'
says err "killed, or became a program that isn't watched"
says err "exit status 4"

# ---- no room for the ledgers: elsewhere if there is room, else the report says so
if [ "$(id -u)" -eq 0 ] && unshare -m true 2>/dev/null; then
    exits 0 unshare -m sh -c 'mount -t tmpfs -o size=64k none /dev/shm && exec "$@"' - \
        $run -t stats -- sh -c 'echo $MEMOPT_RUN'
    says err "allocations"
    never out "/dev/shm"
    never err "No space left"
fi
# in the middle of a run; and a limit of file sizes is of no account
if [ "$(id -u)" -eq 0 ] && unshare -m true 2>/dev/null; then
    exits 0 unshare -m sh -c 'mount -t tmpfs -o size=24m none /dev/shm && exec "$@"' - \
        $run -t stats --json missing.json -- \
        sh -c 'head -c 23m /dev/zero >/dev/shm/full 2>/dev/null; sh -c true; exit 0'
    says err "not recorded and not counted"
    says missing.json "no ledger in the run directory: No space left"
fi
exits 0 $run -t stats --json limited.json -- sh -c 'ulimit -f 8; sh -c true; exit 0'
never err "not recorded and not counted"
processes limited.json "len(p) == 2 and p[1]['counts'] is not None"

# ---- the report on standard output
exits 0 $run -q --json - -- true
says out '"schema": "memopt-report"'
[ ! -e ./- ] || exits 0 false
# (a closed one is closed for the program, too)
exits 1 sh -c "exec $run -q --json - -- sh -c 'echo to nobody 2>/dev/null || exit 1' >&-"
says err "'stdout': Bad file descriptor"

# ---- a program that is linked with another malloc: libc's is to serve it all the same
if command -v redis-server >/dev/null && ldd "$(command -v redis-server)" | grep -q libjemalloc; then
    exits 0 $run -a libc -- redis-server --version
    says err "(dispatch)"
    exits 125 $run -a libc --set memopt.binding=direct -- redis-server --version
    says err "linked with 'libjemalloc.so.2', whose malloc comes before the C library's"
    exits 0 $run -a libc -- sh -c 'redis-server --version; exit 0'
    says err "libjemalloc.so.2', whose malloc serves it"
fi

# ---- a malloc that the user has preloaded, and that memopt's comes before: said before the
# start; nothing is said where it is used, or has no malloc, or is the allocator's library
cat >wrapper.c <<'C'
#include <dlfcn.h>
#include <stddef.h>
void *malloc(size_t n) {
    static void *(*next)(size_t);
    if (next == NULL) *(void **)&next = dlsym((void *)-1, "malloc"); /* RTLD_NEXT */
    return next(n);
}
C
bypassed() { # LIBRARY ALLOCATOR TRACKERS YES-OR-NO
    [ -z "${SANITIZE_CFLAGS// /}" ] || return 0 # a sanitized memopt runs on no other malloc
    LD_PRELOAD=$1 \
        exits 0 $run -a "$2" -t "$3" -- sh -c 'echo started >&2; exit 0'
    sed '/^started$/,$d' err >before
    if [ "$4" = yes ]; then
        says before "'$1' in LD_PRELOAD has a malloc of its own, which is not used"
    else
        never err "in LD_PRELOAD has"
    fi
}
if have $CC && $CC -shared -fPIC -fno-builtin wrapper.c -o wrapper.so -ldl; then
    bypassed "$work/wrapper.so" libc stats yes
    bypassed "$work/wrapper.so" pool '' yes
    bypassed "$work/wrapper.so" libc '' no
    LD_LIBRARY_PATH=$work bypassed wrapper.so pool '' yes
    if have_allocator jemalloc; then
        bypassed "$work/wrapper.so" jemalloc '' yes
        bypassed libjemalloc.so.2 jemalloc '' no
        bypassed libjemalloc.so.2 libc stats yes
    fi
fi
if LD_PRELOAD=libc_malloc_debug.so.0 sh -c 'grep -q libc_malloc_debug /proc/self/maps'; then
    bypassed libc_malloc_debug.so.0 libc stats yes
    bypassed libc_malloc_debug.so.0 libc '' no
fi
if [ "$(id -u)" = 0 ] && [ -e wrapper.so ] && unshare -m true 2>/dev/null && cp -a /etc etc; then
    printf '# mine\n%s # and not %s\n' "$work/wrapper.so" "$work/first.so" >etc/ld.so.preload
    # (a sanitized memopt insists on being first)
    ASAN_OPTIONS=verify_asan_link_order=0 exits 0 unshare -m sh -c \
        'mount --bind etc /etc && exec "$@"' - $run -a pool -- true
    says err "'$work/wrapper.so' in /etc/ld.so.preload has a malloc of its own, which is not used"
fi
bypassed libc.so.6 libc '' no
bypassed "$work/first.so" pool stats no

# ---- a program that calls an allocator library's own functions: bound to that library,
# or refused before it starts; one that is only linked with the library runs on any
own_calls() { # ALLOCATOR LIBRARY DECLARATIONS(2) CALLS(2)
    cat >calls.c <<C
#include <stdio.h>
#include <stdlib.h>
void *$3;
void $4;
int main(int argc, char **argv) {
    for (int i = 0; i < 1000; i++) {
        free($5);
        void *volatile p = malloc(100);
        $6;
    }
    return argc > 1 ? system(argv[1]) != 0 : puts("called") < 0;
}
C
    cat >linked.c <<'C'
#include <stdio.h>
#include <stdlib.h>
int main(void) { void *volatile p = malloc(100); free(p); return puts("linked") < 0; }
C
    $CC calls.c -o calls "$2" -Wl,--no-as-needed 2>/dev/null &&
        $CC -Wl,--no-as-needed linked.c "$2" -o linked 2>/dev/null || return 0
    [ "$(./calls 2>&1)" = called ] || return 0
    for way in "" "-a $1"; do
        exits 0 $run $way --json calls.json -- ./calls
        says out called
        says err "on $1 "
        says err "so it is bound to that library (allocator '$1')"
        processes calls.json "p[0]['binding'] == 'direct' and p[0]['allocator'] == '$1'"
    done
    exits 0 $run -- ./calls "./calls './calls; exit 0'"
    for wrong in "-a libc" "-a pool" "--set memopt.allocator=libc" "-c libc.ini" "-t stats" \
        "-a $1 --set memopt.binding=dispatch" "--set heap.default.limit=1GiB"; do
        exits 125 $run $wrong -- ./calls
        says err "of 'lib$1"
        [ ! -s out ] || ok "not started" false
    done
    exits 125 $run -a pool -- ./calls
    says err "use -a $1, or name no allocator"
    for fine in "" "-a libc" "-a pool" "-a $1" "-t stats" "-a pool -t stats"; do
        exits 0 $run $fine -- ./linked
        says out linked
        exits 0 $run $fine -- sh -c './linked; sh -c "./linked; exit 0"; exit 0'
    done
}
printf '[memopt]\nallocator = libc\n' >libc.ini
if have $CC; then
    have_allocator jemalloc && own_calls jemalloc -ljemalloc 'mallocx(size_t, int)' \
        'dallocx(void *, int)' 'mallocx(100, 0)' 'dallocx(p, 0)'
    have_allocator mimalloc && own_calls mimalloc -lmimalloc 'mi_malloc(size_t)' \
        'mi_free(void *)' 'mi_malloc(100)' 'mi_free(p)'
    have_allocator tcmalloc && own_calls tcmalloc -ltcmalloc 'tc_malloc(size_t)' \
        'tc_free(void *)' 'tc_malloc(100)' 'tc_free(p)'
fi

# ---- a run directory that isn't one: the program runs, and what is said is true
mkdir odd
exits 3 env MEMOPT_RUN="$PWD/odd" LD_PRELOAD="$top_builddir/preload/.libs/libmemopt-agent.so" sh -c 'exit 3'
says err "'$PWD/odd' (MEMOPT_RUN) is not a directory of memopt run"
odd=$(named "$PWD/odd")
for library in agent preload; do
    preloaded="MEMOPT_RUN=$odd LD_PRELOAD=$top_builddir/preload/.libs/libmemopt-$library.so"
    # shellcheck disable=SC2086
    exits 3 env $preloaded sh -c 'exit 3'
    says err "cannot open '$odd/run.ini': No such file or directory"
    [ $library = agent ] && says err "keeps the malloc that it is bound to"
    [ $library = preload ] && says err "runs on the C library's malloc"
    mkfifo "$odd/run.ini"
    # shellcheck disable=SC2086
    exits 3 timeout -k 1 600 env $preloaded sh -c 'exit 3'
    says err "is not what memopt run wrote"
    rm "$odd/run.ini"
done

programs=$top_builddir/tests/programs
# ---- an unusual umask
exits 0 $run -t stats -- sh -c 'umask 0777; exec "$0" fork-exit' "$programs/behaviour"
never err "Permission denied"
exits 0 sh -c "umask 0177; exec $run -- true"
never err "Permission denied"

# ---- children that have other rights are silent, and ended ones take little room
if [ "$(id -u)" = 0 ] && su -s /bin/sh nobody -c true 2>/dev/null; then
    exits 0 $run -q -a libc -- su -s /bin/sh nobody -c '/bin/echo one'
    ok "a child of another user says nothing" test ! -s err
    exits 0 $run -q -a pool -- su -s /bin/sh nobody -c 'grep -c libmemopt-pool /proc/self/maps'
    ok "and is on the same allocator" test "$(cat out)" -gt 0
fi
if [ "$(id -u)" = 0 ] && unshare -m true 2>/dev/null; then
    exits 0 unshare -m sh -c 'mount -t tmpfs -o size=16m none /dev/shm && exec "$@"' - \
        $run -q -t stats -- sh -c 'for i in $(seq 300); do /bin/true; done; df -k /dev/shm'
    used=$(awk 'END { print $3 }' out)
    ok "ended children leave room in /dev/shm ($used KiB are used)" test "$used" -lt 12300
fi

# ---- as the first process of a container
if [ "$(id -u)" = 0 ] && unshare -pf --mount-proc true 2>/dev/null; then
    exits 5 unshare -pf --mount-proc $run -q -- sh -c '
        for i in 1 2 3; do sh -c "sleep 0.1 &"; done
        sleep 1
        grep -l "^State:.*Z" /proc/[0-9]*/status
        exit 5'
    ok "orphans are waited for" test ! -s out
fi

# ---- dead runs are cleaned up, living ones and others' things are not
if [ -w /dev/shm ]; then
    stale=$(named "$(mktemp -d "/dev/shm/memopt-$(id -u)-XXXXXX")")
    fresh=$(named "$(mktemp -d "/dev/shm/memopt-$(id -u)-XXXXXX")")
    touch "$stale/ledgers" "$stale/settings.ini"
    # a memopt that was killed, with a program that goes on
    $run -q -t stats -- sh -c 'echo "$$ $MEMOPT_RUN" >alive; exec sleep 60' &
    orphan=$!
    for _ in $(seq 1200); do [ -s alive ] && break; sleep 0.05; done
    read -r survivor alive <alive
    kill -KILL $orphan
    wait $orphan 2>/dev/null
    touch -d '1 hour ago' "$stale" "$alive"
    touch "$fresh"
    exits 0 $run -q -- true
    ok "a dead run is cleaned up" test ! -e "$stale"
    ok "a young one is not" test -e "$fresh"
    ok "one with living programs is not" test -e "$alive/settings.ini"
    kill "$survivor"
    rm -rf "$stale" "$fresh" "$alive"
fi

# ---- at the program's end nothing is asked of the allocator
if [ -n "$python" ]; then
    cat >no_figures.py <<'PY'
import json
report = json.load(open("no_figures.json"))
assert report["processes"][0]["heap_live"] is None, report
assert report["user_time"] + report["system_time"] < 300_000_000, report
PY
    exits 0 $run -q -a slow-figures --set memopt.plugin_path="$top_builddir/tests/bad_plugins" \
        --json no_figures.json -- true
    ok "a slow allocator is not asked for its figures at the end" "$python" no_figures.py
fi

# ---- signals and job control
if [ -n "$python" ]; then
    ok "signals and job control" timeout 600 "$python" "$top_srcdir/tests/run_signals.py" "$memopt"
fi
finish
