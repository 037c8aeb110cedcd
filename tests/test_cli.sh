#!/bin/bash
# test_cli.sh - the memopt command itself: its subcommands, their help, their
# manual pages and their completion, held against each other.
. "$top_srcdir/tests/run_lib.sh" || exit 99

exits 0 $memopt --version
says out "memopt "
exits 0 $memopt -h
exits 0 $memopt help
exits 2 $memopt
says err "usage: memopt"
exits 2 $memopt -Z
says err "options come after the command"
exits 2 $memopt rnu
says err "did you mean 'run'?"
exits 2 $memopt xyzzy
says err "lists them"
never err "did you mean"
exits 2 $memopt help xyzzy
exits 2 $memopt help run run
exits 0 $memopt help run
says out "usage: memopt run"
if [ -w /dev/full ]; then
    exits 1 sh -c "$memopt --version >/dev/full"
    says err "can't write to standard output"
    exits 1 sh -c "$memopt run -h >/dev/full"
fi
# what a backend breaks by hand, it breaks bound directly, too
if have_allocator mimalloc; then
    exits 0 "$memopt" plugins mimalloc
    says out "built as C, as Debian's is, a failing new aborts"
fi
for command in --version "help" "run -h" plugins "plugins --json" "config show" "config explain"; do
    exits 1 sh -c "$memopt $command >&-"
    says err "can't write to standard output"
done

# The subcommands, as the overview lists them.
$memopt -h >out
commands=$(sed -n 's/^  \([a-z]*\) .*/\1/p' out)
ok "there are commands" test -n "$commands"
completion=$top_srcdir/scripts/bash-completion/memopt

# Words on one line, lower case: man pages write arguments so, -h in capitals.
plain() { tr 'A-Z\n' 'a-z ' | sed 's/  */ /g; s/^ //; s/ $//'; }

for command in $commands; do
    page=$top_srcdir/man/memopt-$command.1
    ok "memopt-$command(1) is there" test -f "$page"
    exits 0 $memopt $command -h
    [ -s err ] && ok "$command -h says nothing on stderr" false
    exits 0 $memopt $command --help
    sed '/^$/q' out | sed 's/^usage: //' | plain >synopsis
    if have mandoc && [ -f "$page" ]; then
        mandoc -T ascii "$page" | sed 's|.\x08||g' | awk '/^SYNOPSIS/ { on = 1; next } /^[A-Z]/ { on = 0 } on' |
            plain >manual
        if ! cmp -s synopsis manual; then
            echo "FAIL: the usage of $command and the SYNOPSIS of its manual differ:"
            diff synopsis manual | sed 's/^/    /'
            failures=$((failures + 1))
        fi
    fi
    ok "memopt(1) names $command" grep -q "^\.Xr memopt-$command 1" "$top_srcdir/man/memopt.1"
    ok "completion knows $command" grep -q "commands='.*\b$command\b" "$completion"
    # long options: in the help, in the manual and in the completion
    grep -oE '^ +(-[a-z], )?--[a-z-]+' out | grep -oE '\-\-[a-z-]+' | sort -u >options
    ok "$command -h lists --help" grep -qx -- --help options
    sed -n "s/^    $command) options='\(.*\)' ;;/\1/p" "$completion" | tr ' ' '\n' | sort -u >completed
    ok "completion has the options of $command" diff options completed
    while read -r option; do
        [ "$option" = --help ] ||
            ok "memopt-$command(1) has $option" grep -q "Fl Fl ${option#--}\b" "$page"
    done <options
done

# Every option of the help is one that the command takes, and the other way
# round for a wrong one: the nearest it can do is to say so.
for command in $commands; do
    exits_status=2
    case $command in run | compare) exits_status=125 ;; esac
    exits $exits_status $memopt $command --no-such-option x
done

# Man pages are clean. A page may go by several names: mandoc knows that of the
# file only, and of the system's pages what a database has that is often old.
if have mandoc; then
    (cd "$top_srcdir/man" && for page in *.[1-9]; do
        mandoc -T lint -W warning "$page" 2>&1
    done) | grep -v 'mandoc\.db' | while read -r line; do
        name=$(sed -n 's/.*referenced manual not found: Xr \([^ ]*\).*/\1/p' <<<"$line")
        [ -n "$name" ] && grep -qE "^\.Nm $name( ,)?$" "$top_srcdir"/man/*.[1-9] || echo "$line"
    done >lint
    if [ -s lint ]; then
        echo "FAIL: man pages are not clean:"
        sed 's/^/    /' lint
        failures=$((failures + 1))
    fi
fi

# Completion does what it says.
if have bash; then
    complete_words() {
        bash --norc -c '
            . "$1"; shift
            COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
            compopt() { :; }
            _memopt; printf "%s\n" "${COMPREPLY[@]}"' bash "$completion" "$memopt" "$@"
    }
    ok "commands complete" test "$(complete_words com)" = compare
    ok "options complete" test "$(complete_words run --qu)" = --quiet
    ok "allocators complete" test "$(complete_words run -a lib)" = libc
    ok "lists complete" test "$(complete_words compare -a libc,poo)" = libc,pool
    ok "trackers complete" test "$(complete_words run -t sta)" = stats
    touch file-here
    ok "files complete" test "$(complete_words run -c file-)" = file-here
    ok "the program's arguments are files" test "$(complete_words run -q -- true file-)" = file-here
    ok "plugins complete" test "$(complete_words plugins mimal)$(complete_words plugins jso)" = \
        "$("$memopt" plugins | awk '$2 == "mimalloc" { printf "mimalloc" }')json"
fi
finish
