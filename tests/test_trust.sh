#!/bin/bash
# test_trust.sh - whose files memopt believes: the configuration that it finds by itself,
# plugins and the directories they lie in. What somebody else can have written is named
# and skipped, and nothing of it runs; every row has the same file in a right place, too.
# Runs as two users, so as root; the rows that need only one run in any case.
. "$top_srcdir/tests/run_lib.sh" || exit 99
bad=$top_builddir/tests/bad_plugins
program=$top_builddir/tests/heap_program
export ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_leaks=0 # it leaves blocks on purpose
stranger=65534
root=0
[ "$(id -u)" = 0 ] && have setpriv && root=1

chmod 755 "$work"
# a plugin whose constructor leaves a mark, and a configuration that names it
export TRUST_MARK=$work/ran
mkdir plugins
install -m 755 "$bad/alloc-marks.so" plugins/alloc-marks.so
so=$work/plugins/alloc-marks.so
names() { printf '[memopt]\nallocator = %s\n[monitor]\ninterval = 77ms\n' "${1:-$so}"; }

# ran: the mark is there; it goes
ran() {
    [ -e "$TRUST_MARK" ] || return 1
    rm "$TRUST_MARK"
}
# each command that reads the configuration, in the directory where this is
commands() {
    echo "config show"
    echo "config check"
    echo "config explain"
    echo "config explain allocator.marks"
    echo "plugins"
    echo "plugins --json"
    echo "run -- true"
    echo "compare -n 1 -a libc -- true"
}
# skipped WHAT REASON [COMMAND...]: no command takes the file, each says why and goes on
skipped() {
    local what=$1 reason=$2 command
    while read -r command; do
        "$memopt" $command >out 2>err
        ! ran || ok "$what: 'memopt $command' runs the plugin" false
        says err "is skipped: "
        says err "$reason"
        ok "$what: once" test "$(grep -c 'is skipped: ' err)" -eq 1
        never out 77ms
    done < <(commands)
    exits 0 "$memopt" run --json run.json -- true
    ok "$what: the report has it" grep -q "is skipped: " run.json
    rm run.json
    # a program that reads it by libmemopt
    exits 0 "$program" report
    says err "is skipped: "
    ! ran || ok "$what: libmemopt runs the plugin" false
}
taken() { # WHAT
    exits 0 "$memopt" config show
    ok "$1: its values are there" grep -q '^interval = 77ms' out
    never err "is skipped"
    exits 0 "$memopt" run -q -- true
    ran || ok "$1: its plugin is loaded" false
    never err "skipped"
    "$program" default >out 2>err # the plugin has too little memory for more
    ran || ok "$1: libmemopt loads its plugin" false
}

# ---- ./memopt.ini
mkdir own
cd own || exit 99
names >memopt.ini
taken "the user's own"
chmod 646 memopt.ini
skipped "a file that others may write" "it can be written by everybody (mode 0646)"
chmod 644 memopt.ini
chmod 757 .
skipped "a directory that others may write" "its directory '$work/own' can be written by everybody"
chmod 1777 .
taken "a sticky directory"
chmod 755 .
if [ $root = 1 ]; then
    chmod 664 memopt.ini
    taken "the owner's own group may write it"
    chgrp $stranger memopt.ini
    chmod 664 memopt.ini
    skipped "a group" "it can be written by group $stranger (mode 0664)"
    chgrp 0 memopt.ini
    chown $stranger memopt.ini
    chmod 600 memopt.ini
    skipped "a stranger's file" "it belongs to user $stranger, neither you nor root"
    chown 0 memopt.ini
    chmod 644 memopt.ini
    chown $stranger .
    skipped "a stranger's directory" "its directory '$work/own' belongs to user $stranger"
    mkdir sub && mv memopt.ini sub && cd sub || exit 99
    skipped "a directory in a stranger's" "its directory '$work/own' belongs to user $stranger"
    cd .. && mv sub/memopt.ini . && rm -r sub
    chown 0 .
    # what it is called is shown as text
    odd=../$'\e[31m\u202e'
    mkdir "$odd" && mv memopt.ini "$odd" && chown $stranger "$odd" && cd "$odd" || exit 99
    exits 0 "$memopt" config show
    says err "belongs to user $stranger"
    ok "no control characters" test -z "$(tr -d '\n -~' <err)"
    chown 0 . && mv memopt.ini ../own && cd ../own && rm -r "$odd" || exit 99
    # the group's bits are then the mask of all who are named
    if [ -n "$python" ] && "$python" - <<'PY'; then
