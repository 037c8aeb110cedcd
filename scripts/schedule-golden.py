#!/usr/bin/python3
"""Writes tests/data/schedule-golden.txt: the learning rates of PyTorch's
schedulers, which tests/test_schedule.c holds memopt's against. A line is the
name of a case of that test, a step, and the rate in hexadecimal.

    /usr/bin/python3 scripts/schedule-golden.py >tests/data/schedule-golden.txt

Needs Debian's python3-torch.
"""
import warnings

import torch
from torch.optim import lr_scheduler as s

warnings.simplefilter("ignore")


def warm(optimizer, start, steps, after):
    first = s.LinearLR(optimizer, start_factor=start, total_iters=steps)
    return s.SequentialLR(optimizer, [first, after(optimizer)], milestones=[steps])


# name: the optimizer's rate, how many steps, the scheduler
CASES = {
    "constant": (0.1, 10, lambda o: s.ConstantLR(o, factor=1.0)),
    "linear": (0.1, 12, lambda o: s.LinearLR(o, total_iters=5)),
    "linear-down": (0.5, 20, lambda o: s.LinearLR(o, 1.0, 0.1, 17)),
    "step": (0.1, 100, lambda o: s.StepLR(o, 30)),
    "step-half": (3e-4, 50, lambda o: s.StepLR(o, 7, 0.5)),
    "cosine": (0.1, 51, lambda o: s.CosineAnnealingLR(o, 50)),
    "cosine-minimum": (0.3, 38, lambda o: s.CosineAnnealingLR(o, 37, 0.01)),
    "one-cycle": (1, 100, lambda o: s.OneCycleLR(o, 0.1, total_steps=100)),
    "one-cycle-odd": (
        1,
        37,
        lambda o: s.OneCycleLR(
            o, 0.02, total_steps=37, pct_start=0.25, div_factor=10, final_div_factor=100
        ),
    ),
    "one-cycle-straight": (
        1,
        60,
        lambda o: s.OneCycleLR(o, 0.1, total_steps=60, anneal_strategy="linear"),
    ),
    "one-cycle-three": (
        1,
        80,
        lambda o: s.OneCycleLR(o, 0.1, total_steps=80, three_phase=True),
    ),
    "warmup-constant": (
        0.1,
        15,
        lambda o: warm(o, 0.1, 10, lambda o: s.ConstantLR(o, factor=1.0)),
    ),
    "warmup-step": (0.1, 60, lambda o: warm(o, 0.25, 8, lambda o: s.StepLR(o, 20, 0.5))),
    "warmup-cosine": (
        3e-4,
        61,
        lambda o: warm(o, 0.01, 10, lambda o: s.CosineAnnealingLR(o, 50, 1e-5)),
    ),
}

for name, (rate, steps, make) in CASES.items():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=rate, momentum=0.9)
    scheduler = make(optimizer)
    for step in range(steps):
        print(name, step, float(optimizer.param_groups[0]["lr"]).hex())
        if step + 1 < steps:
            optimizer.step()
            scheduler.step()
