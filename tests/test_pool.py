"""MemoryPool: options, blocks, refusals, memory held, and what happens to blocks and pools at the end."""

from __future__ import annotations

import ctypes
import gc
import weakref
from typing import Any

import numpy as np
import pytest

import tensorcore as tc
from tensorcore._machine import memory_limit

KIB, MIB = 1 << 10, 1 << 20


# ---- options --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "nbytes"),
    [
        (None, None),
        (12345678, 12345678),
        ("8GiB", 8 << 30),
        ("512MB", 512_000_000),
        (0.5, memory_limit() // 2),
        (1.0, memory_limit()),
    ],
)
def test_a_limit_is_bytes_a_string_or_a_fraction_of_the_memory_this_process_may_use(limit: Any, nbytes: int | None) -> None:
    """The limit reads back in bytes, None where there is none; setting it later means the same."""
    with tc.MemoryPool(limit=limit) as pool:
        assert pool.limit == nbytes
        pool.limit = 1 << 30
        pool.limit = limit
        assert pool.limit == nbytes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 0}, "None means no limit"),
        ({"limit": -1}, "at least 0 bytes, not -1"),
        ({"limit": 1.5}, "at most 1, not 1.5"),
        ({"limit": "many"}, "not 'many'"),
        ({"initial_capacity": -1}, "initial_capacity is at least 0 bytes"),
        ({"decay": -1}, "at least 0 seconds, or None"),
        ({"decay": float("nan")}, "at least 0 seconds, or None"),
        ({"huge_pages": "maybe"}, "not 'maybe'"),
        ({"numa": 1}, "numa is None"),
        ({"name": "x" * 64}, "1 to 63 bytes"),
        ({"name": ""}, "1 to 63 bytes"),
        ({"upstream": "disk"}, "not 'disk'"),
        ({"device": "CPU 0"}, "named like 'cpu' or 'cuda:1'"),
    ],
)
def test_an_option_out_of_range_is_refused_with_its_range(options: dict[str, Any], message: str) -> None:
    """The message names the value or what is allowed."""
    with pytest.raises(ValueError, match=message):
        tc.MemoryPool(**options)


@pytest.mark.parametrize(("given", "seconds"), [(10.0, 10.0), (0, 0.0), (None, None)])
def test_decay_reads_back_and_none_means_never(given: float | None, seconds: float | None) -> None:
    """In the constructor and set later."""
    with tc.MemoryPool(decay=given) as pool:
        assert pool.decay == seconds
        pool.decay = 3
        pool.decay = given
        assert pool.decay == seconds


@pytest.mark.parametrize("choice", ["auto", "on", "off", True, False])
def test_memory_works_with_every_choice_of_huge_pages(choice: Any) -> None:
    """The whole of a block of 4 MiB can be written."""
    with tc.MemoryPool(huge_pages=choice) as pool:
        tensor = tc.Tensor(4 * MIB, "u1", pool=pool)
        tensor.fill(7)
        assert tensor.numpy().sum() == 7 * 4 * MIB


def test_a_pool_without_a_name_gets_one_of_its_own() -> None:
    """Two such pools differ; a given name is kept."""
    with tc.MemoryPool() as first, tc.MemoryPool() as second, tc.MemoryPool(name="mine") as third:
        assert len({first.name, second.name, third.name}) == 3
        assert third.name == "mine"
        assert repr(third) == "<MemoryPool 'mine' on cpu>"


# ---- blocks ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nbytes", [0, 1, 64, 65, 1000, 80_000, 1 << 20, (64 << 20) + 1])
def test_a_block_is_aligned_to_64_bytes_and_all_of_it_is_usable(pool: tc.MemoryPool, nbytes: int) -> None:
    """The bytes that were asked for can be written and read back."""
    address = pool.allocate(nbytes)
    assert address % 64 == 0
    ctypes.memset(address, 0xA5, nbytes)
    assert ctypes.string_at(address, nbytes).count(0xA5) == nbytes
    pool.deallocate(address, nbytes)


@pytest.mark.parametrize("alignment", [1, 64, 4096, 2 << 20])
def test_a_larger_alignment_can_be_asked_for(pool: tc.MemoryPool, alignment: int) -> None:
    """Up to 2 MiB."""
    address = pool.allocate(100, alignment=alignment)
    assert address % alignment == 0
    pool.deallocate(address, 100)


@pytest.mark.parametrize("alignment", [3, -64, 4 << 20])
def test_an_alignment_that_is_no_power_of_two_up_to_2_mib_is_refused(pool: tc.MemoryPool, alignment: int) -> None:
    """The value is named."""
    with pytest.raises(ValueError, match=f"not {alignment}"):
        pool.allocate(100, alignment=alignment)


