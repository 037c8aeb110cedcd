#!/bin/bash
# Real, unmodified programs on every backend: bound directly, dispatched, and with
# the stats tracker, and on memopt's own library preloaded by hand. Output and exit status must be those without memopt, byte for
# byte, and what the report says must be true (tests/real/report.py). Bound directly,
# a program is on the library as if preloaded by hand: where it fails by hand, too,
# that is named and not counted as failed.
#
# A program that isn't installed is skipped and named. Not every combination of
# program, backend and mode runs each time: MEMOPT_SHARE=N/M takes every Mth, from
# the Nth; MEMOPT_LONG=1 takes all. By default the commit's hash and the build
# directory's name choose one share of $shares. PROGRAMS='node php' takes only those,
# BACKENDS='libc pool' and MODES='direct' likewise.
#
# To add a program: a row in $programs and a function run_NAME that starts it with
# `under` (in place of `exec`), prints what must be the same on its standard output,
# and returns its exit status. It reads its size from $size: `large` or, for the
# backends that spend a page or more on every block, `small`. setup_NAME, if there is
# one, runs once before.

set -u
: "${top_srcdir:?}" "${top_builddir:?}"
unset MEMOPT_PLUGIN_PATH MEMOPT_CONF LD_PRELOAD
shares=6
programs=(
    # NAME       NEEDS                   SIZES        CHILDREN AND THEIR EXIT STATUSES
    "python3     python3                 large,small"
    "perl        perl                    large,small"
    "sqlite3     sqlite3                 large,small"
    "git         git                     large,small"
    "gcc         gcc                     large,small  cc1=0"
    "bash        bash                    large,small  sort=0 false=1"
    "cxx         ./cxx_exceptions        large,small"
    "node        node                    large        false=1"
    "php         php                     large,small  false=1"
    "ruby        ruby                    large,small  false=1"
    "lua         lua                     large,small  false=1"
    "make        make,gcc                large        cc1=0 as=0 false=1"
    "redis       redis-server,redis-cli,redis-benchmark large"
    "nginx       nginx,python3           large"
    "postgres    postgres,initdb,pgbench,psql,user large"
    "valgrind    valgrind                large,small"
    "gdb         gdb,gcc                 large,small"
    "ghc         ghc                     large"
    "haskell     ghc                     large,small"
    "java        java,javac              large        false=1"
    "go          go,gcc                  large,small  false=1"
    "chromium    chromium                large"
    "sandbox     chromium,user           large"
)

source=$top_srcdir/tests/real
memopt=$top_builddir/cli/memopt
[ -x "$top_builddir/tests/programs/static" ] ||
    { echo "tests/programs is not built: make check TESTS="; exit 99; }
work=$(mktemp -d /tmp/memopt-programs.XXXXXX) || exit 99
# Servers that are still there, because they failed or we are interrupted: timeout,
# which each runs under, passes the signal on and kills what doesn't heed it.
servers=()
finish() {
    local server
    for server in "${servers[@]}"; do kill -TERM "$server" 2>/dev/null; done
    wait
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 143' TERM INT HUP
cd "$work" || exit 99
chmod 755 .
mkdir -m 1777 public
export XDG_CONFIG_HOME=$work HOME=$work LC_ALL=C PYTHONHASHSEED=0 PERL_HASH_SEED=0
export GIT_CONFIG_NOSYSTEM=1
# Debian's own, not wrappers of them further up in PATH; and what is in no PATH
postgres=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -1)
PATH=$top_builddir/tests/programs:/usr/bin:/bin:/usr/sbin:/sbin:$PATH:$postgres

passed=0 failed=0 skipped=0
bad() { echo "FAIL: $*"; failed=$((failed + 1)); }
skip() { echo "skipped: $*"; skipped=$((skipped + 1)); }

# under COMMAND...: starts it as the combination says; in the bare run just so.
run=(timeout -k 5 300)
under() { "${run[@]}" "$@"; }
# What refuses to run as root, runs as somebody else, if they can read the build.
drop=()
if [ "$(id -u)" = 0 ]; then
    drop=(setpriv --reuid=nobody --regid=nogroup --clear-groups)
fi
user_can_read() {
    "${drop[@]}" test -x "$memopt" && "${drop[@]}" test -r "$top_builddir/plugins/.libs/alloc-libc.so"
}
as_user() { "${drop[@]}" "${run[@]}" "$@"; }

