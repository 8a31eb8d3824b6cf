"""What a pool counts, as frozen dataclasses: the field list of `TC_STATISTICS` in tensorcore.h, and nothing that is not in it.

Reading takes no lock: under load the figures of one reading may be some operations apart; at rest they agree:
requested <= allocated <= reserved, cached + pending = reserved - allocated, peak >= current.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from ._lib import ffi, lib, pointer
from ._sheets import Sheet
from ._units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


_RATIOS = ("utilization_ratio", "hit_ratio", "internal_fragmentation", "external_fragmentation")


@dataclass(frozen=True, slots=True)
class ByteStatistic:
    """One amount of memory in bytes: now, at its largest since the last reset, and all that came and went."""

    current: int = 0
    peak: int = 0
    total_allocated: int = 0
    total_freed: int = 0


@dataclass(frozen=True, slots=True)
class SizeClassStatistics:
    """One size class: block size in bytes (of a large class the smallest), blocks live and cached, allocations ever, and hits.

    `hits` counts the allocations that the calling thread's own cache served; `learned` classes come from automatic size detection.
    """

    block_size: int
    live: int
    cached: int
    allocations: int
    hits: int
    learned: bool


@dataclass(frozen=True, slots=True)
class MemoryStatistics:
    """The figures of one pool, or of several merged.

    Merged, amounts and counts are sums: a merged peak is the sum of the peaks, an upper bound, since pools need not peak at once.
    `largest_free_block` is the largest of any pool; `metadata_bytes` is the core's, whichever pool is asked.
    """

    requested: ByteStatistic = ByteStatistic()
    allocated: ByteStatistic = ByteStatistic()
    reserved: ByteStatistic = ByteStatistic()
    cached: ByteStatistic = ByteStatistic()
    pending: ByteStatistic = ByteStatistic()
    allocation_count: int = 0
    deallocation_count: int = 0
    hits: int = 0
    misses: int = 0
    upstream_calls: int = 0
    upstream_ns: int = 0
    purged_bytes: int = 0
    out_of_memory_retries: int = 0
    out_of_memory_failures: int = 0
    refused_deallocations: int = 0
    largest_free_block: int = 0
    free_run_bytes: int = 0
    metadata_bytes: int = 0

    @property
    def internal_fragmentation(self) -> float:
        """The part of the allocated bytes that nobody asked for: 1 - requested / allocated; 0 for an empty pool."""
        return 1 - self.requested.current / self.allocated.current if self.allocated.current else 0.0

    @property
    def external_fragmentation(self) -> float:
        """The part of the free page runs outside the largest one: 1 - largest / all; 0 where nothing is free."""
        return 1 - self.largest_free_block / self.free_run_bytes if self.free_run_bytes else 0.0

    @property
    def utilization_ratio(self) -> float:
        """Allocated / reserved, 0..1; 0 for an empty pool."""
        return self.allocated.current / self.reserved.current if self.reserved.current else 0.0

    @property
    def hit_ratio(self) -> float:
        """The part of the allocations served without going upstream, 0..1; 0 before the first."""
        total = self.hits + self.misses
        return self.hits / total if total else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the fields and the ratios as plain numbers in nested dictionaries, ready for JSON."""
        return dataclasses.asdict(self) | {name: getattr(self, name) for name in _RATIOS}


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """One pool's name, device, limit in bytes (None: none), figures and size classes."""

    name: str
    device: str
    limit: int | None
    memory: MemoryStatistics
    size_classes: tuple[SizeClassStatistics, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain numbers and strings in nested dictionaries and lists, ready for JSON."""
        return dataclasses.asdict(self) | {"memory": self.memory.as_dict()}


def read_statistics(address: int) -> MemoryStatistics:
    """Return the figures of the pool at an address."""
    stats = ffi.new("tc_stats *")
    lib.tc_pool_stats(pointer(address, "tc_pool *"), stats)
    values: dict[str, Any] = {field.name: _from_c(getattr(stats, field.name)) for field in fields(MemoryStatistics)}
    return MemoryStatistics(**values)


def _from_c(value: Any) -> ByteStatistic | int:
    if isinstance(value, int):
        return value
    return ByteStatistic(value.current, value.peak, value.total_allocated, value.total_freed)


def read_size_classes(address: int) -> tuple[SizeClassStatistics, ...]:
    """Return the size classes of the pool at an address that have seen traffic or hold blocks, ascending by block size."""
    pool = pointer(address, "tc_pool *")
    capacity = count = lib.tc_pool_class_stats(pool, ffi.NULL, 0)
    classes = ffi.new("tc_class_stats[]", max(1, capacity))
    count = min(capacity, lib.tc_pool_class_stats(pool, classes, capacity))
    return tuple(
        SizeClassStatistics(c.block_size, c.live, c.cached, c.allocations, c.hits, bool(c.learned)) for c in classes[0:count]
    )


_LARGEST = frozenset({"largest_free_block", "metadata_bytes"})  # not sums when merged


def merge(statistics: Iterable[MemoryStatistics]) -> MemoryStatistics:
    """Return the figures of several pools as one."""
    readings = list(statistics)
    if not readings:
        return MemoryStatistics()
    values: dict[str, Any] = {
        field.name: _merge_values([getattr(reading, field.name) for reading in readings], max if field.name in _LARGEST else sum)
        for field in fields(MemoryStatistics)
    }
    return MemoryStatistics(**values)


def _merge_values(values: list[Any], combine: Callable[[Iterable[int]], int]) -> ByteStatistic | int:
    if isinstance(values[0], int):
        return combine(values)
    return ByteStatistic(*(combine(getattr(value, field.name) for value in values) for field in fields(ByteStatistic)))


def memory_sheet(columns: Mapping[str, MemoryStatistics]) -> Sheet:
    """Return figures as a table: amounts as now (peak), then counts, then ratios; a column for each name."""
    sheet = Sheet("memory", ["", *columns])
    for field in fields(MemoryStatistics):
        cells = [_format_value(field.name, getattr(memory, field.name)) for memory in columns.values()]
        sheet.rows.append([field.name.replace("_ns", "_time").replace("_", " "), *cells])
    for name in _RATIOS:
        sheet.rows.append([name.replace("_", " "), *(f"{getattr(memory, name):.1%}" for memory in columns.values())])
    return sheet


def _format_value(name: str, value: ByteStatistic | int) -> str:
    if isinstance(value, ByteStatistic):
        return f"{format_bytes(value.current)} (peak {format_bytes(value.peak)})"
    if name == "upstream_ns":
        return f"{value / 1e6:,.3f} ms"
    return format_bytes(value) if name.endswith(("_bytes", "_block")) else f"{value:,}"