import os, struct, sys
entries = [(1, 6, 2**32 - 1), (2, 6, 65534), (4, 4, 2**32 - 1), (16, 6, 2**32 - 1), (32, 4, 2**32 - 1)]
acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
try:
    os.setxattr("memopt.ini", "system.posix_acl_access", acl)
except OSError as error:
    sys.exit(1)
PY
        skipped "a list that names a stranger" "it can be written by others by its access control list"
        rm memopt.ini && names >memopt.ini
    else
        echo "note: no access control lists here"
    fi
    # a link: what it leads to, and whose it is
    mv memopt.ini ../real.ini
    chown $stranger ../real.ini
    ln -s ../real.ini memopt.ini
    skipped "a link to a stranger's file" "it belongs to user $stranger"
    chown 0 ../real.ini
    taken "a link"
    chown -h $stranger memopt.ini
    skipped "a stranger's link" "the link '$work/own/memopt.ini' belongs to user $stranger"
    rm memopt.ini
    mkdir ../theirs && mv ../real.ini ../theirs && chown $stranger ../theirs
    ln -s "$work/theirs/real.ini" memopt.ini
    skipped "a link into a stranger's directory" "its directory '$work/theirs' belongs to user $stranger"
    chown 0 ../theirs
    ln -s theirs ../step
    ln -sf ../step/real.ini memopt.ini
    taken "a link by way of a link"
    chown -h $stranger ../step
    skipped "a stranger's link on the way" "the link '$work/step' belongs to user $stranger"
    rm memopt.ini && mv ../theirs/real.ini memopt.ini && rm ../step
fi
ln -s memopt.ini loop.ini && mv memopt.ini ../memopt.ini && ln -sf loop.ini memopt.ini
exits 2 "$memopt" config show
says err "./memopt.ini: can't be read: Too many levels of symbolic links"
rm loop.ini memopt.ini
ln -s ../nowhere.ini memopt.ini
exits 0 "$memopt" config show
rm memopt.ini && mv ../memopt.ini memopt.ini
cd "$work" || exit 99

# ---- the one of XDG_CONFIG_HOME and that of HOME
mkdir -p xdg/memopt home/.config/memopt
mv own/memopt.ini xdg/memopt/memopt.ini
export XDG_CONFIG_HOME=$work/xdg
taken "the user's own XDG file"
chmod 777 xdg
skipped "an XDG directory that others may write" "its directory '$work/xdg' can be written by everybody"
chmod 755 xdg
if [ $root = 1 ]; then
    chown $stranger xdg/memopt/memopt.ini
    skipped "a stranger's XDG file" "'$work/xdg/memopt/memopt.ini' is skipped: it belongs to user $stranger"
    chown 0 xdg/memopt/memopt.ini
fi
mv xdg/memopt/memopt.ini home/.config/memopt/memopt.ini
unset XDG_CONFIG_HOME
export HOME=$work/home
taken "the one at home"
chmod 602 home/.config/memopt/memopt.ini
skipped "one at home that others may write" "'$work/home/.config/memopt/memopt.ini' is skipped: it can be written"
chmod 600 home/.config/memopt/memopt.ini
mv home/.config/memopt/memopt.ini named.ini
export HOME=$work XDG_CONFIG_HOME=$work/none

# ---- one that is named is read whoever owns it, and that is said
chmod 602 named.ini
noted() { # WHAT
    exits 0 "$memopt" config show -c named.ini
    says out "interval = 77ms"
    says err "'named.ini' is read as it is named, though it $1"
    exits 0 env MEMOPT_CONF=named.ini "$memopt" run -- true
    says err "'named.ini' is read as it is named, though it $1"
    rm -f "$TRUST_MARK"
}
noted "can be written by everybody"
[ $root = 0 ] || { chmod 600 named.ini && chown $stranger named.ini && noted "belongs to user $stranger"; }
chown "$(id -u)" named.ini
chmod 600 named.ini
exits 0 "$memopt" config show -c named.ini
never err "though"
rm -f "$TRUST_MARK"

