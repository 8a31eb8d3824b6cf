"""Statistics: one field list from C to Python, invariants, merging, and the printed table."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

import tensorcore as tc
from tensorcore._lib import ffi
from tensorcore._statistics import merge

HEADER = (Path(__file__).parent.parent / "csrc/include/tensorcore.h").read_text()


def names(kind: type) -> list[str]:
    """Return the names of a dataclass's fields in order."""
    return [field.name for field in dataclasses.fields(kind)]


@pytest.mark.parametrize(
    ("kind", "struct"),
    [
        (tc.MemoryStatistics, "tc_stats"),
        (tc.ByteStatistic, "tc_stat"),
        (tc.SizeClassStatistics, "tc_class_stats"),
        (tc.FakeCounts, "tc_fake_counts"),
    ],
)
def test_a_dataclass_has_the_fields_of_its_c_struct(kind: type, struct: str) -> None:
    """The same names in the same order: a statistic that is added in C fails here until Python has it."""
    assert names(kind) == [name for name, _ in ffi.typeof(struct).fields]


def test_amounts_and_counts_have_the_type_that_the_header_gives_them() -> None:
    """BYTES is a ByteStatistic, COUNT an integer."""
    listed = re.findall(r"^  (BYTES|COUNT)\((\w+),", HEADER, re.MULTILINE)
    types = {"BYTES": tc.ByteStatistic, "COUNT": int}
    statistics = tc.MemoryStatistics()
    assert [(name, type(getattr(statistics, name))) for _, name in listed] == [(name, types[kind]) for kind, name in listed]
    assert len(listed) == len(names(tc.MemoryStatistics))


def test_the_figures_of_known_work(pool: tc.MemoryPool) -> None:
    """Ten blocks of 100 bytes in classes of 128, half of them freed."""
    blocks = [pool.allocate(100) for _ in range(10)]
    for address in blocks[:5]:
        pool.deallocate(address)
    statistics = pool.statistics
    assert statistics.requested == tc.ByteStatistic(500, 1000, 1000, 500)
    assert dataclasses.replace(statistics.allocated, peak=0) == tc.ByteStatistic(640, 0, 1280, 640)
    assert 1000 <= statistics.allocated.peak <= 1280  # sampled by the core, never below the peak of the requests
    assert (statistics.allocation_count, statistics.deallocation_count) == (10, 5)
    assert statistics.hits + statistics.misses == 10
    assert statistics.upstream_calls >= 1
    assert statistics.upstream_ns > 0
    assert statistics.internal_fragmentation == pytest.approx(1 - 100 / 128)
    assert 0 <= statistics.external_fragmentation < 1
    assert statistics.hit_ratio == statistics.hits / 10
    assert statistics.utilization_ratio == 640 / statistics.reserved.current
    assert statistics.cached.current + statistics.pending.current == statistics.reserved.current - 640
    (used,) = [size_class for size_class in pool.size_classes if size_class.allocations]
    assert (used.block_size, used.live, used.allocations, used.learned) == (128, 5, 10, False)
    for address in blocks[5:]:
        pool.deallocate(address)


def test_an_empty_pool_has_ratios_of_0() -> None:
    """No division by zero."""
    empty = tc.MemoryStatistics()
    assert empty.internal_fragmentation == empty.external_fragmentation == empty.utilization_ratio == empty.hit_ratio == 0


def test_statistics_name_every_open_pool_and_merge_them() -> None:
    """Sums, but the largest free block and the core's metadata; a closed pool is gone."""
    with tc.MemoryPool(name="first", limit="1GiB") as first, tc.MemoryPool(name="second") as second:
        blocks = [(pool, pool.allocate(size)) for pool, size in ((first, 1000), (second, 70_000))]
        statistics = tc.statistics()
        by_name = {pool.name: pool for pool in statistics.pools}
        assert (by_name["first"].limit, by_name["second"].limit, by_name["first"].device) == (1 << 30, None, "cpu")
        assert by_name["first"].memory == first.statistics
        assert by_name["second"].size_classes == second.size_classes
        readings = [pool.memory for pool in statistics.pools]
        assert statistics.merged.requested.current == sum(reading.requested.current for reading in readings)
        assert statistics.merged.allocation_count == sum(reading.allocation_count for reading in readings)
        assert statistics.merged.largest_free_block == max(reading.largest_free_block for reading in readings)
        assert statistics.merged.metadata_bytes == max(reading.metadata_bytes for reading in readings)
        for pool, address in blocks:
            pool.deallocate(address)
    assert {"first", "second"}.isdisjoint(pool.name for pool in tc.statistics().pools)


def test_merging_nothing_gives_zeros() -> None:
    """A program that made no pool has statistics too."""
    assert merge([]) == tc.MemoryStatistics()


def test_statistics_are_plain_numbers_for_json(pool: tc.MemoryPool) -> None:
    """Every field and ratio, nested by pool."""
    pool.deallocate(pool.allocate(1000))
    read = json.loads(json.dumps(tc.statistics().as_dict()))
    (mine,) = [entry for entry in read["pools"] if entry["name"] == pool.name]
    assert mine["memory"]["requested"] == {"current": 0, "peak": 1000, "total_allocated": 1000, "total_freed": 1000}
    assert set(names(tc.MemoryStatistics)) < set(mine["memory"]) == set(read["merged"])
    assert mine["size_classes"][0].keys() == set(names(tc.SizeClassStatistics))


def test_printed_statistics_are_an_aligned_table() -> None:
    """A row for each figure, a column for each pool, the last one for all together."""
    with tc.MemoryPool(name="first") as first, tc.MemoryPool(name="second"):
        address = first.allocate(2 << 20)
        lines = str(tc.statistics()).splitlines()
        first.deallocate(address)
    heading = next(line for line in lines if "first (cpu)" in line)
    assert heading.split("  ")[-1].strip() == "all pools"
    rows = {re.split(r" {2,}", line)[0]: line for line in lines}
    assert {name.replace("_", " ") for name in names(tc.MemoryStatistics)} - {"upstream ns"} < rows.keys()
    assert rows["upstream time"].endswith(" ms")
    assert rows["requested"][: heading.index("first (cpu)") + len("first (cpu)")].endswith("2.00 MiB (peak 2.00 MiB)")
    assert len({len(line) for line in lines}) == 1
