#!/bin/bash
# examples/safetensors against an independent implementation of the format: what
# it saves is read there, what is made there it shows; bad files and places are
# told and leave what was there.
set -u
: "${top_srcdir:?}" "${top_builddir:?}"
command -v python3 >/dev/null || { echo "skipped: no python3"; exit 77; }
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
example=$(cd "$top_builddir" && pwd)/examples/safetensors
other() { python3 "$top_srcdir/tests/safetensors.py" "$@"; }
fails=0
bad() { echo "FAIL: $*"; fails=1; }
# says NAME FILE TEXT
says() { diff - "$2" <<<"$3" || bad "$1"; }

"$example" save "$dir/saved" || bad "save"
other check "$dir/saved" || bad "what was saved is not what Python reads"
"$example" show "$dir/saved" >"$dir/out" || bad "show"
says "show of what was saved" "$dir/out" "format = pt
step: I64 []
hidden.weight: F32 [3,4] sum 66
hidden.bias: F32 [3] sum 1.5"

other make "$dir/made" || bad "make"
"$example" show "$dir/made" >"$dir/out" || bad "show of Python's file"
says "show of Python's file" "$dir/out" "made = by hand
big: F32 [2,3] sum 15
é: BF16 [0,7]
tiny: U8 [3]"

head -c 100 "$dir/saved" >"$dir/cut"
"$example" show "$dir/cut" 2>"$dir/err" && bad "a file cut short is taken"
grep -q "cut': it is cut short, or no safetensors file: a header of 4088 bytes in a file of 100" "$dir/err" || bad "$(cat "$dir/err")"

cp "$dir/saved" "$dir/kept"
(ulimit -f 1; "$example" save "$dir/kept" 2>"$dir/err") && bad "saved beyond the limit"
cmp "$dir/saved" "$dir/kept" || bad "a save that failed changed the file"
grep -q "kept': can't have .* bytes: File too large" "$dir/err" || bad "$(cat "$dir/err")"
# a disk that is full, where a namespace of mounts can be had
mkdir "$dir/disk"
if unshare -rm mount -t tmpfs -o size=8k none "$dir/disk" 2>/dev/null; then
    # shellcheck disable=SC2016
    unshare -rm bash -c 'mount -t tmpfs -o size=8k none "$1" && echo old >"$1/kept" || exit 99
        "$2" save "$1/kept" && exit 1
        [ "$(cat "$1/kept")" = old ] && [ "$(ls -A "$1")" = kept ]' - "$dir/disk" "$example" \
        2>"$dir/err" || bad "a full disk: $?, $(cat "$dir/err")"
    grep -q "can't be written: No space left on device" "$dir/err" || bad "$(cat "$dir/err")"
else
    echo "not tried: a full disk (no mounts here)"
fi
[ -z "$(find "$dir" -name '.memopt-*')" ] || bad "a temporary file is left"
[ $fails = 0 ] && echo "all passed"
exit $fails
