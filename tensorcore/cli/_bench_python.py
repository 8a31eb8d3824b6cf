"""``tensorcore bench python``: what a pool, a block and a tensor cost from Python, beside NumPy's and PyTorch's, in one process.

What it can't show: what the memory costs that is then written to (bench numpy does).
"""

from __future__ import annotations

import timeit
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy

import tensorcore
from tensorcore.cli._bench_results import Section
from tensorcore.cli._progress import Steps

_CASES = (  # label, statement, and the aim in words
    ("an empty statement (the loop's floor)", "pass"),
    ("pool.allocate(1024) + deallocate", "deallocate(allocate(1024))"),
    ("pool.allocate(1024) + deallocate(p, 1024)", "deallocate(allocate(1024), 1024)"),
    ("PooledAllocation(1 << 20), dropped", "PooledAllocation(1 << 20, pool=pool)"),
    ("with PooledAllocation(1 << 20)", "with PooledAllocation(1 << 20, pool=pool): pass"),
    ("Tensor((100, 100))", "Tensor(shape)"),
    ("numpy.empty((100, 100))", "empty(shape)"),
    ("torch.empty((100, 100))", "torch.empty(shape)"),
)


def bench_python(rounds: int, quick: bool) -> list[Section]:
    """One table; torch's row only where torch is installed."""
    section = Section("python", "from Python, made and dropped, per operation", ["time"])
    section.notes.append(
        "aims: allocate + deallocate ≤ 350 ns; PooledAllocation ≤ 700 ns; Tensor ≤ 2 x numpy.empty and < torch.empty"
    )
    names = _names()
    cases = [case for case in _CASES if "torch" not in case[0] or "torch" in names]
    if "torch" not in names:
        section.notes.append("torch left out: not installed")
    loops = 2_000 if quick else 100_000
    timers = [(label, timeit.Timer(statement, globals=names)) for label, statement in cases]
    with Steps(rounds) as steps:
        for number in range(rounds):
            steps.begin("python")
            for label, timer in timers:
                timer.timeit(loops // 10)
                section.row(label).add("time", timer.timeit(loops) / loops)
            steps.end(f"python, round {number + 1}")
    tensor, empty = (section.row(label).median("time") for label in ("Tensor((100, 100))", "numpy.empty((100, 100))"))
    assert tensor is not None
    assert empty is not None
    section.notes.append(f"Tensor / numpy.empty: {tensor / empty:.2f}")
    return [section]


def _names() -> dict[str, Any]:
    pool = tensorcore.MemoryPool(name="bench")
    names: dict[str, Any] = {
        "pool": pool,
        "allocate": pool.allocate,
        "deallocate": pool.deallocate,
        "PooledAllocation": tensorcore.PooledAllocation,
        "Tensor": tensorcore.Tensor,
        "empty": numpy.empty,
        "shape": (100, 100),
    }
    if find_spec("torch") is not None:
        names["torch"] = import_module("torch")
    return names
