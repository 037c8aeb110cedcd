#!/bin/bash
# Real, unmodified programs on every backend, by direct binding (memopt's own library
# preloaded by hand, too), under the shim and under the shim with the stats tracker:
# their output and exit status must
# be, byte for byte, those without memopt. A program that isn't installed is
# skipped and named.

set -u
: "${top_srcdir:?}" "${top_builddir:?}"
unset MEMOPT_PLUGIN_PATH MEMOPT_CONF
memopt=$top_builddir/cli/memopt
programs=$top_builddir/tests/programs
[ -x "$programs/static" ] || { echo "tests/programs is not built: make check TESTS="; exit 99; }
work=$(mktemp -d) || exit 99
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 99
export XDG_CONFIG_HOME=$work HOME=$work LC_ALL=C PYTHONHASHSEED=0 PERL_HASH_SEED=0
export GIT_CONFIG_NOSYSTEM=1
# Debian's own, not a wrapper of it further up in PATH
PATH=/usr/bin:/bin:$PATH

passed=0 failed=0 skipped=0
bad() { echo "FAIL: $*"; failed=$((failed + 1)); }

# -------------------------------------------------------------------- the jobs
# Each reads its size from $size: `large` or, for backends that spend a page or
# more on every block, `small`.
scale() { if [ $size = large ]; then echo "$1"; else echo "$2"; fi; }

job_python3() {
    if [ $size = large ]; then export PYTHONMALLOC=malloc; fi
    exec python3 "$top_srcdir/bench/programs/document.py" "$(scale 12 2)" "$(scale 1500 60)"
}
job_perl() { exec perl "$top_srcdir/bench/programs/words.pl" "$(scale 20000 300)"; }
job_sqlite3() {
    sed "s/200000/$(scale 20000 300)/" "$top_srcdir/examples/orders.sql" >orders.sql
    exec sqlite3 :memory: '.read orders.sql'
}
job_git() { exec git -C repository.git --no-pager log -p --stat -M -C "-$(scale 60 4)" main; }
job_gcc() { exec gcc -std=gnu17 "$(scale -O2 -O0)" -S -o - "$(scale generated.c small.c)"; }
job_bash() {
    exec bash -c '
        declare -A count
        for ((i = 0; i < $1; i++)); do
            word="w$((i * 7919 % 101))"
            count[$word]=$((${count[$word]:-0} + i))
            text+="$word,"
        done
        for word in $(printf "%s\n" "${!count[@]}" | sort); do echo "$word ${count[$word]}"; done
        echo "${#text} $(echo "$text" | tr , "\n" | sort -u | wc -l)"
        exit 5' bash "$(scale 4000 150)"
}
job_cxx() { exec "$programs/cxx_exceptions"; }

needs() { case $1 in cxx) echo "$programs/cxx_exceptions" ;; *) echo "$1" ;; esac; }

git_repository() {
    local i k
    git init -q --bare repository.git
    for i in $(seq 60); do
        printf 'commit refs/heads/main\ncommitter A <a@example.org> %d +0000\ndata <<X\nchange %d\nX\n' \
            $((1700000000 + i)) "$i"
        printf 'M 644 inline file%d.txt\ndata <<X\n' $((i % 5))
        for k in $(seq 200); do echo "line $k $((k % 9 == i % 9 ? i : 0))"; done
        echo X
    done | git -C repository.git fast-import --quiet
}
c_files() {
    echo 'int main(void) { return 0; }' >small.c
    local i
    for i in $(seq 60); do
        echo "static int f$i(int *p, int n) { int s = $i; for (int k = 0; k < n; k++)"
        echo "switch ((p[k] + k) % 5) { case 0: s += p[k]; break; case 1: s ^= p[k] * $i; break;"
        echo "default: s = s * 31 + k; } return s; } int g$i(int *p, int n) { return f$i(p, n) + f$i(p + 1, n / 2); }"
    done >generated.c
}
command -v git >/dev/null && git_repository
c_files

# -------------------------------------------------------------------- the runs
backends=
for backend in libc jemalloc tcmalloc mimalloc pool arena mmap guard; do
    if [ -f "$top_builddir/plugins/.libs/alloc-$backend.so" ]; then
        backends="$backends $backend"
    else
        echo "skipped: no $backend in this build"
        skipped=$((skipped + 1))
    fi
done

options() { # MODE BACKEND
    case $1 in
    direct) echo "--set memopt.binding=direct --set memopt.trackers=" ;;
    dispatch) echo "--set memopt.binding=dispatch --set memopt.trackers=" ;;
    stats) echo "--set memopt.binding=dispatch -t stats" ;;
    esac
    if [ "$2" = arena ]; then echo "--set allocator.arena.size=2GiB"; fi
}

for job in python3 perl sqlite3 git gcc bash cxx; do
    if ! command -v "$(needs $job)" >/dev/null; then
        echo "skipped: no $job here"
        skipped=$((skipped + 1))
        continue
    fi
    for size in large small; do
        (eval "job_$job") >"expected.$size" 2>"expected.err"
        echo $? >"status.$size"
        [ -s "expected.$size" ] || bad "$job: no output without memopt"
    done
    for backend in $backends; do
        modes="dispatch stats"
        hand=$top_builddir/plugins/.libs/libmemopt-$backend.so
        size=large
        case $backend in
        libc | jemalloc | tcmalloc | mimalloc) modes="direct $modes" ;;
        pool) modes="hand direct $modes" ;;
        mmap | guard) size=small ;;
        esac
        for mode in $modes; do
            binding=$mode
            [ $mode = stats ] && binding=dispatch
            # the job is a shell function: memopt starts what it execs
            (
                # shellcheck disable=SC2046
                exec() { command exec timeout -k 5 600 "$memopt" run -a "$backend" \
                    $(options "$mode" "$backend") -- "$@"; }
                if [ "$mode" = hand ]; then
                    exec() { command exec env "LD_PRELOAD=$hand" timeout -k 5 600 "$@"; }
                fi
                eval "job_$job"
            ) >got 2>got.err
            status=$?
            if [ $status != "$(cat status.$size)" ]; then
                bad "$job on $backend ($mode): exit status $status, not $(cat status.$size)"
                tail -5 got.err
            elif ! cmp -s got "expected.$size"; then
                bad "$job on $backend ($mode): other output"
                diff "expected.$size" got | head -5
            elif [ "$mode" != hand ] && ! grep -q "on $backend.*($binding)" got.err; then
                bad "$job on $backend ($mode): the summary doesn't say that it ran there"
                head -3 got.err
            else
                passed=$((passed + 1))
            fi
        done
    done
done

# A static binary can't be reached: it is recognised, said so, and run all the same.
"$programs/static" one >expected
want=$?
for backend in $backends; do
    "$memopt" run -a "$backend" -- "$programs/static" one >got 2>got.err
    status=$?
    if [ $status = $want ] && cmp -s expected got && grep -q "static.*statically linked" got.err; then
        passed=$((passed + 1))
    else
        bad "a static binary on $backend: exit status $status; $(cat got.err)"
    fi
done

echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
