#!/bin/bash
# test_configure.sh - configure refuses, with a sentence, what memopt can't be built for: a
# machine or an ABI without 64-bit pointers, and another C library than glibc. The
# compilers for those are stood in for by ones that say the same of themselves; the real
# ones are asked as well where they are installed.
. "$top_srcdir/tests/run_lib.sh" || exit 99
[ "$top_srcdir" != "$top_builddir" ] || { echo "built within the sources: configure refuses a second tree"; exit 77; }
# a wrapper such as ccache stays in front
cc=${CC:-cc}

refuses() { # COMPILER SENTENCE
    rm -rf tree
    mkdir tree
    (cd tree && "$top_srcdir/configure" CC="$1") >out 2>err
    ok "configure with '$1' fails" test "$?" -ne 0
    says err "configure: error: memopt needs $2"
    ok "and writes nothing that make could use" test ! -e tree/Makefile
}
refuses "$cc -U__LP64__" "64-bit pointers and longs (LP64)"
mkdir include
printf '#include_next <features.h>\n#undef __GLIBC__\n' >include/features.h
refuses "$cc -I$work/include" "the GNU C library"
echo 'int main(void) { return 0; }' >main.c
for flag in -m32 -mx32; do
    if $cc $flag main.c -o main 2>/dev/null; then refuses "$cc $flag" "64-bit pointers and longs (LP64)"; fi
done
if have musl-gcc; then refuses musl-gcc "the GNU C library"; fi

finish
