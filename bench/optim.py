"""The optimizers' part of bench/run: steps against loops that move the same bytes
(bench/optim.c), in one process and in turn, and against PyTorch's AdamW where
python3-torch is there (bench/optim_torch.py), in turn by processes.

A loop is the roofline of its case: as many reads and writes of the same widths, as
many threads, next to no arithmetic. PyTorch is given its choice of one by one or
"foreach", and the parameters as one tensor, or as 512 of which each fits into a
cache: then it goes to memory once, as we do, and what limits both is the bus.
"""
import os
import statistics
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
ROOFLINES = [("adamw", "AdamW, fp32", 0.90), ("sgd", "SGD, fp32", 0.90),
             ("momentum", "SGD with momentum, fp32", 0.90), ("lion", "Lion, fp32", 0.90),
             ("adamw8", "AdamW, bf16 and 8-bit state", 0.60)]
TORCH_MODES = ["single", "foreach"]
TORCH_TENSORS = [1, 512]


def rounds(build, case, elements, count, environment):
    """[(seconds of a step, of the loop)], bytes of state an element, bytes moved."""
    program = f"{build}/bench/.libs/optim"
    program = program if os.path.exists(program) else f"{build}/bench/optim"
    run = subprocess.run([program, case, str(elements), str(count)], capture_output=True, text=True,
                         env=dict(environment, LD_LIBRARY_PATH=f"{build}/.libs", MEMOPT_CONF="/dev/null"))
    if run.returncode:
        raise RuntimeError(f"bench/optim {case}: {run.stderr.strip()}")
    *lines, last = run.stdout.splitlines()
    words = last.split()
    return [tuple(map(float, line.split())) for line in lines], float(words[1]), int(words[3])


def torch_steps(elements, count, mode, tensors):
    run = subprocess.run(["/usr/bin/python3", f"{HERE}/optim_torch.py", str(elements), str(count), mode,
                          str(tensors)], capture_output=True, text=True)
    return [float(line) for line in run.stdout.split()] if run.returncode == 0 else []


def bench(build, quick, environment, result, quartiles):
    elements, count = (8 << 20, 9) if quick else (32 << 20, 21)
    for case, title, goal in ROOFLINES:
        turns, state, moved = rounds(build, case, elements, count, environment)
        ratios = [loop / step for step, loop in turns]
        middle = statistics.median(ratios)
        step = statistics.median(step for step, _ in turns)
        result(f"optimizer: {title}, of its roofline", middle, goal, middle >= goal, "x", quartiles(ratios),
               len(ratios), better="higher", step_ns=step / elements * 1e9,
               gigabytes_s=elements * moved / step / 1e9)
        if case == "adamw8":
            result("optimizer: its state, an element", state, 2.05, state <= 2.05, "B", [state, state], 1)
    for tensors in TORCH_TENSORS:
        against_torch(build, quick, environment, result, quartiles, elements, tensors)


def against_torch(build, quick, environment, result, quartiles, elements, tensors):
    """The same parameters as one tensor, or as many that fit into a cache each."""
    what = "one tensor" if tensors == 1 else f"{tensors} tensors"
    trials = {mode: torch_steps(elements, 2, mode, tensors) for mode in TORCH_MODES}
    trials = {mode: min(times) for mode, times in trials.items() if times}
    if not trials:
        print("  optimizer: AdamW against PyTorch: left out, no python3-torch here")
        return
    mode = min(trials, key=trials.get)
    ours, theirs = [], []
    for _ in range(2 if quick else 4):
        ours.append(statistics.median(step for step, _ in rounds(build, "adamw", elements, 5, environment)[0]))
        theirs.append(statistics.median(torch_steps(elements, 3, mode, tensors)))
    ratios = [b / a for a, b in zip(ours, theirs)]
    middle = statistics.median(ratios)
    result(f"optimizer: AdamW, times as fast as PyTorch's, {what}", middle, 4, middle >= 4, "x",
           quartiles(ratios), len(ratios), better="higher",
           step_ns=statistics.median(ours) / elements * 1e9,
           torch_ns=statistics.median(theirs) / elements * 1e9, torch_mode=mode)
