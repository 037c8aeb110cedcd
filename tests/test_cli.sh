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
ok "completion's own command is not listed" test -z "$(grep complete out)"

# Words on one line, lower case: man pages write arguments so, -h in capitals.
plain() { tr 'A-Z\n' 'a-z ' | sed 's/  */ /g; s/^ //; s/ $//'; }
plain_lines() { tr 'A-Z' 'a-z'; }

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
    # no line is too long for a terminal, and the options are those of the manual: letter,
    # name, argument
    [ -z "$(awk 'length > 80' out)" ] || ok "$command -h fits into 80 columns" awk 'length > 80; END { exit 1 }' out
    sed -nE 's/^  (-[a-z], |    )(--[a-z-]+( [][A-Z.=|]+)?)(  .*)?$/\1\2/p' out | sed 's/^ *//' | plain_lines | sort >options
    ok "$command -h lists --help" grep -qx -- '-h, --help' options
    sed -nE '/^\.It Fl/{s/^\.It //; s/Fl Fl /--/; s/Fl /-/; s/ , /, /; s/ Ar / /; s/ Ns = Ns Ar /=/; p}' "$page" |
        plain_lines | sort >listed
    ok "memopt-$command(1) lists the options of -h" diff options listed
    # completion offers each of them, with one form of the command or another
    for form in '' $(sed -nE "s/^(usage:|      ) memopt $command (-*[a-z]+)( .*)?\$/\2/p" out); do
        "$memopt" complete $command $form --
    done | grep -- '^--' | sort -u >completed
    sed -E 's/^-., //; s/ .*//' options | sort -u >names
    ok "completion has the options of $command" diff names completed
done

# Every option of the help is one that the command takes, and the other way
# round for a wrong one: the nearest it can do is to say so.
for command in $commands; do
    exits_status=2
    case $command in run | compare) exits_status=125 ;; esac
    exits $exits_status $memopt $command --no-such-option x
done

# An option that is none of a form's, as its usage has it.
for form in "explain --json" "check --json" "explain -c x" "explain --set a.b=c"; do
    exits 2 $memopt config $form
    says err "'memopt config ${form%% *}' has no option --"
done
# What completion offers is what -h names.
while read -r command option; do
    $memopt $command -h >out
    for word in $($memopt complete $command $option '' | tail -n +2); do
        says out "$word"
    done
done <<'END'
run --profile
compare --format
env --format
END

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
    ok "after other options" test "$(complete_words run -q -a libc --set a.b=c --qu)" = --quiet
    ok "a form's options complete" test "$(complete_words config explain --)" = --help
    ok "forms complete" test "$(complete_words config ch)" = check
    ok "commands complete for help" test "$(complete_words help co | tr '\n' ' ')" = "compare config "
    ok "words complete" test "$(complete_words env --format sy)$(complete_words compare --format m)" = systemdmarkdown
    ok "profiles complete" test "$(complete_words run --profile low)" = low-rss
    ok "sections complete" test "$(complete_words config explain mem)" = memopt
    ok "values after = complete" test "$(complete_words run --allocator = lib)" = libc
    ok "values that nobody knows don't" test -z "$(complete_words compare -n '')"
    ok "an option's value is no program" test "$(complete_words run -c x -qa lib)" = libc
    ok "of a program it is its own" test "$($memopt complete run -q true --al)" = "program 3"
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
