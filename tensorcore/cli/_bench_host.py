"""``tensorcore bench host``: allocators called from C, one process per allocator and round, interleaved.

The driver is csrc/bench, built beside the compiled core. What it can't show: what an allocator does to a real program's caches.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tensorcore
from tensorcore.cli._bench_results import Section
from tensorcore.cli._peers import peer_environments, preload_failed
from tensorcore.cli._progress import Steps

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_DRIVER = "_bench_host"
_SECTIONS = {
    "pair": "allocate and free at once, per pair",
    "batch": "allocate 10,000, then free them, per block",
    "mixed": "allocate 10,000 of mixed sizes, then free them, per block",
    "threads": "two threads at once, per block of one thread",
    "handoff": "one thread allocates, another frees, per block",
    "live": "eight blocks alive at once, a byte of each page written, per block",
    "zeroed": "zeroed memory, per block",
    "trace": "a tensor program's mix, per replaced block",
}
_SERIES = ("pair", "batch")
_MODE_CASES = ("pair", "mixed")


@dataclass(frozen=True, slots=True)
class _Contender:
    column: str
    mode: str  # what the driver is told
    environment: dict[str, str]


def bench_host(peers: Sequence[str], rounds: int, quick: bool) -> list[Section]:
    """One table per case. FileNotFoundError where the driver wasn't built."""
    words = ["--quick"] * quick
    sections = measure(_SECTIONS, peers, rounds, words, series=_SERIES, ratio=("glibc", "tensorcore"))
    sections[0].notes.insert(
        0, "harness: the loop alone, the floor of every other figure; tensorcore's blocks are all 64-byte aligned"
    )
    return sections


def bench_modes(rounds: int, quick: bool) -> list[Section]:
    """What hardened costs beside fast, in cases that touch no memory of their own."""
    cases = {name: title for name, title in _SECTIONS.items() if name in _MODE_CASES}
    sections = measure(cases, (), rounds, ["--quick"] * quick, series=_SERIES, ratio=("hardened", "fast"), modes=True)
    for section in sections:
        section.name = section.name.replace("host", "modes")
    return sections


def measure(
    cases: Mapping[str, str],
    peers: Sequence[str],
    rounds: int,
    words: Sequence[str],
    *,
    series: Sequence[str] = (),
    ratio: tuple[str, str] | None = None,
    harness: bool = True,
    modes: bool = False,
) -> list[Section]:
    """Run the driver's cases for every allocator in turn, `rounds` times: a section per case, named by ``cases``' titles.

    ``words`` are further arguments of the driver. With ``modes`` the allocators are the pool in each of its modes.
    FileNotFoundError where the driver wasn't built.
    """
    driver = find_driver()
    environments, missing = peer_environments(peers)
    contenders = _modes() if modes else _contenders(environments, harness)
    columns = [contender.column for contender in contenders]
    compared = ratio if ratio is not None and ratio[0] in columns else None
    sections = [
        Section(f"host {case}", title, list(columns), ratio=compared, is_series=case in series) for case, title in cases.items()
    ]
    with Steps(rounds * len(contenders) * len(sections)) as steps:
        for _ in range(rounds):
            for section, case in zip(sections, cases, strict=True):
                for contender in contenders:
                    steps.begin(f"{contender.column}: {case}")
                    problem = _run(driver, contender, case, words, section)
                    if problem:
                        missing[contender.column] = problem
                    steps.end(f"{contender.column}: {case}")
    sections[0].notes += [f"{name} left out: {reason}" for name, reason in missing.items()]
    return sections


def _modes() -> list[_Contender]:
    environments = {mode: {**os.environ, "TENSORCORE_MODE": mode} for mode in ("fast", "hardened")}
    return [
        _Contender("harness", "harness", dict(os.environ)),
        *(_Contender(mode, "tensorcore", environment) for mode, environment in environments.items()),
    ]


def _contenders(environments: dict[str, dict[str, str]], harness: bool) -> list[_Contender]:
    """The allocators, the pool first (after the empty harness, where it is wanted)."""
    contenders = [_Contender("tensorcore", "tensorcore", dict(os.environ))]
    if harness:
        contenders.insert(0, _Contender("harness", "harness", dict(os.environ)))
    for name, environment in environments.items():
        contenders.append(_Contender(name, "malloc", environment))
        if name == "glibc" and harness:
            contenders.append(_Contender("glibc aligned", "aligned", environment))
    return contenders


def find_driver(name: str = _DRIVER) -> Path:
    """The benchmark executable of that name that was built with the package."""
    folders = [*map(Path, tensorcore.__path__), _core_folder()]
    for folder in folders:
        if os.access(folder / name, os.X_OK):
            return folder / name
    raise FileNotFoundError(
        f"{name} is not in {' or '.join(map(str, folders))}: reinstall tensorcore from its source with a C compiler"
    )


def _core_folder() -> Path:
    from importlib.util import find_spec

    spec = find_spec("tensorcore._core")  # in an editable install it lies elsewhere than the Python files
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else Path(tensorcore.__path__[0])


def _run(driver: Path, contender: _Contender, case: str, words: Sequence[str], section: Section) -> str | None:
    """Add a round's figures to the section, or return why there are none."""
    command = [str(driver), contender.mode, "--case", case, *words]
    done = subprocess.run(command, env=contender.environment, capture_output=True, text=True, check=False)
    if preload_failed(done.stderr):
        return f"could not be preloaded: {done.stderr.strip()}"
    for line in done.stdout.splitlines():
        figures = json.loads(line)
        row = section.row(figures["label"])
        if "value" in figures:
            row.unit = figures["unit"]
            row.add(contender.column, figures["value"])
            continue
        row.note = figures["note"]
        row.add(contender.column, figures["ns"] * 1e-9, figures["faults"])
    return done.stderr.strip() or "the driver failed" if done.returncode else None
