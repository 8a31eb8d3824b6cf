"""``tensorcore bench memory``: what allocators hold beside what is live, called from C like the host benchmark.

Residency is the process's; a peer's capacities are what ``malloc_usable_size`` says. What it can't show: days of a real program.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensorcore.cli._bench_host import measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensorcore.cli._bench_results import Section

_SECTIONS = {
    "residency": "resident memory, decay of 1 s",
    "fragmentation": "lost inside blocks: 1 - requested / capacity",
    "drift": "a long run whose sizes drift between 128 B and 128 KiB, 8,192 live",
    "records": "the pool's own records, of what it has reserved",
}
_AIMS = {
    "peak RSS / live, 126 MiB of tensors": 1.10,
    "RSS over the start, all freed and 1.5 s idle": 20.0,
    "the same beside a loop over 8 MiB of temporaries": 20.0,
    "page faults of that loop a pass of 8 MiB": 0.0,
    "worst size above 512 B": 12.5,
    "reserved / peak live, the same": 1.25,
}
_LOST_BEFORE, _LOST_AFTER, _RECORDS = 6.0, 2.0, 1.5  # percent
_UNLEARNED = " (no learning)"


def bench_memory(peers: Sequence[str], rounds: int, quick: bool, operations: int) -> list[Section]:
    """One table per case; the pool's fragmentation before it has learned a size beside it. FileNotFoundError without the driver."""
    words = ["--decay", "1", *(["--quick"] if quick else ["--operations", str(operations)])]
    sections = measure(_SECTIONS, peers, rounds, words, harness=False)
    (unlearned,) = measure({"fragmentation": ""}, [], rounds, [*words, "--no-learning"], harness=False)
    lost = sections[1]
    lost.columns.insert(1, "tensorcore" + _UNLEARNED)
    for row in unlearned.rows:
        for figure in row.seconds["tensorcore"]:
            lost.row(row.label).add("tensorcore" + _UNLEARNED, figure)
    _set_aims(sections)
    sections[2].notes.append(f"{200_000 if quick else operations:,} operations")
    return sections


def _set_aims(sections: Sequence[Section]) -> None:
    for section in sections:
        for row in section.rows:
            row.most = _AIMS.get(row.label)
            if section.name == "host records":
                row.most = _RECORDS
            elif section.name == "host fragmentation" and row.most is None:
                row.most = _LOST_BEFORE if row.label.startswith("any size") else _LOST_AFTER
    sections[1].notes.append(f"without learning the aim is {_LOST_BEFORE:g} %; sizes that never come back can't be learned")
