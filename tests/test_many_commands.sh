#!/bin/bash
# A run of many short commands under the stats tracker, in little shared memory: each is
# recorded, as memopt takes the records of those that have ended while the run goes on.
# MEMOPT_LONG=1 makes it 100,000 commands in 64 MiB.
. "${top_srcdir:?}/tests/run_lib.sh"
have python3 || { echo "no python3 to read the report"; exit 77; }
if [ "$(id -u)" != 0 ] || ! unshare -m true 2>/dev/null; then
    echo "no root, no /dev/shm of one's own"
    exit 77
fi
run="$memopt run"
commands=1500 room=16m
[ "${MEMOPT_LONG:-}" != 1 ] || commands=100000 room=64m

cat >many.sh <<'SH'
i=0
while [ $i -lt "$1" ]; do
    i=$((i + 1))
    if [ $((i % 500)) = 0 ]; then
        /bin/false
    else
        /bin/true
    fi
done
exit 7
SH
cat >measure.sh <<'SH'
# the most that is used, in KiB; and the command, whose own peak goes to the file "peak"
mount -t tmpfs -o "size=$1" none /dev/shm || exit
shift
while sleep 0.2; do df -k /dev/shm | tail -1; done >used &
watcher=$!
python3 -c '
import os, resource, sys
status = os.spawnv(os.P_WAIT, sys.argv[1], sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=open("peak", "w"))
sys.exit(status)' "$@"
status=$?
kill $watcher
exit $status
SH
exits 7 unshare -m sh measure.sh $room $run -q -t stats --json many.json -- sh many.sh $commands
cat >count.py <<'PY'
import json, sys
report, commands = json.load(open("many.json")), int(sys.argv[1])
rows = report["processes"]
programs = sum(row["merged"] or 1 for row in rows)
failed = [row for row in rows if row["end_value"] == 1]
assert report["notes"] == [], report["notes"][:3]
assert rows[0]["main"] and rows[0]["end_value"] == 7 and rows[0]["command"].startswith("sh many.sh")
assert programs == commands + 1, programs
assert len(failed) == commands // 500 and not any(row["merged"] for row in failed), len(failed)
assert all(row["counts"] is not None for row in rows)
assert len(rows) <= 65536 + 2 + commands // 500, len(rows)
PY
ok "all of $commands commands are in the report" python3 count.py $commands
used=$(awk '{ if ($3 > most) most = $3 } END { print most }' used)
peak=$(cat peak)
echo "$commands commands: at most $used KiB of /dev/shm, memopt $peak KiB"
ok "they needed little of /dev/shm ($used KiB)" test "$used" -lt $((${room%m} * 1024 * 3 / 4))
if [ -z "${SANITIZE_CFLAGS:-}" ]; then
    ok "memopt itself stays below 256 MiB ($peak KiB)" test "$peak" -lt 262144
fi
echo "$((failures == 0)) passed, $((failures > 0)) failed, 0 skipped"
finish
