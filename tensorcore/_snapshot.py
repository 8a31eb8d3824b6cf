"""`statistics()`: one reading of everything that is known, as one frozen object: pools, scopes, this process, the cards.

The pools and scopes cost some 10 µs each; for the rest see `_host` and `_gpus`. The parts are read one after the other, the pools
first.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ._errors import PoolClosedError
from ._gpus import GpuStatistics, gpus_sheet, read_gpus
from ._host import HostStatistics, host_sheet, read_host
from ._registry import open_pools
from ._scope_statistics import ScopeStatistics, read_scopes, scopes_sheet
from ._sheets import Sheet, to_rich, to_text
from ._statistics import MemoryStatistics, PoolStatistics, memory_sheet, merge

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ._pool import MemoryPool


@dataclass(frozen=True, slots=True)
class Statistics:
    """Who holds the memory: every open pool and all of them `merged`, scopes, this process on its machine, and the cards.

    `gpu_reasons` says why there are no cards, or what is not in their figures. Printed it is tables; rich renders it too.
    """

    pools: tuple[PoolStatistics, ...]
    merged: MemoryStatistics
    scopes: tuple[ScopeStatistics, ...] = ()
    host: HostStatistics | None = None
    gpus: tuple[GpuStatistics, ...] = ()
    gpu_reasons: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain numbers and strings in nested dictionaries and lists, ready for JSON."""
        whole = {name: _plain(getattr(self, name)) for name in ("scopes", "host", "gpus", "gpu_reasons")}
        return {"pools": [pool.as_dict() for pool in self.pools], "merged": self.merged.as_dict(), **whole}

    def as_json(self, indent: int | None = None) -> str:
        """Return the same as a JSON text."""
        return json.dumps(self.as_dict(), indent=indent)

    def sheets(self) -> list[Sheet]:
        """Return the tables that printing shows; pools of one name and device are numbered."""
        columns: dict[str, MemoryStatistics] = {}
        for pool in self.pools:
            heading = f"{pool.name} ({pool.device})"
            same = sum(heading == f"{other.name} ({other.device})" for other in self.pools)
            columns[f"{heading} {len(columns) + 1}" if same > 1 else heading] = pool.memory
        if len(columns) != 1:
            columns["all pools"] = self.merged
        return [memory_sheet(columns), *self.machine_sheets()]

    def machine_sheets(self) -> list[Sheet]:
        """Return the tables of scopes, process and cards alone."""
        found = [scopes_sheet(self.scopes)] if self.scopes else []
        if self.host is not None:
            found.append(host_sheet(self.host))
        if self.gpus or self.gpu_reasons:
            found.append(gpus_sheet(self.gpus, self.gpu_reasons))
        return found

    def __str__(self) -> str:
        return to_text(self.sheets())

    def __rich__(self) -> RenderableType:
        return to_rich(self.sheets())


def _plain(value: Any) -> Any:
    """Return dataclasses as dictionaries and tuples as lists, all the way down."""
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return value


def statistics(*, machine: bool = True) -> Statistics:
    """Return the figures of every open pool and of all of them merged, of scopes, of this process, and of the cards.

    Parameters
    ----------
    machine
        False leaves out the process and the cards: `host` is None and `gpus` is empty. That costs microseconds; with them it is a
        millisecond or more, and the first time longer where there are cards.

    Returns
    -------
    Statistics
        Sizes are bytes, `upstream_ns` nanoseconds, `seconds` seconds, ratios lie in 0..1. What can't be told is None, with a reason
        beside it; nothing is raised. Sources: the counters of the C core, /proc and getrusage, NVML.
    """
    pools = tuple(reading for pool in open_pools() if (reading := _read_pool(pool)) is not None)
    merged, scopes = merge(reading.memory for reading in pools), read_scopes()
    if not machine:
        return Statistics(pools, merged, scopes)
    reserved: dict[str, int] = {}
    for reading in pools:
        reserved[reading.device] = reserved.get(reading.device, 0) + reading.memory.reserved.current
    host = read_host()
    gpus, reasons = read_gpus(reserved)
    return Statistics(pools, merged, scopes, host, gpus, reasons)


def _read_pool(pool: MemoryPool) -> PoolStatistics | None:
    """Return the figures of a pool; None where another thread has just closed it."""
    try:
        return PoolStatistics(pool.name, str(pool.device), pool.limit, pool.statistics, pool.size_classes)
    except PoolClosedError:
        return None
