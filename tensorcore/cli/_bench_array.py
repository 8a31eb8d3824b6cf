"""``tensorcore bench array``: what an operation on a tensor costs besides NumPy's own on the array, with PyTorch's beside them.

Small operands, so that an operation's start is all there is. What it can't show: what pooled memory gains on large ones (bench
numpy does).
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

_AIM = 1e-6  # seconds per operation besides NumPy's
_CASES = (  # label, the statement for arrays and tensors, PyTorch's where it is written otherwise
    ("a + b", "a + b", None),
    ("a + 1.5", "a + 1.5", None),
    ("a += b", "operator.iadd(a, b)", None),
    ("a < b", "a < b", None),
    ("-a", "-a", None),
    ("m + a, broadcast", "m + a", None),
    ("m @ a", "m @ a", None),
    ("sin(a)", "xp.sin(a)", None),
    ("np.sin(a)", "np.sin(a)", "xp.sin(a)"),
    ("a.sum()", "a.sum()", None),
    ("m.sum(axis=0)", "m.sum(axis=0)", None),
    ("concat([a, b])", "xp.concat([a, b])", None),
    ("a[3]", "a[3]", None),
    ("a[2:5]", "a[2:5]", None),
    ("a[mask]", "a[mask]", None),
    ("a[3] = 1.0", "operator.setitem(a, 3, 1.0)", None),
    ("a.reshape(2, 5)", "a.reshape(2, 5)", None),
)


def bench_array(rounds: int, quick: bool) -> list[Section]:
    """One table; PyTorch's column only where it is installed."""
    libraries = {"numpy": numpy, "tensorcore": tensorcore}
    section = Section("array", "operations on 10 elements (m: 3 x 10), per operation", list(libraries))
    if find_spec("torch") is not None:
        libraries["torch"] = import_module("torch")
        section.columns.append("torch")
    else:
        section.notes.append("torch left out: not installed")
    loops = 500 if quick else 20_000
    names = {name: _names(library) for name, library in libraries.items()}
    with Steps(rounds) as steps:
        for number in range(rounds):
            steps.begin("array")
            for label, statement, of_torch in _CASES:
                for name in libraries:
                    timer = timeit.Timer(of_torch or statement if name == "torch" else statement, globals=names[name])
                    timer.timeit(loops // 10)
                    section.row(label).add(name, timer.timeit(loops) / loops)
            steps.end(f"array, round {number + 1}")
    section.notes.append(_judge(section))
    return [section]


def _judge(section: Section) -> str:
    """Return the largest difference between a tensor's time and an array's, beside the aim."""
    besides = {row.label: (row.median("tensorcore") or 0.0) - (row.median("numpy") or 0.0) for row in section.rows}
    worst = max(besides, key=lambda label: besides[label])
    return f"besides NumPy's, aim ≤ {_AIM * 1e9:.0f} ns: at most {besides[worst] * 1e9:.0f} ns, in {worst}"


def _names(library: Any) -> dict[str, Any]:
    a, b, m = library.ones(10), library.ones(10), library.ones((3, 10))
    mask = a > 0
    return {"xp": library, "np": numpy, "a": a, "b": b, "m": m, "mask": mask, "operator": import_module("operator")}