# serve COMMAND...: a server in the background; leave its end to `served`
serve() {
    "$@" >server.out &
    server=$!
    servers=("$server")
}
# ready COMMAND...: waits until it succeeds; fails if the server has ended before
ready() {
    local i
    for i in $(seq 1200); do
        if "$@" >/dev/null 2>&1; then return 0; fi
        kill -0 "$server" 2>/dev/null || break
        sleep 0.05
    done
    echo "the server did not come up" >&2
    return 1
}
served() {
    wait "$server"
    local status=$?
    servers=()
    return $status
}
scale() { if [ $size = large ]; then echo "$1"; else echo "$2"; fi; }

# ---------------------------------------------------------------- the programs
run_python3() {
    if [ $size = large ]; then export PYTHONMALLOC=malloc; fi
    under python3 "$top_srcdir/bench/programs/document.py" "$(scale 12 2)" "$(scale 1500 60)"
}
run_perl() { under perl "$top_srcdir/bench/programs/words.pl" "$(scale 20000 300)"; }
run_sqlite3() {
    sed "s/200000/$(scale 20000 300)/" "$top_srcdir/examples/orders.sql" >orders.sql
    under sqlite3 :memory: '.read orders.sql'
}

setup_git() {
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
run_git() { under git -C repository.git --no-pager log -p --stat -M -C "-$(scale 60 4)" main; }

c_function() { # NUMBER
    echo "static int f$1(int *p, int n) { int s = $1; for (int k = 0; k < n; k++)"
    echo "switch ((p[k] + k) % 5) { case 0: s += p[k]; break; case 1: s ^= p[k] * $1; break;"
    echo "default: s = s * 31 + k; } return s; } int g$1(int *p, int n) { return f$1(p, n) + f$1(p + 1, n / 2); }"
}
setup_gcc() {
    echo 'int main(void) { return 0; }' >small.c
    local i
    for i in $(seq 60); do c_function "$i"; done >generated.c
}
run_gcc() { under gcc -std=gnu17 "$(scale -O2 -O0)" -S -o - "$(scale generated.c small.c)"; }

run_bash() {
    under bash -c '
        declare -A count
        for ((i = 0; i < $1; i++)); do
            word="w$((i * 7919 % 101))"
            count[$word]=$((${count[$word]:-0} + i))
            text+="$word,"
        done
        for word in $(printf "%s\n" "${!count[@]}" | sort); do echo "$word ${count[$word]}"; done
        echo "${#text} $(echo "$text" | tr , "\n" | sort -u | wc -l)"
        /bin/false
        exit 5' bash "$(scale 4000 150)"
}
run_cxx() { under cxx_exceptions; }

run_node() { under node "$source/job.js" 5000; }
run_php() { USE_ZEND_ALLOC=0 under php "$source/job.php" "$(scale 20000 500)"; }
run_ruby() { under ruby "$source/job.rb" "$(scale 20000 200)"; }
run_lua() { under lua "$source/job.lua" "$(scale 20000 200)"; }

# Two jobs at once, and one target that fails.
setup_make() {
    mkdir project
    local i
    for i in $(seq 6); do
        { c_function "$i"; echo "extern int printf(const char *, ...);"; } >project/part$i.c
    done
    {
        for i in $(seq 6); do echo "int g$i(int *, int);"; done
        echo 'int printf(const char *, ...);'
        echo 'int main(void) { int p[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9}; printf("'
        for i in $(seq 6); do printf '%%d '; done
        printf '\\n"'
        for i in $(seq 6); do echo ", g$i(p, 8)"; done
        echo '); return 0; }'
    } | tr -d '\n' >project/main.c
    {
        echo 'objects = main.o part1.o part2.o part3.o part4.o part5.o part6.o'
        echo 'all: program failing'
        echo 'program: $(objects)'
        echo '	gcc -o $@ $(objects)'
        echo '	./program'
        echo '%.o: %.c'
        echo '	gcc -O1 -c -o $@ $<'
        echo 'failing:'
        echo '	/bin/false'
    } >project/Makefile
}
run_make() {
    rm -f project/*.o project/program
    local status
    under make -j2 -k -C project >make.out
    status=$?
    sort make.out
    (cd project && sha256sum ./*.o program)
    return $status
}

run_redis() {
    serve under redis-server --port 0 --unixsocket redis.socket --save '' --logfile redis.log \
        --dir "$work"
    if ready redis-cli -s redis.socket ping; then
        redis-benchmark -s redis.socket -c 8 -n 4000 -r 500 -d 100 -q \
            -t set,get,incr,lpush,rpop,sadd,hset,zadd,mset >/dev/null || echo "the benchmark failed"
        redis-cli -s redis.socket flushall
        redis-cli -s redis.socket eval 'local s = 0; for i = 1, 2000 do
            redis.call("hset", "h" .. i % 50, i, string.rep("x", i)); s = s + i end; return s' 0
        redis-cli -s redis.socket dbsize
        redis-cli -s redis.socket hlen h7
        redis-cli -s redis.socket shutdown nosave
    fi
    served
}

setup_nginx() {
    mkdir -p nginx/html/list
    sed "s,@directory@,$work/nginx," "$source/nginx.conf" >nginx/nginx.conf
    local i
    echo "<p>hello" >nginx/html/index.html
    for i in $(seq 4000); do echo "line $i of a file that is worth compressing"; done >nginx/html/large.txt
    for i in $(seq 50); do : >"nginx/html/list/file$i"; done
    touch -d 2020-01-01 nginx/html/list/* nginx/html/*.*
    if [ "$(id -u)" = 0 ]; then sed -i '1i user root;' nginx/nginx.conf; fi
}
run_nginx() {
    rm -f nginx/nginx.socket
    serve under nginx -p "$work/nginx" -c "$work/nginx/nginx.conf" -e error.log
    if ready python3 "$source/requests.py" nginx/nginx.socket 1; then
        python3 "$source/requests.py" nginx/nginx.socket 60
        kill -QUIT "$(cat nginx/nginx.pid)"
    fi
    served
}

setup_postgres() {
    "${drop[@]}" initdb -D public/postgres -U postgres -A trust --no-sync -E UTF8 --locale=C >/dev/null
    cat >>public/postgres/postgresql.conf <<X
listen_addresses = ''
unix_socket_directories = '$work/public'
fsync = off
max_connections = 20
shared_buffers = 8MB
X
}
sql() { psql -h "$work/public" -U postgres -d postgres -X -A -t -q "$@"; }
run_postgres() {
    serve as_user postgres -D "$work/public/postgres"
    if ready sql -c 'select 1'; then
        pgbench -i -q -h "$work/public" -U postgres postgres 2>/dev/null >/dev/null
        pgbench -n -c 4 -j 2 -t 100 -h "$work/public" -U postgres postgres 2>/dev/null |
            grep -E 'actually processed|failed transactions'
        sql -c 'select count(*), (select sum(delta) from pgbench_history) = sum(abalance) from pgbench_accounts' \
            -c "select md5(string_agg(n || repeat('x', n % 50), ',' order by n % 97, n)) from generate_series(1, 20000) n" \
            -c "select count(*), sum(length(doc::text)) from (select jsonb_build_object('n', n, 'list', array[n, n * 2]) doc from generate_series(1, 5000) n) s"
        kill -INT "$(head -1 public/postgres/postmaster.pid)" # fast shutdown
    fi
    served
}

# Valgrind's client under memopt: what it finds must be what it finds without.
setup_valgrind() { seq 300 | rev >numbers; }
run_valgrind() { under valgrind -q --log-fd=1 --error-exitcode=9 sort -n numbers; }

setup_gdb() {
    cat >crash.c <<'X'
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static int breaks(char *text) { return text[1]; }
int main(void) {
    char *text = strdup("text");
    text = realloc(text, 3000);
    printf("%c\n", breaks(text));
    fflush(stdout);
    abort();
}
X
    gcc -g -O0 -o crash crash.c
    gdb -q -nx -batch -ex run ./crash </dev/null | grep SIGABRT # where ptrace is allowed
}
run_gdb() {
    under gdb -q -nx -batch -ex 'set startup-with-shell off' -ex 'break breaks' -ex run -ex 'print *text@4' \
        -ex 'print (int)puts("called")' -ex continue -ex 'frame function main' -ex 'print $_siginfo.si_signo' \
        ./crash </dev/null >gdb.out
    local status=$?
    sed -E 's/0x[0-9a-f]+/ADDRESS/g; /^warning|libthread_db/d' gdb.out
    return $status
}

setup_ghc() { cp "$source/Job.hs" .; }
run_ghc() {
    rm -f Job.o Job.hi Job
    under ghc -v0 -O0 -threaded -rtsopts Job.hs -o Job
    local status=$?
    ./Job 100 2>&1
    return $status
}
setup_haskell() {
    cp "$source/Job.hs" .
    ghc -v0 -O0 -threaded -rtsopts -outputdir haskell Job.hs -o haskell.program
}
run_haskell() { under ./haskell.program "$(scale 20000 200)"; }

setup_java() { cp "$source/Job.java" . && javac Job.java; }
run_java() { under java -Xmx256m -cp . Job 5000; }
setup_go() { cp "$source/job.go" . && GOFLAGS=-mod=mod GO111MODULE=off go build -o go.program job.go; }
run_go() { under ./go.program "$(scale 20000 400)"; }

dump_page() { # STARTED-BY DIRECTORY OPTION...
    local start=$1 directory=$2
    shift 2
    HOME=$directory $start chromium --headless --disable-gpu --disable-dev-shm-usage "$@" \
        --user-data-dir="$directory/profile" --dump-dom "file://$work/public/page.html"
}
setup_chromium() { cp "$source/page.html" public/ && chmod 644 public/page.html; }
run_chromium() { dump_page under "$work" --no-sandbox; }
setup_sandbox() { # where such users may make namespaces
    setup_chromium && "${drop[@]}" mkdir -p public/home && run_sandbox | grep '<table'
}
run_sandbox() { dump_page as_user "$work/public/home"; }

# ------------------------------------------------------------------ the choice
all_backends=
for backend in ${BACKENDS:-libc jemalloc tcmalloc mimalloc pool arena mmap guard}; do
    if [ -f "$top_builddir/plugins/.libs/alloc-$backend.so" ]; then
        all_backends="$all_backends $backend"
    else
        skip "no $backend in this build"
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
# The library by hand: what memopt preloads for it, without memopt's own part. Empty
# for libc; what can't be bound directly isn't in the table.
declare -A by_hand
for backend in $all_backends; do
    # shellcheck disable=SC2046,SC2016
    if loaded=$("$memopt" run -q -a "$backend" --json bound.json $(options direct "$backend") -- \
        sh -c 'echo "$LD_PRELOAD"' 2>/dev/null) && grep -q '"binding": "direct"' bound.json; then
        by_hand[$backend]=$(tr ' ' : <<<"$loaded" | tr : '\n' | grep -Ev '/libmemopt-(agent|preload|edges)' | paste -sd:)
    fi
done

# memopt's own library is ours to answer for when it is preloaded by hand, too.
is_ours() { [[ ${by_hand[$1]:-} = "$top_builddir"/* ]]; }

if [ "${MEMOPT_LONG:-}" = 1 ]; then
    share=0 shares=1
elif [ -n "${MEMOPT_SHARE:-}" ]; then
    share=${MEMOPT_SHARE%/*} shares=${MEMOPT_SHARE#*/}
else
    commit=$(git -C "$top_srcdir" rev-parse HEAD 2>/dev/null)
    share=$(($(cksum <<<"$commit ${top_builddir##*/}" | cut -d' ' -f1) % shares))
fi
[ $shares = 1 ] || echo "share $share of $shares: MEMOPT_SHARE=$share/$shares runs it again"
[ "$((share))" -lt "$((shares))" ] || { echo "no such share"; exit 99; }

number=0
# chosen NAME SIZES: the program's combinations in this share, one a line
choose() {
    local name=$1 sizes=$2 backend mode size
    chosen=()
    for backend in $all_backends; do
        size=large
        case $backend in
        mmap | guard)
            size=small
            [[ $sizes = *small* ]] || continue
            ;;
        esac
        for mode in ${MODES:-hand direct dispatch stats}; do
            if [ $mode = direct ] && [ -z "${by_hand[$backend]+x}" ]; then continue; fi
            if [ $mode = hand ] && ! is_ours "$backend"; then continue; fi
            if [ $((number % shares)) = "$share" ]; then chosen+=("$backend $mode $size"); fi
            number=$((number + 1))
        done
    done
}