def test_zero_bytes_give_distinct_blocks(pool: tc.MemoryPool) -> None:
    """Each counts and each is deallocated."""
    first, second = pool.allocate(0), pool.allocate(0)
    assert first != second
    pool.deallocate(first, 0)
    pool.deallocate(second)
    assert pool.deallocation_count == 2


def test_a_size_may_be_any_integer_and_nothing_else(pool: tc.MemoryPool) -> None:
    """NumPy's integers too; a float, a negative number and one beyond the address space are refused."""
    pool.deallocate(pool.allocate(np.int64(100)), np.int64(100))
    with pytest.raises(TypeError):
        pool.allocate(1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not -1"):
        pool.allocate(-1)
    with pytest.raises(OverflowError):
        pool.allocate(1 << 80)


def test_a_stream_is_refused_where_the_device_has_none(pool: tc.MemoryPool) -> None:
    """Both calls take the argument for device pools; nothing is changed by the refusal."""
    with pytest.raises(ValueError, match="cpu has no streams"):
        pool.allocate(1, stream=0)
    address = pool.allocate(1)
    with pytest.raises(ValueError, match="cpu has no streams"):
        pool.deallocate(address, stream=0)
    pool.deallocate(address)


# ---- refused deallocations ------------------------------------------------------------------------------------------------------


def test_refused_deallocations_name_the_state_and_the_fix_and_change_nothing(pool: tc.MemoryPool) -> None:
    """Interior, wild, of another pool, wrong size, twice: each has its error, and the block is deallocated normally afterwards."""
    with tc.MemoryPool(name="other") as other:
        address = pool.allocate(1024)
        before = pool.statistics
        with pytest.raises(
            tc.InvalidFreeError, match=f"64 bytes inside a block of 1,024 B in use .* deallocate its start, 0x{address:x}"
        ):
            pool.deallocate(address + 64)
        with pytest.raises(tc.InvalidFreeError, match="no TensorCore pool handed out this address"):
            pool.deallocate(4096)
        with pytest.raises(tc.InvalidFreeError, match=f"it is a block of pool '{pool.name}'; deallocate it there"):
            other.deallocate(address)
        with pytest.raises(tc.SizeMismatchError, match="as 1000 bytes: it was allocated as 1024 bytes"):
            pool.deallocate(address, 1000)
        assert pool.statistics.requested == before.requested
        pool.deallocate(address, 1024)
        with pytest.raises(tc.DoubleFreeError, match="was deallocated before"):
            pool.deallocate(address)
        assert pool.statistics.requested.current == 0
        assert pool.statistics.refused_deallocations >= 4


def test_deallocating_address_0_does_nothing(pool: tc.MemoryPool) -> None:
    """As free(NULL) in C."""
    pool.deallocate(0)
    assert pool.deallocation_count == 0


# ---- memory held ----------------------------------------------------------------------------------------------------------------


def test_the_initial_capacity_is_reserved_and_reserve_counts_in_total() -> None:
    """16 MiB at first, then 32 MiB in total: not 48."""
    with tc.MemoryPool("16MiB") as pool:
        assert pool.total_capacity == 16 * MIB
        pool.reserve(32 * MIB)
        assert pool.total_capacity == 32 * MIB
        pool.reserve("8MiB")
        assert pool.total_capacity == 32 * MIB


def test_blocks_of_the_preallocated_sizes_need_no_upstream() -> None:
    """64 B, 128 B ... 64 KiB come out of the initial capacity."""
    with tc.MemoryPool("16MiB") as pool:
        calls = pool.statistics.upstream_calls
        blocks = [pool.allocate(64 << i) for i in range(11)]
        assert pool.statistics.upstream_calls == calls
        for address in blocks:
            pool.deallocate(address)


def test_trim_gives_back_what_is_cached_and_keeps_what_is_asked_for(pool: tc.MemoryPool) -> None:
    """It returns the bytes that went; after trim() of an empty pool nothing is held."""
    pool.reserve("32MiB")
    assert pool.trim(keep="64MiB") == 0
    assert pool.trim() == 32 * MIB
    assert pool.total_capacity == 0


def test_all_current_figures_are_0_after_everything_is_freed_and_trimmed(pool: tc.MemoryPool) -> None:
    """Across size classes, and on the way the amounts order as they must."""
    blocks = [(pool.allocate(n), n) for n in (0, 1, 64, 4096, 80_000, 1 << 20, 5 << 20) for _ in range(20)]
    statistics = pool.statistics
    assert 0 < statistics.requested.current <= statistics.allocated.current <= statistics.reserved.current
    assert statistics.cached.current + statistics.pending.current == statistics.reserved.current - statistics.allocated.current
    for address, nbytes in blocks:
        pool.deallocate(address, nbytes)
    pool.trim()
    after = pool.statistics
    assert [getattr(after, name).current for name in ("requested", "allocated", "reserved", "cached", "pending")] == [0] * 5
    assert after.allocation_count == after.deallocation_count == len(blocks)


def test_the_five_figures_of_a_pool_are_properties() -> None:
    """Total allocated, total capacity, utilization ratio and the two counts agree with the statistics."""
    pool = tc.MemoryPool(mode="fast")  # the others pad the request
    assert pool.utilization_ratio == 0
    pool.reserve("1MiB")
    address = pool.allocate(64 * KIB)
    assert (pool.total_allocated, pool.allocation_count, pool.deallocation_count) == (64 * KIB, 1, 0)
    assert pool.total_capacity >= MIB
    assert pool.utilization_ratio == pool.total_allocated / pool.total_capacity
    pool.deallocate(address)
    assert (pool.total_allocated, pool.allocation_count, pool.deallocation_count) == (0, 1, 1)


def test_a_reset_peak_is_the_current_value(pool: tc.MemoryPool) -> None:
    """The peak stays after a deallocation, until it is reset."""
    pool.deallocate(pool.allocate(MIB))
    assert pool.statistics.requested.peak == MIB
    pool.reset_peak()
    assert pool.statistics.requested.peak == pool.statistics.requested.current == 0


def test_a_size_that_is_asked_for_often_gets_a_class_of_its_own(pool: tc.MemoryPool) -> None:
    """80,000-byte blocks cost 81,920 bytes at first; internal fragmentation falls from 2.3 % to below 0.2 %."""
    first = [pool.allocate(80_000) for _ in range(10)]
    before = pool.statistics.internal_fragmentation
    for address in first + [pool.allocate(80_000) for _ in range(1000)]:
        pool.deallocate(address)
    pool.trim()  # blocks of the old class are used up first
    blocks = [pool.allocate(80_000) for _ in range(100)]
    assert before == pytest.approx(1 - 80_000 / 81_920)
    assert pool.statistics.internal_fragmentation < 0.002
    assert any(size_class.learned for size_class in pool.size_classes)
    for address in blocks:
        pool.deallocate(address)


# ---- the end --------------------------------------------------------------------------------------------------------------------


def test_a_closed_pool_refuses_and_its_living_blocks_stay_valid() -> None:
    """They can be used, and deallocated with the same checks."""
    pool = tc.MemoryPool()
    address, tensor = pool.allocate(1000), tc.Tensor(1000, pool=pool)
    pool.close()
    pool.close()
    assert pool.closed
    tensor.fill(3)
    assert tensor.numpy().sum() == 3000
    for refused in (lambda: pool.allocate(1), lambda: tc.Tensor(1, pool=pool), lambda: pool.reserve(1), lambda: pool.statistics):
        with pytest.raises(tc.PoolClosedError, match="was closed"):
            refused()
    with pytest.raises(tc.InvalidFreeError):
        pool.deallocate(4096)
    with pytest.raises(tc.SizeMismatchError):
        pool.deallocate(address, 999)
    pool.deallocate(address, 1000)


def test_a_with_block_closes_the_pool() -> None:
    """The pool is usable inside and closed after."""
    with tc.MemoryPool() as pool:
        assert not pool.closed
    assert pool.closed


def test_a_dropped_pool_is_destroyed_and_its_tensors_keep_it() -> None:
    """A tensor holds its pool; an address does not."""
    pool = tc.MemoryPool(name="dropped")
    alive = weakref.ref(pool)
    tensor = tc.Tensor(10, pool=pool)
    del pool
    gc.collect()
    found = alive()
    assert found is tensor.pool
    del tensor, found
    gc.collect()
    assert alive() is None
    assert "dropped" not in [entry.name for entry in tc.statistics().pools]


def test_an_array_outlives_the_pool_object() -> None:
    """The block stays valid after the pool was dropped, and goes back with the array."""
    upstream = tc.FakeUpstream("os")
    array = tc.Tensor(100_000, pool=tc.MemoryPool(upstream=upstream)).numpy()
    gc.collect()
    array[:] = 5
    assert array.sum() == 500_000
    assert upstream.counts.live_bytes > 0
    del array
    assert upstream.counts.live_bytes == 0
    assert upstream.counts.errors == 0


def test_the_global_pool_is_one_object_until_it_is_replaced() -> None:
    """Replacing returns the old one; a closed pool can't be global; a global pool that is closed is made anew."""
    old = tc.get_global_memory_pool()
    assert tc.get_global_memory_pool("cpu") is tc.get_global_memory_pool(tc.device("cpu")) is old
    mine = tc.MemoryPool(name="mine")
    try:
        assert tc.set_global_memory_pool(mine) is old
        assert tc.Tensor(10).pool is mine
        assert tc.PooledAllocation(10).pool is mine
        mine.close()
        assert tc.get_global_memory_pool() not in (mine, old)
        with pytest.raises(ValueError, match="can't be the global pool"):
            tc.set_global_memory_pool(mine)
    finally:
        tc.set_global_memory_pool(old)
    assert tc.Tensor(10).pool is old