# ---- a plugin by its path: refused, as there is nothing to go on with
refused() { # WHAT REASON
    exits 2 "$memopt" config check --set "memopt.allocator=$so"
    says err "plugin '$so' is not loaded: $2"
    exits 125 "$memopt" run -a "$so" -- true
    says err "plugin '$so' is not loaded: $2"
    exits 2 "$memopt" config check -c named.ini
    says err "plugin '$so' is not loaded: $2"
    ! ran || ok "$1: it runs" false
}
chmod 757 plugins/alloc-marks.so
refused "a plugin that others may write" "it can be written by everybody (mode 0757)"
chmod 755 plugins/alloc-marks.so
chmod 777 plugins
refused "a plugin's directory" "its directory '$work/plugins' can be written by everybody"
chmod 755 plugins
if [ $root = 1 ]; then
    chown $stranger plugins/alloc-marks.so
    refused "a stranger's plugin" "it belongs to user $stranger"
    chown 0 plugins/alloc-marks.so
    chown $stranger plugins
    refused "a stranger's directory" "its directory '$work/plugins' belongs to user $stranger"
    chown 0 plugins
fi
exits 0 "$memopt" run -a "$so" -q -- true
ran || ok "the user's own plugin is loaded" false

# ---- a tracker of the user's own counts in the program, its child and its grandchild
mkdir trackers
cp -L "$top_builddir/plugins/.libs/track-stats.so" trackers
MEMOPT_PLUGIN_PATH=$work/trackers exits 0 "$memopt" run -q -t stats --json run.json -- \
    sh -c 'sh -c "cat /proc/self/maps; true"; true'
says out "$work/trackers/track-stats.so"
[ -z "$python" ] || ok "it counts in all three" "$python" - <<'PY'
import json
processes = json.load(open("run.json"))["processes"]
assert len(processes) == 3, processes
assert all(process["counts"] is not None for process in processes), processes
PY

# ---- by name, in MEMOPT_PLUGIN_PATH and plugin_path: skipped, and looked for further on
mkdir further
cp -L "$top_builddir/plugins/.libs/alloc-mmap.so" plugins
cp -L "$top_builddir/plugins/.libs/alloc-mmap.so" further
lists() { # REASON
    export MEMOPT_PLUGIN_PATH=$work/plugins:$work/further
    exits 0 "$memopt" plugins
    says err "is skipped: $1"
    ok "said once" test "$(grep -c 'is skipped' err)" -eq 1
    says out "allocator libc"
    exits 0 "$memopt" plugins mmap
    says out "$work/further/alloc-mmap.so"
    never out "not available"
    # the program's process takes the same one
    exits 0 "$memopt" run -q -a mmap -t stats -- grep -o '[^ ]*alloc-mmap.so' /proc/self/maps
    says out "$work/further/alloc-mmap.so"
    never out "$work/plugins"
    unset MEMOPT_PLUGIN_PATH
    printf '[memopt]\nplugin_path = %s, %s\nallocator = mmap\n' "$work/plugins" "$work/further" >path.ini
    exits 0 "$memopt" config check -c path.ini
    says err "is skipped: $1"
    exits 0 "$memopt" run -q -c path.ini -- grep -o '[^ ]*alloc-mmap.so' /proc/self/maps
    says out "$work/further/alloc-mmap.so"
    never out "$work/plugins"
    ! ran || ok "$1: something ran" false
}
chmod 777 plugins
rm plugins/alloc-marks.so
lists "it can be written by everybody (mode 0777)"
chmod 755 plugins
chmod 666 plugins/alloc-mmap.so
lists "it can be written by everybody (mode 0666)"
chmod 644 plugins/alloc-mmap.so
if [ $root = 1 ]; then
    chown $stranger plugins
    lists "it belongs to user $stranger"
    chown 0 plugins
    chown $stranger plugins/alloc-mmap.so
    lists "it belongs to user $stranger"
    chown 0 plugins/alloc-mmap.so
fi

# ---- another user: root's files are believed, and his own, but not a third one's
if [ $root = 1 ] && user=$(mktemp -d) && chmod 755 "$user" &&
    setpriv --reuid $stranger --regid $stranger --clear-groups "$memopt" --version >/dev/null 2>&1; then
    as_user() { (cd "$user" && exec setpriv --reuid $stranger --regid $stranger --clear-groups "$@"); }
    printf '[monitor]\ninterval = 77ms\n' >"$user/memopt.ini"
    exits 0 as_user "$memopt" config show
    says out "interval = 77ms"
    chown $stranger:$stranger "$user" "$user/memopt.ini"
    chmod 775 "$user" # his own group
    exits 0 as_user "$memopt" config show
    says out "interval = 77ms"
    never err "skipped"
    chown 65533:$stranger "$user/memopt.ini"
    chmod 644 "$user/memopt.ini"
    exits 0 as_user "$memopt" config show
    says err "'./memopt.ini' is skipped: it belongs to user 65533, neither you nor root"
    never out "77ms"
    rm -rf "$user"
fi
[ $root = 1 ] || echo "note: not root, so the rows of a second user were left out"

finish