# -------------------------------------------------------------------- the runs
# same SIZE: is what came what came without memopt?
same() { [ $status = "$(cat "status.$1")" ] && cmp -s got "expected.$1"; }
# try: the program, in the background so that a signal to us isn't kept waiting
try() {
    # with file descriptors and an environment of its own
    ("run_$name") >got 2>got.err &
    wait $!
    status=$?
}
# What can't be bound so, and memopt says it before it starts the program.
refusals="impossible with allocator|can't run on allocator|can only be bound directly"
# The report's own word on a program that brings its malloc with it
malloc_of() { case $1 in chromium | sandbox) echo own ;; *) echo replaced ;; esac; }

one() { # BACKEND MODE SIZE CHILDREN...
    local backend=$1 mode=$2 binding=$2 tracker="" size=$3 what="$name on $1 ($2)" lies
    shift 3
    [ $mode != stats ] || { binding=dispatch tracker=stats; }
    rm -f public/report.json
    # shellcheck disable=SC2207
    run=(timeout -k 5 300 "$memopt" run -a "$backend" --json "$work/public/report.json"
        $(options "$mode" "$backend") --)
    [ $mode != hand ] || run=(env LD_PRELOAD="${by_hand[$backend]}" timeout -k 5 300)
    try
    if [ $status = 125 ] && grep -qE "^memopt run: .*($refusals)" got.err; then
        skip "$what: refused: $(grep -m1 '^memopt run: ' got.err)"
    elif ! same "$size"; then
        local was=$status
        cp got got.memopt
        cp got.err got.memopt.err
        # Direct is judged against the same library by hand; ours by hand against
        # another's: no malloc that is only preloaded survives RTLD_DEEPBIND.
        local rival=
        case $mode in
        direct) is_ours "$backend" || rival=${by_hand[$backend]} ;;
        hand) rival=${by_hand[jemalloc]:-} ;;
        esac
        if [ -n "$rival" ]; then
            run=(env LD_PRELOAD="$rival" timeout -k 5 300)
            try
            if ! same "$size"; then
                skip "$what: exit status $was; fails by hand, too, with LD_PRELOAD=$rival: $status"
                return
            fi
        fi
        bad "$what: exit status $was, expected $(cat "status.$size")"
        diff "expected.$size" got.memopt | head -5
        grep -v '^ ' got.memopt.err | tail -5
    elif [ $mode = hand ]; then
        passed=$((passed + 1))
    elif ! grep -q "on $backend.*($binding)" got.err && [ "$(malloc_of "$name")" != own ]; then
        bad "$what: the summary doesn't say that it ran there"
        head -3 got.err
    elif [ -n "$python" ] && ! lies=$("$python" "$source/report.py" public/report.json "$backend" "$binding" \
        "$tracker" "$status" "$(malloc_of "$name")" "$@"); then
        bad "$what: the report is not true"
        echo "$lies"
    else
        passed=$((passed + 1))
    fi
}

