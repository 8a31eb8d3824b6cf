"""Open runs: stretches of a thread's time in which it is measured what the thread asks of the pools; a stack per thread.

The core keeps one peak per thread and pool: every entry and exit reads it, gives it to the innermost run and begins it anew,
so runs may end in any order. A run costs about 10 µs with one open pool, and 3 µs for each further one:
python -m timeit -s 'import tensorcore as tc; pool = tc.MemoryPool(); scope = tc.scope("s")' 'with scope: pass'
Limit: lost is what a thread did with a pool that another thread closes meanwhile, and what it frees after a close.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from ._lib import ffi, lib, native, pointer
from ._registry import pools

if TYPE_CHECKING:
    from collections.abc import Iterable


class PoolKey:
    """One pool as open runs know it, beyond its end: the device that it is on."""

    __slots__ = ("device",)

    def __init__(self, device: str) -> None:
        self.device = device


class Reading(NamedTuple):
    """What a thread did with a pool so far, or inside a run: bytes, the peak of their difference, and blocks."""

    bytes_in: int = 0
    bytes_out: int = 0
    peak: int = 0
    allocations: int = 0
    deallocations: int = 0

    def since(self, begin: Reading, peak: int) -> Reading:
        """Return what was done since `begin`, with a peak above what was held then."""
        above = max(0, peak - (begin.bytes_in - begin.bytes_out))
        return Reading(
            self.bytes_in - begin.bytes_in,
            self.bytes_out - begin.bytes_out,
            above,
            self.allocations - begin.allocations,
            self.deallocations - begin.deallocations,
        )

    def beside(self, other: Reading) -> Reading:
        """Return both together, for two pools in the same time."""
        return Reading(
            self.bytes_in + other.bytes_in,
            self.bytes_out + other.bytes_out,
            self.peak + other.peak,
            self.allocations + other.allocations,
            self.deallocations + other.deallocations,
        )

    def then(self, later: Reading) -> Reading:
        """Return both together, one after the other."""
        both = self.beside(later)
        return both._replace(peak=max(self.peak, self.bytes_in - self.bytes_out + later.peak))


NOTHING = Reading()
Parts = dict[str, Reading]
"""What a run did by device; under '' with all devices together."""


class Run:
    """A stretch of one thread's time that is being measured."""

    __slots__ = ("abandoned", "began", "begin", "closed", "done", "owner", "peaks")

    def __init__(self, owner: object, begin: dict[PoolKey, Reading]) -> None:
        self.owner = owner
        self.begin = begin
        self.peaks: dict[PoolKey, int] = {}  # since its entry, less what open runs inside it have seen
        self.done: list[tuple[str, Reading]] = []  # pools that were closed meanwhile
        self.closed: set[PoolKey] = set()
        self.abandoned = False  # it was left on another thread
        self.began = time.perf_counter()


class _Thread(threading.local):
    def __init__(self) -> None:
        self.runs: list[Run] = []  # open, the innermost last


_thread = _Thread()


def find_run(owner: object) -> Run | None:
    """Return the calling thread's innermost open run of an owner."""
    return next((run for run in reversed(_thread.runs) if run.owner is owner), None)


def _read_pools() -> dict[PoolKey, Reading]:
    """Return what this thread did with each open pool; its peaks begin anew."""
    found = [pool for reference in pools.valuerefs() if (pool := reference()) is not None]
    readings = ((pool._key, native.measure_thread(pool)) for pool in found)
    return {key: Reading(*reading) for key, reading in readings if reading is not None}


def _raise_peaks(peaks: dict[PoolKey, int], others: Iterable[tuple[PoolKey, int]]) -> None:
    for key, peak in others:
        if peak > peaks.get(key, peak - 1):
            peaks[key] = peak


def _settle(runs: list[Run]) -> dict[PoolKey, Reading]:
    """Return the readings of now; the innermost open run gets the peaks."""
    readings = _read_pools()
    if runs:
        _raise_peaks(runs[-1].peaks, [(key, reading.peak) for key, reading in readings.items()])
    while runs and runs[-1].abandoned:
        _drop(runs, runs[-1])
    return readings


def _drop(runs: list[Run], run: Run) -> None:
    """Take a run out, in whatever order; the one around it gets its peaks."""
    position = runs.index(run)
    if position:
        _raise_peaks(runs[position - 1].peaks, list(run.peaks.items()))
    del runs[position]


def enter(owner: object = None) -> Run:
    """Begin a run on this thread."""
    runs = _thread.runs
    run = Run(owner, _settle(runs))
    runs.append(run)
    return run


def leave(run: Run) -> tuple[float, Parts]:
    """Return the seconds inside a run of this thread and what it did."""
    seconds = time.perf_counter() - run.began
    runs = _thread.runs
    readings = _settle(runs)
    peaks: dict[PoolKey, int] = {}
    for inner in runs[runs.index(run) :]:
        _raise_peaks(peaks, list(inner.peaks.items()))
    _drop(runs, run)
    parts = run.done + [
        (key.device, reading.since(run.begin.get(key, NOTHING), peaks.get(key, reading.peak)))
        for key, reading in readings.items()
        if key not in run.closed
    ]
    return seconds, _join(parts)


def _join(parts: Iterable[tuple[str, Reading]]) -> Parts:
    devices: Parts = {"": NOTHING}
    for device, part in parts:
        if part != NOTHING:
            devices[device] = devices[device].beside(part) if device in devices else part
            devices[""] = devices[""].beside(part)
    return devices


def note_closing(address: int, key: PoolKey) -> None:
    """A pool ends, on the thread that closes or drops it: its figures go to the thread's open runs. Neither blocks nor raises."""
    runs = _thread.runs
    if not runs:
        return
    stats = ffi.new("tc_thread_stats *")
    lib.tc_pool_thread_stats(pointer(address, "tc_pool *"), stats)
    peak = stats.requested_peak
    reading = Reading(stats.requested_in, stats.requested_out, peak, stats.allocation_count, stats.deallocation_count)
    for run in reversed(runs):
        peak = max(peak, run.peaks.get(key, peak))
        run.done.append((key.device, reading.since(run.begin.get(key, NOTHING), peak)))
        run.closed.add(key)
