# Is a report of memopt run true? For tests/test_real_programs.sh.
# usage: report.py FILE ALLOCATOR BINDING TRACKER STATUS MALLOC [CHILD=STATUS...]
# TRACKER is stats or empty. MALLOC is `replaced`; or `own` for a program with a malloc of
# its own that nothing can replace; or `killed` for one that was killed at any moment. Each CHILD must be among the processes that ended, and all of that
# name must have ended with STATUS. Prints what is not true; exits 1 then.
import json, os, sys

path, allocator, binding, tracker, status, malloc, *children = sys.argv[1:]
status = int(status)
report = json.load(open(path))
lies = []


def claim(true, text):
    if not true:
        lies.append(text)


def name(process):
    return f"{os.path.basename(process['program'] or '?')} ({process['pid']})"


claim(report["exit_status"] == status, f"exit status {report['exit_status']}, not {status}")
claim(report["wall_time"] > 0, "no time passed")
processes = report["processes"]
main = [p for p in processes if p["main"]]
claim(main, "no main process")
noted = {note["pid"] for note in report["notes"]}
if main:
    last = main[-1]
    claim(len({p["pid"] for p in main}) == 1, "several main processes")
    claim(all(p["end"] == "exec" for p in main[:-1]), "a main process went on after its exec")
    if report["exit_signal"] is None:
        claim((last["end"], last["end_value"]) == ("exit", status),
              f"{name(last)}: {last['end']} {last['end_value']}, not exit {status}")
    if report["exit_signal"] is not None and last["binding"] is None:
        # killed before there was a record of it: nothing is said of it
        claim(last["allocator"] is None and last["counts"] is None,
              f"{name(last)}: on {last['allocator']} without a record")
    elif malloc == "own":
        claim(last["allocator"] is None, f"{name(last)}: on {last['allocator']}, not its own")
    else:
        claim((last["allocator"], last["binding"]) == (allocator, binding),
              f"{name(last)}: on {last['allocator']} ({last['binding']})")
        claim((last["counts"] is not None) == (tracker == "stats"),
              f"{name(last)}: counts with trackers '{tracker}'")

for p in processes:
    if p["allocator"] is not None:
        claim(p["allocator"] == allocator, f"{name(p)}: on {p['allocator']}")
        claim(p["binding"] == binding, f"{name(p)}: binding {p['binding']}")
    claim(p["peak_rss"] != 0, f"{name(p)}: peak_rss is 0")
    # a child may well end before it has allocated anything: then 0 is true
    if p in main or p["counts"] and p["counts"]["live_blocks"] > 0:
        for key in "heap_peak", "heap_committed", "heap_resident":
            claim(p[key] != 0, f"{name(p)}: {key} is 0")
    if p["counts"] and p["counts"]["live_blocks"] > 0:
        claim(p["heap_live"] != 0, f"{name(p)}: heap_live is 0")
    claim(p["fragmentation"] is None or 0 <= p["fragmentation"] <= 1,
          f"{name(p)}: fragmentation {p['fragmentation']}")
    claim(p["end"] != "running" or p["pid"] in noted or malloc == "killed", f"{name(p)}: still running")
    claim(p["end_time"] is None or p["end_time"] >= p["start_time"], f"{name(p)}: ended before it began")
    claim((p["end"] in ("exit", "signal")) == (p["end_value"] is not None),
          f"{name(p)}: end {p['end']} {p['end_value']}")
    if p["end"] == "signal":
        claim(p["end_value"] > 0, f"{name(p)}: signal {p['end_value']}")
    c = p["counts"]
    if c is None:
        continue
    claim(tracker == "stats", f"{name(p)}: counts without a tracker")
    for key, value in c.items():
        claim(value is None or value >= 0, f"{name(p)}: {key} is {value}")
    # the child of a fork begins with its parent's blocks: as many came with it
    came = c["live_blocks"] - (c["allocations"] - c["frees"])
    came_bytes = c["live_bytes"] - (c["bytes_allocated"] - c["bytes_freed"])
    claim(came >= 0 and came_bytes >= 0 and (came == 0) == (came_bytes == 0),
          f"{name(p)}: {came} blocks, {came_bytes} bytes more live than counted")
    if p in main:
        claim(came == 0, f"{name(p)}: {came} blocks came from nowhere")
    claim(c["bytes_allocated"] >= c["bytes_requested"], f"{name(p)}: more requested than allocated")
    claim(c["reallocations"] + c["zeroed"] <= c["allocations"], f"{name(p)}: too many special ones")
    if c["peak_bytes"] is not None:
        claim(c["peak_bytes"] + c["peak_error"] >= c["live_bytes"],
              f"{name(p)}: peak {c['peak_bytes']} give or take {c['peak_error']}, {c['live_bytes']} live")
        claim(c["peak_bytes"] >= 0, f"{name(p)}: peak {c['peak_bytes']}")
    for key in "allocations", "frees", "bytes_requested", "bytes_allocated", "bytes_freed":
        total = sum(t["counts"][key] for t in p["threads"])
        claim(not p["threads"] or total == c[key], f"{name(p)}: {key} of the threads: {total}, not {c[key]}")
    for key, of in ("allocations", "allocations"), ("bytes", "bytes_requested"):
        total = sum(h[key] for h in p["histogram"])
        claim(total == c[of], f"{name(p)}: {of} of the size classes: {total}, not {c[of]}")

for child in children:
    called, value = child.split("=")
    found = [p for p in processes if p not in main and ("-" + os.path.basename(p["program"] or "")).endswith("-" + called)
             and p["end"] not in ("exec", "running")]
    claim(found, f"no {called} among the processes")
    for p in found:
        claim((p["end"], p["end_value"]) == ("exit", int(value)),
              f"{name(p)}: {p['end']} {p['end_value']}, not exit {value}")

for lie in lies[:8]:
    print(f"    {lie}")
if len(lies) > 8:
    print(f"    and {len(lies) - 8} more")
sys.exit(bool(lies))
