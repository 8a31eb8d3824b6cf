"""What scopes measured, added up by name: frozen statistics, and their table.

Adding a finished run appends it; the sums are made on reading.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ._sheets import Sheet, bytes_text, seconds_text
from ._statistics import ByteStatistic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._runs import Parts, Reading

_MAX_NAMES = 1000
_MAX_PENDING = 256
_NO_BYTES = ByteStatistic()


@dataclass(frozen=True, slots=True)
class ScopeDeviceStatistics:
    """What the runs of a scope asked of the pools of one device."""

    device: str
    requested: ByteStatistic = _NO_BYTES
    allocation_count: int = 0
    deallocation_count: int = 0


@dataclass(frozen=True, slots=True)
class ScopeStatistics:
    """What the finished runs of one scope asked of all pools, and of those of each device; `seconds` were spent inside.

    `requested` are bytes: `current` is what the runs left allocated, below 0 where they freed more than they asked for; `peak` is
    the most that one run held above what its thread held when it began: exact for one pool, for several the sum of their peaks,
    which need not be at once. What ran in scopes inside counts too; what other threads did doesn't.
    """

    name: str
    runs: int = 0
    seconds: float = 0.0
    requested: ByteStatistic = _NO_BYTES
    allocation_count: int = 0
    deallocation_count: int = 0
    devices: tuple[ScopeDeviceStatistics, ...] = ()


class FinishedRun(NamedTuple):
    """Seconds inside, and what was done by device."""

    seconds: float
    parts: Parts


_lock = threading.RLock()  # of all sums; reentrant: the garbage collector may finish a generator's run at any line here


class RunSum:
    """Adds up finished runs."""

    __slots__ = ("_merging", "_pending", "_statistics")

    def __init__(self, name: str) -> None:
        self._statistics = ScopeStatistics(name)
        self._pending: deque[FinishedRun] = deque()
        self._merging: int | None = None  # the thread that does

    def add(self, run: FinishedRun) -> None:
        """Add one."""
        self._pending.append(run)
        if len(self._pending) > _MAX_PENDING:
            self.read()

    def read(self) -> ScopeStatistics:
        """Return the sum."""
        with _lock:
            if self._merging != threading.get_ident():  # else the collector has interrupted this very loop, which will go on
                self._merging = threading.get_ident()
                while self._pending:
                    runs = [self._pending.popleft() for _ in range(len(self._pending))]
                    self._statistics = _merge(self._statistics, runs)
                self._merging = None
        return self._statistics


def _merge(statistics: ScopeStatistics, runs: Sequence[FinishedRun]) -> ScopeStatistics:
    sums: dict[str, Reading] = {}
    for run in runs:
        for device, part in run.parts.items():
            before = sums.get(device)
            sums[device] = part if before is None else before.beside(part)._replace(peak=max(before.peak, part.peak))
    devices = {entry.device: entry for entry in statistics.devices}
    for device, part in sums.items():
        if device:
            devices[device] = _plus(devices.get(device, ScopeDeviceStatistics(device)), part)
    return replace(
        _plus(statistics, sums[""]),
        runs=statistics.runs + len(runs),
        seconds=statistics.seconds + sum(run.seconds for run in runs),
        devices=tuple(devices[device] for device in sorted(devices)),
    )


_Statistics = TypeVar("_Statistics", ScopeStatistics, ScopeDeviceStatistics)


def _plus(statistics: _Statistics, part: Reading) -> _Statistics:
    requested = statistics.requested
    return replace(
        statistics,
        requested=ByteStatistic(
            requested.current + part.bytes_in - part.bytes_out,
            max(requested.peak, part.peak),
            requested.total_allocated + part.bytes_in,
            requested.total_freed + part.bytes_out,
        ),
        allocation_count=statistics.allocation_count + part.allocations,
        deallocation_count=statistics.deallocation_count + part.deallocations,
    )


_sums: dict[str, RunSum] = {}


def sum_of(name: str) -> RunSum:
    """Return the sum of all runs of a name; the oldest name goes when there are too many."""
    found = _sums.get(name)
    if found is None:
        with _lock:
            found = _sums.setdefault(name, RunSum(name))
            while len(_sums) > _MAX_NAMES:
                _sums.pop(next(iter(_sums)))
    return found


def read_scopes() -> tuple[ScopeStatistics, ...]:
    """Return the finished runs of every scope by name, in the order in which their first ones ended."""
    with _lock:
        sums = list(_sums.values())
    return tuple(entry.read() for entry in sums)


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()  # another thread of the parent may have held it


os.register_at_fork(after_in_child=_after_fork)


def scopes_sheet(scopes: Sequence[ScopeStatistics]) -> Sheet:
    """Return the scopes as a table; one that used several devices has a row for each too."""
    sheet = Sheet("scopes", ["scope", "runs", "time", "allocations", "deallocations", "requested", "left", "peak"])
    for entry in scopes:
        sheet.rows.append([entry.name, f"{entry.runs:,}", seconds_text(entry.seconds), *_cells(entry)])
        if len(entry.devices) > 1:
            sheet.rows += [[f"  on {part.device}", "", "", *_cells(part)] for part in entry.devices]
    return sheet


def _cells(figures: ScopeStatistics | ScopeDeviceStatistics) -> list[str]:
    requested = figures.requested
    counts = f"{figures.allocation_count:,}", f"{figures.deallocation_count:,}"
    return [*counts, *map(bytes_text, (requested.total_allocated, requested.current, requested.peak))]
