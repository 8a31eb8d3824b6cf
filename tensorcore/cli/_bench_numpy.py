"""``tensorcore bench numpy``: NumPy statements on its own memory, pooled, and preloaded with the peers; processes in turn, A B A B.

What it can't show: a program's mix (``tensorcore run --compare`` on the program does).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tensorcore.cli._bench_results import Row, Section
from tensorcore.cli._peers import peer_environments, preload_failed
from tensorcore.cli._progress import Steps

if TYPE_CHECKING:
    from collections.abc import Sequence

_SCRIPT = str(Path(__file__).with_name("_numpy_cases.py"))
_AIMS = {  # the least plain / pooled
    "np.empty(10)": 0.97,
    "np.empty(100)": 0.97,
    "a + b, 512 B": 0.97,
    "np.empty((1000, 1000))": 2.5,
    "a*b + c*d - e, 800 KB": 5.0,
    "a*b + c*d - e, 8 MB": 2.0,
    "a + b, 64 MB": 1.4,
    "eight live temporaries, 4 MB": 3.0,
    "eight live temporaries, 8 MB": 3.0,
    "np.ones, 64 MB": 2.0,
    "np.zeros, 64 MiB, untouched": 0.5,
    "np.zeros, 64 MiB, used": 3.0,
}
_OUT = "np.add(a, b, out), "


def bench_numpy(peers: Sequence[str], rounds: int, quick: bool) -> list[Section]:
    """Two tables: every case by allocator; and a new result against ``out=``, pooled."""
    environments, missing = peer_environments([name for name in peers if name != "glibc"])
    contenders: dict[str, tuple[list[str], dict[str, str]]] = {
        "plain": ([], dict(os.environ)),
        "pooled": (["--pooled"], dict(os.environ)),
    }
    contenders |= {name: ([], environment) for name, environment in environments.items()}
    section = Section("numpy", "NumPy statements, per execution", list(contenders), ratio=("plain", "pooled"))
    with Steps(rounds * len(contenders)) as steps:
        for _ in range(rounds):
            for column, (options, environment) in contenders.items():
                steps.begin(column)
                problem = _run(column, [*options, *["--quick"] * quick], environment, section)
                if problem:
                    missing[column] = problem
                steps.end(column)
    for row in section.rows:
        row.target = _AIMS.get(row.label)
    section.notes += [f"{name} left out: {reason}" for name, reason in missing.items()]
    return [section, _new_results(section)]


def _run(column: str, options: list[str], environment: dict[str, str], section: Section) -> str | None:
    done = subprocess.run([sys.executable, "-P", _SCRIPT, *options], env=environment, capture_output=True, text=True, check=False)
    if preload_failed(done.stderr):
        return f"could not be preloaded: {done.stderr.strip()}"
    if done.returncode:
        return f"failed: {done.stderr.strip()}"
    for label, (seconds, faults) in json.loads(done.stdout).items():
        section.row(label).add(column, seconds, faults)
    return None


def _new_results(measured: Section) -> Section:
    """``a + b`` beside ``np.add(a, b, out)``, both in the pooled processes: what a new result costs over one that is there."""
    section = Section("numpy new result", "a new result against out=, pooled", ["out=", "a + b"], ratio=("out=", "a + b"))
    section.notes.append("aim: a + b ≤ 1.05 x out=")
    for row in measured.rows:
        if not row.label.startswith(_OUT):
            continue
        size = row.label.removeprefix(_OUT)
        fresh = measured.row(f"a + b, {size}")
        seconds = {"out=": row.seconds.get("pooled", []), "a + b": fresh.seconds.get("pooled", [])}
        faults = {"out=": row.faults.get("pooled", []), "a + b": fresh.faults.get("pooled", [])}
        section.rows.append(Row(size, seconds, faults, target=0.952))
    return section
