#!/bin/bash
# The layers: every #include between folders must be allowed by the table in
# ARCHITECTURE.md, and every folder with C files must be in it. And what is linked.

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
        core/* | lib/* | preload/* | cli/* | plugins/*) layer=${header%/*} ;;
        */*) continue ;; # a library's
        *) [ -f "$file" ] && [ -f "$(dirname "$file")/$header" ] && layer=$folder || continue ;;
        esac
        [ "$layer" = "$folder" ] || [[ ${may[$folder]} = *" $layer "* ]] ||
            [[ ${may[$folder]} = *" $header "* ]] ||
            bad "$file includes '$header': $folder may not use $layer"
    done < <(sed -nE 's/^ *# *include *["<]([^">]*)[">].*/\1/p' "$file")
done < <(find include lib core plugins preload cli examples -name '*.[ch]' | sort)
# Nor does libmemopt carry what only the memopt command may have.
library=${top_builddir:-}/.libs/libmemopt.so
if [ -f "$library" ]; then
    names() { nm --defined-only "$@" 2>/dev/null | sed -nE 's/^[0-9a-f]+ [TtDdBbRr] (mo_[a-z0-9_]+)$/\1/p' |
        grep -v '^mo_section_' | sort -u; } # tables: a file is checked whole by everybody
    only=$(names "$top_builddir"/core/import/.libs/*.o "$top_builddir"/core/symbol/.libs/*.o \
        "$top_builddir"/core/launch/.libs/*.o "$top_builddir"/core/import/*.o \
        "$top_builddir"/core/symbol/*.o "$top_builddir"/core/launch/*.o)
    [ "$(wc -l <<<"$only")" -ge 20 ] || bad "no objects of core/import and core/launch were seen"
    both=$(comm -12 <(echo "$only") <(names "$library"))
    [ -z "$both" ] || bad "libmemopt.so has of core/import, core/symbol or core/launch: $both"
    has=$(names "$library" | grep -c '^mo_report_')
    [ "$has" -ge 5 ] || bad "libmemopt.so's symbols can't be seen"
fi
# The shim carries the tables of the sections that it reads.
shim=${top_builddir:-}/preload/.libs/libmemopt-preload.so
if [ -f "$shim" ]; then
    carried=$(nm --defined-only "$shim" | sed -n 's/.* mo_section_//p' | sort | paste -sd ' ')
    [ "$carried" = "heap memopt" ] || bad "the shim has the sections '$carried'"
    texts=$(strings -n 9 "$shim" | grep -c sharpness)
    [ "$texts" = 0 ] || bad "the shim has the texts of [optimizer]"
fi
[ $includes -ge 100 ] || bad "only $includes includes were seen"

[ $fails = 0 ] && echo "$rows layers, $includes includes"
exit $fails
