"""``tensorcore bench device``: a stream-ordered pool on a fake device, called from C, beside an uncontended lock as the floor.

The driver is csrc/bench/bench_device.c. What it can't show: what an event or a kernel costs, since there is no device.
"""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

from tensorcore.cli._bench_host import find_driver
from tensorcore.cli._bench_results import Section
from tensorcore.cli._progress import Steps

if TYPE_CHECKING:
    from pathlib import Path

_DRIVER = "_bench_device"
_TIMED = {
    "pair": "allocate and free at once, on one stream after the other, 100,000 blocks live, per pair",
    "replace": "replace a random one of 100,000 live blocks on its stream, per block",
}
_POLICIES = ["tensorcore", "cupy", "pytorch", "power of two"]


def bench_device(rounds: int, quick: bool) -> list[Section]:
    """One table per case. FileNotFoundError where the driver wasn't built."""
    driver = find_driver(_DRIVER)
    sections = [Section(f"device {case}", title, ["harness", "tensorcore"]) for case, title in _TIMED.items()]
    sections[0].notes.append("harness: the same loop around an uncontended mutex, the floor")
    with Steps(rounds * len(sections) + 1) as steps:
        for _ in range(rounds):
            for section, case in zip(sections, _TIMED, strict=True):
                steps.begin(case)
                for figures in _run(driver, case, quick):
                    section.row(figures["label"]).add(figures["column"], figures["ns"] * 1e-9)
                steps.end(case)
        steps.begin("fragmentation")
        sections.append(_fragmentation(driver, quick))
        steps.end("fragmentation")
    return sections


def _fragmentation(driver: Path, quick: bool) -> Section:
    title = "most reserved by most live bytes, on traces of device programs (the other pools' rules are simulated)"
    section = Section("device fragmentation", title, _POLICIES)
    for figures in _run(driver, "fragmentation", quick):
        row = section.row(figures["label"])
        row.unit, row.most = "ratio", 1.05
        row.add(figures["column"], figures["ratio"])
    return section


def _run(driver: Path, case: str, quick: bool) -> list[dict[str, Any]]:
    command = [str(driver), "--case", case, *["--quick"] * quick]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]
