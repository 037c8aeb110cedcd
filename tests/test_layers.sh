#!/bin/bash
# The layers: every #include between folders must be allowed by the table in
# ARCHITECTURE.md, and every folder with C files must be in it.

set -u
: "${top_srcdir:?}"
cd "$top_srcdir" || exit 99
fails=0
bad() { echo "FAIL: $*"; fails=1; }

declare -A may
rows=0
while IFS='|' read -r _ folder _ uses _; do
    folder=$(echo $folder)
    may[$folder]=" $(echo $uses) "
    rows=$((rows + 1))
    [ -d "$folder" ] || bad "ARCHITECTURE.md has a layer '$folder', which is not there"
done < <(sed -n '/^| folder | what/,/^$/p' ARCHITECTURE.md | tail -n +3 | grep '^|')
[ $rows -ge 10 ] || bad "no table of layers was found in ARCHITECTURE.md"

includes=0
while IFS= read -r file; do
    folder=${file%/*}
    # a folder below a layer belongs to it
    while [ -z "${may[$folder]+there}" ] && [[ $folder = */* ]]; do folder=${folder%/*}; done
    if [ -z "${may[$folder]+there}" ]; then
        bad "$file: its folder is no layer in ARCHITECTURE.md"
        continue
    fi
    while IFS= read -r header; do
        includes=$((includes + 1))
        case $header in
        memopt/*) layer=include ;;
        core/* | preload/* | cli/* | plugins/*) layer=${header%/*} ;;
        */*) continue ;; # a library's
        *) [ -f "$file" ] && [ -f "$(dirname "$file")/$header" ] && layer=$folder || continue ;;
        esac
        [ "$layer" = "$folder" ] || [[ ${may[$folder]} = *" $layer "* ]] ||
            bad "$file includes '$header': $folder may not use $layer"
    done < <(sed -nE 's/^ *# *include *["<]([^">]*)[">].*/\1/p' "$file")
done < <(find include core plugins preload cli examples -name '*.[ch]' | sort)
[ $includes -ge 100 ] || bad "only $includes includes were seen"

[ $fails = 0 ] && echo "$rows layers, $includes includes"
exit $fails