python=$(command -v python3) || skip "no python3 to read reports"
for row in "${programs[@]}"; do
    read -r name needs sizes children <<<"$row"
    [[ -z ${PROGRAMS:-} || " $PROGRAMS " = *" $name "* ]] || continue
    for need in ${needs//,/ }; do
        if [ "$need" = user ]; then
            user_can_read || { skip "$name: nobody can't read this build"; continue 2; }
        elif ! command -v "${need#./}" >/dev/null; then
            skip "$name: no ${need#./} here"
            continue 2
        fi
    done
    choose "$name" "$sizes"
    [ ${#chosen[@]} -gt 0 ] || continue
    run=(timeout -k 5 300)
    if [ "$(type -t "setup_$name")" = function ] && ! "setup_$name" >setup.out 2>&1; then
        skip "$name: could not be set up"
        tail -5 setup.out
        continue
    fi
    for size in ${sizes//,/ }; do
        [[ ${chosen[*]} = *$size* ]] || continue
        try
        mv got "expected.$size"
        echo $status >"status.$size"
        if [ ! -s "expected.$size" ]; then
            bad "$name: no output without memopt"
            tail -5 got.err
            continue 2
        fi
    done
    for combination in "${chosen[@]}"; do
        # shellcheck disable=SC2086
        one $combination $children
    done
done

# A static binary can't be reached: it is recognised, said so, and run all the same.
static one >expected
want=$?
for backend in $all_backends; do
    "$memopt" run -a "$backend" -- static one >got 2>got.err
    status=$?
    if [ $status = $want ] && cmp -s expected got && grep -q "static.*statically linked" got.err; then
        passed=$((passed + 1))
    else
        bad "a static binary on $backend: exit status $status; $(cat got.err)"
    fi
done

echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
