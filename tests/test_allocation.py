"""PooledAllocation: released by the with-block or when dropped, kept by its arrays."""

from __future__ import annotations

import gc

import numpy as np
import pytest

import tensorcore as tc


def test_a_with_block_releases_the_allocation(pool: tc.MemoryPool) -> None:
    """Inside it has an aligned address; after it the block is back in the pool."""
    with tc.PooledAllocation(1 << 20, pool=pool) as block:
        assert block.ptr % 64 == 0
        assert (block.nbytes, block.pool, block.released) == (1 << 20, pool, False)
        assert pool.statistics.requested.current == 1 << 20
    assert block.released
    assert pool.statistics.requested.current == 0


def test_dropping_the_object_releases_it_at_once(pool: tc.MemoryPool) -> None:
    """No garbage collection is needed."""
    gc.disable()
    try:
        block = tc.PooledAllocation(1000, pool=pool)
        assert pool.allocation_count == 1
        del block
        assert pool.deallocation_count == 1
    finally:
        gc.enable()


def test_an_exception_in_the_with_block_releases_it_too(pool: tc.MemoryPool) -> None:
    """The exception goes on."""
    with pytest.raises(LookupError), tc.PooledAllocation(1000, pool=pool):
        raise LookupError
    assert pool.deallocation_count == 1


def test_arrays_keep_the_block_past_the_with_block(pool: tc.MemoryPool) -> None:
    """Several views, of different types and parts: the block goes back with the last of them."""
    with tc.PooledAllocation(8000, pool=pool) as block:
        doubles = block.array("float64", (10, 100))
        part = block.array("uint8", 8000)[4000:]
        address = block.ptr
    doubles[:] = 1.0
    assert doubles.ctypes.data == address
    del doubles
    assert pool.deallocation_count == 0
    assert part.view("float64").sum() == 500
    del part
    assert pool.deallocation_count == 1


def test_without_a_shape_as_many_elements_as_fit_are_made(pool: tc.MemoryPool) -> None:
    """One dimension; bytes where no dtype is named either."""
    block = tc.PooledAllocation(100, pool=pool)
    assert block.array("float64").shape == (12,)
    assert block.array().shape == (100,)
    assert block.array().dtype == np.uint8


def test_an_array_that_does_not_fit_is_refused(pool: tc.MemoryPool) -> None:
    """The shape and the size of the block are named; Python objects are refused."""
    block = tc.PooledAllocation(100, pool=pool)
    with pytest.raises(ValueError, match=r"shape \(13,\) and dtype float64 does not fit into 100 bytes"):
        block.array("float64", (13,))
    with pytest.raises(TypeError, match="not the Python objects"):
        block.array(object, (1,))


def test_a_released_allocation_has_no_address_and_no_arrays(pool: tc.MemoryPool) -> None:
    """The error says so; releasing again does nothing."""
    block = tc.PooledAllocation(100, pool=pool)
    block.release()
    block.release()
    with pytest.raises(tc.ReleasedError, match="allocation of 100 bytes was released"):
        _ = block.ptr
    with pytest.raises(tc.ReleasedError):
        block.array()
    assert repr(block) == f"<PooledAllocation of 100 bytes from pool '{pool.name}', released>"
    assert pool.deallocation_count == 1


def test_zero_bytes_are_an_allocation_too(pool: tc.MemoryPool) -> None:
    """It has an address, an empty array, and is counted."""
    with tc.PooledAllocation(0, pool=pool) as block:
        assert block.ptr % 64 == 0
        assert block.array().shape == (0,)
        assert pool.allocation_count == 1
    assert pool.deallocation_count == 1


def test_the_global_pool_is_the_default() -> None:
    """By the device's name or the device itself."""
    pool = tc.get_global_memory_pool()
    assert tc.PooledAllocation(10).pool is tc.PooledAllocation(10, device=tc.device("cpu")).pool is pool
    with pytest.raises(tc.DeviceUnavailableError, match="known here: cpu, cuda, pinned"):
        tc.PooledAllocation(10, device="tpu")


@pytest.mark.parametrize(("nbytes", "error"), [(-1, ValueError), (1.5, TypeError), ("1MiB", TypeError)])
def test_a_size_that_is_no_natural_number_is_refused(pool: tc.MemoryPool, nbytes: int, error: type[Exception]) -> None:
    """Nothing is allocated."""
    with pytest.raises(error):
        tc.PooledAllocation(nbytes, pool=pool)
    assert pool.total_allocated == 0
