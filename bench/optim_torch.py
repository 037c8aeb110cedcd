#!/usr/bin/python3
"""Seconds that a step of PyTorch's AdamW takes on the CPU, a line a round.

usage: bench/optim_torch.py ELEMENTS ROUNDS single|foreach TENSORS

Needs PyTorch (Debian: python3-torch). All CPUs that the process may use.
"""
import os
import sys
import time

import torch


def main():
    elements, rounds, tensors = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[4])
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    parameters = [torch.nn.Parameter(torch.full((elements // tensors,), 0.01)) for _ in range(tensors)]
    for p in parameters:
        p.grad = torch.full_like(p, 0.01)
    optimizer = torch.optim.AdamW(parameters, foreach=sys.argv[3] == "foreach")
    for i in range(rounds + 2):
        begin = time.monotonic()
        optimizer.step()
        if i >= 2:
            print(f"{time.monotonic() - begin:.6f}", flush=True)


if __name__ == "__main__":
    main()
