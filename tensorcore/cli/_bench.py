"""``tensorcore bench``: runs the parts that were asked for and hands their tables out, on stdout, as JSON and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tensorcore.cli._bench_results import Section, plot, to_json, to_sheet
from tensorcore.cli._peers import peer_environments
from tensorcore.cli._tables import show

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

_ROUNDS, _QUICK_ROUNDS = 5, 1


def bench_command(options: argparse.Namespace, error: Callable[[str], NoReturn]) -> int:
    """Carry out ``tensorcore bench``; 1 where the host driver is missing, else 0."""
    peers = [name.strip() for name in options.against.split(",") if name.strip()]
    try:
        peer_environments(peers)
    except ValueError as problem:
        error(f"bench: --against {options.against}: {problem}")
    for path in (options.json, options.plot):
        if path is not None and not Path(path).absolute().parent.is_dir():
            error(f"bench: there is no directory for {path}")
    if options.plot is not None:
        _require_matplotlib(error)
    rounds = options.rounds or (_QUICK_ROUNDS if options.quick else _ROUNDS)
    sections = _measure(options, peers, rounds, error)
    show([to_sheet(section) for section in sections])
    print(f"medians of {rounds} interleaved rounds" + (", each too short to quote (--quick)" if options.quick else ""))
    if options.json is not None:
        Path(options.json).write_text(to_json(sections, {"rounds": rounds, "quick": options.quick}), encoding="utf-8")
    if options.plot is not None:
        plot(sections, Path(options.plot))
    return 0


def _measure(options: argparse.Namespace, peers: list[str], rounds: int, error: Callable[[str], NoReturn]) -> list[Section]:
    part, quick, sections = options.part, options.quick, list[Section]()
    try:
        if part in ("host", "all"):
            from tensorcore.cli._bench_host import bench_host

            sections += bench_host(peers, rounds, quick)
        if part == "modes":
            from tensorcore.cli._bench_host import bench_modes

            sections += bench_modes(rounds, quick)
        if part in ("memory", "all"):
            from tensorcore.cli._bench_memory import bench_memory

            sections += bench_memory(peers, rounds, quick, options.operations)
        if part in ("curves", "all"):
            from tensorcore.cli._bench_curves import bench_curves

            sections += bench_curves(peers, rounds, quick)
        if part in ("device", "all"):
            from tensorcore.cli._bench_device import bench_device

            sections += bench_device(rounds, quick)
        if part in ("simd", "all"):
            from tensorcore.cli._bench_simd import bench_simd

            sections += bench_simd(rounds, quick)
    except FileNotFoundError as problem:
        error(f"bench: {problem}")
    if part in ("python", "all"):
        from tensorcore.cli._bench_python import bench_python

        sections += bench_python(rounds, quick)
    if part in ("device", "all"):
        from tensorcore.cli._bench_device_python import bench_device_python

        sections += bench_device_python(rounds, quick)
    if part in ("array", "all"):
        from tensorcore.cli._bench_array import bench_array

        sections += bench_array(rounds, quick)
    if part in ("numpy", "all"):
        from tensorcore.cli._bench_numpy import bench_numpy

        sections += bench_numpy(peers, rounds, quick)
    return sections


def _require_matplotlib(error: Callable[[str], NoReturn]) -> None:
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        error("bench: --plot needs matplotlib, which is not installed: pip install 'tensorcore[bench]'")
