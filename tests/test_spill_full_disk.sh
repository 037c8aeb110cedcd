#!/bin/bash
# test_spill_full_disk.sh - a heap that spills to a disk that fills up: ENOMEM for
# the request that has no room, never a SIGBUS, and all blocks whole. The disk is a
# small file system in a file, mounted where nobody else sees it.
set -u
: "${top_srcdir:?}" "${top_builddir:?}"
if [ "${1:-}" = inside ]; then
    mount -o loop "$2/disk" "$2/mnt" 2>"$2/err" || exit 77
    "$3" "$2/mnt"
    exit
fi
PATH=$PATH:/usr/sbin:/sbin
dir=$(mktemp -d -p /var/tmp) || exit 99
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/mnt"
program=$top_builddir/tests/fill_disk
[ -x "$top_builddir/tests/.libs/fill_disk" ] && program=$top_builddir/tests/.libs/fill_disk
LD_LIBRARY_PATH=$(cd "$top_builddir" && pwd)/.libs${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
MEMOPT_CONF=/dev/null
export LD_LIBRARY_PATH MEMOPT_CONF
if ! { truncate -s 24M "$dir/disk" && mkfs.ext4 -q -F "$dir/disk"; } 2>"$dir/err" ||
    ! unshare -m true 2>"$dir/err"; then
    echo "no file system can be made or mounted here: $(head -1 "$dir/err")"
    exit 77
fi
unshare -m "$0" inside "$dir" "$program"
status=$?
[ $status -ne 77 ] || echo "no file system can be mounted here: $(head -1 "$dir/err")"
exit $status
