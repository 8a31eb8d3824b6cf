"""``tensorcore bench curves``: what an allocation costs as live blocks, classes, pools or threads grow. Flat is the aim.

What it can't show: a curve's shape below the machine's noise; run it on an idle machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensorcore.cli._bench_host import measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensorcore.cli._bench_results import Section

_SECTIONS = {
    "live-blocks": "beside live blocks of 64 to 128 B: pairs and batches of 64 B-1 KiB, per block",
    "classes": "over so many sizes in turn, per pair",
    "pools": "over so many pools in turn, per pair of 64 B-1 KiB",
    "thread-counts": "threads at once, elapsed time per block of all threads",
}


def bench_curves(peers: Sequence[str], rounds: int, quick: bool) -> list[Section]:
    """One table per thing that grows. FileNotFoundError where the driver wasn't built."""
    sections = measure(_SECTIONS, peers, rounds, ["--quick"] * quick, series=tuple(_SECTIONS), harness=False)
    return [part for section in sections for part in _by_kind(section)]


def _by_kind(section: Section) -> list[Section]:
    """Pairs and batches apart: each a curve of its own."""
    from dataclasses import replace

    kinds = dict.fromkeys(row.label.split(",")[0].split(" of ")[0] for row in section.rows)
    parts = [
        replace(section, name=f"{section.name} {kind}", title=f"{kind}: {section.title}", notes=[],
                rows=[row for row in section.rows if row.label.startswith(kind)])
        for kind in kinds
    ]  # fmt: skip
    parts[0].notes.extend(section.notes)
    return parts
