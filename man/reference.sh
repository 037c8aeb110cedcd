#!/bin/sh
# usage: man/reference.sh MEMOPT PAGE
#
# Prints the manual page with the parts between `.\" begin SECTION` and
# `.\" end SECTION` made anew from the option tables of MEMOPT. The part of a
# plugin that this build doesn't have stays as it is.
set -eu
[ $# -eq 2 ] || { sed -n '2s/^# //p' "$0" >&2; exit 2; }
part=
while IFS= read -r line; do
    case $line in
    '.\" begin '*)
        printf '%s\n' "$line"
        section=${line#'.\" begin '}
        if part=$("$1" config reference "$section" 2>/dev/null); then
            printf '%s\n' "$part"
            skip=1
        else
            skip=0
        fi
        continue
        ;;
    '.\" end '*) skip=0 ;;
    esac
    [ "${skip:-0}" -eq 1 ] || printf '%s\n' "$line"
done <"$2"
