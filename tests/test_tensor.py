"""Tensor: shape and type, storage from the pool, views that keep it, and the ways into NumPy."""

from __future__ import annotations

import contextlib
import copy
import ctypes
import functools
import gc
import inspect
import pickle
import sys
import threading
import tracemalloc
import weakref
from typing import Any

import numpy as np
import pytest

import tensorcore as tc

# ---- making ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype", ["bool", "i1", "u2", "f2", "f4", "f8", "g", "c8", "c16", "S5", "U3", "M8[s]", ">i4", "V12", "i4,f8"]
)
@pytest.mark.parametrize("shape", [(), (0,), (5,), (3, 4), (2, 0, 3), (1, 1, 7), 6, [2, 3]])
def test_a_tensor_has_the_layout_of_the_same_numpy_array(pool: tc.MemoryPool, shape: Any, dtype: str) -> None:
    """Shape, strides, type and sizes; its storage is one block of the pool, aligned to 64 bytes."""
    tensor, model = tc.Tensor(shape, dtype, pool=pool), np.empty(shape, dtype)
    assert tensor.strides == model.strides or model.size == 0  # NumPy's empty arrays have strides of 0
    for name in ("shape", "dtype", "ndim", "size", "itemsize", "nbytes"):
        assert getattr(tensor, name) == getattr(model, name)
    assert tensor.ptr % 64 == 0
    assert (tensor.pool, str(tensor.device)) == (pool, "cpu")
    assert pool.statistics.requested.current == model.nbytes
    assert pool.allocation_count == 1


@pytest.mark.parametrize("through_pool", [False, True], ids=["the short way in C", "the full way"])
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (((-1,),), ValueError, "negative dimensions"),
        (((1 << 40, 1 << 40),), ValueError, "too big|too large"),
        (((1,) * 65,), ValueError, "64"),
        ((1.5,), TypeError, "."),
        (((1.5,),), TypeError, "."),
        ((3, "no such type"), TypeError, "no such type"),
        ((3, object), TypeError, "not the Python objects"),
        ((3, [("a", object)]), TypeError, "not the Python objects"),
        ((), TypeError, "."),
    ],
)
def test_a_shape_or_type_that_can_not_be_is_refused(
    pool: tc.MemoryPool, arguments: Any, error: type[Exception], message: str, through_pool: bool
) -> None:
    """With the builtin error that NumPy raises, and nothing stays allocated."""
    options: Any = {"pool": pool} if through_pool else {}
    gc.collect()  # what other tests left
    before = tc.get_global_memory_pool().total_allocated
    with pytest.raises(error, match=message):
        tc.Tensor(*arguments, **options)
    gc.collect()
    assert pool.total_allocated == 0
    assert tc.get_global_memory_pool().total_allocated == before


def test_the_constructor_shows_its_parameters() -> None:
    """Though it is written in C: help() and editors see the names of the contract."""
    parameters = inspect.signature(tc.Tensor).parameters
    assert list(parameters) == ["shape", "dtype", "device", "pool"]
    assert parameters["dtype"].default == "float64"


@pytest.mark.parametrize("sizes", [2, [2, 3], [2], [], (), [0, 3]], ids=str)
@pytest.mark.parametrize(
    "convert", [lambda sizes: np.array(sizes, int), lambda sizes: tc.asarray(sizes, int)], ids=["array", "tensor"]
)
def test_a_shape_is_an_array_or_tensor_of_integers_too(pool: tc.MemoryPool, sizes: Any, convert: Any) -> None:
    """Wherever NumPy takes one: where tensors are made, on the host and on a device, and where they change their shape."""
    shape, wanted = convert(sizes), np.empty(sizes).shape
    for make in (tc.Tensor, tc.empty, tc.zeros, tc.ones, np.zeros):
        assert make(shape).shape == wanted
    assert tc.Tensor(shape, pool=pool).shape == tc.full(shape, 1.5, pool=pool).shape == wanted
    tensor = tc.zeros(wanted)
    assert tensor.reshape(-1).reshape(shape).shape == tc.reshape(tensor, shape).shape == wanted
    assert tc.broadcast_to(tc.asarray(1.0), shape).shape == np.broadcast_to(tc.asarray(1.0), shape).shape == wanted
    fake = tc.MemoryPool(device="cuda:0", upstream="fake")
    assert tc.Tensor(shape, pool=fake).shape == tc.Tensor(wanted, pool=fake).reshape(shape).shape == wanted
    assert tc.zeros(shape, pool=fake).shape == wanted


def test_an_array_that_is_no_shape_is_refused() -> None:
    """Of floating-point numbers, of truth values, of two dimensions."""
    for wrong in ([2.0], 2.0, [True], [[2]]):
        for shape in (np.array(wrong), tc.asarray(wrong)):
            with pytest.raises(TypeError, match="integer"):
                tc.Tensor(shape)


def test_device_and_pool_have_to_agree(pool: tc.MemoryPool) -> None:
    """A device that is not there is refused with the reason; a pool alone decides its device."""
    assert tc.Tensor(3, device="cpu", pool=pool).pool is pool
    with pytest.raises(tc.DeviceUnavailableError, match="no device kind 'tpu'"):
        tc.Tensor(3, device="tpu")
    with pytest.raises(tc.DeviceMismatchError, match=r"device cuda was asked for, but .* has memory on cpu: leave one of them out"):
        tc.Tensor(3, device="cuda", pool=pool)
    with pytest.raises(tc.DeviceUnavailableError):
        tc.Tensor(3, pool=pool).to("tpu")


def test_a_thousand_tensors_go_back_to_the_pool() -> None:
    """The global pool has as many live blocks after as before."""
    pool = tc.get_global_memory_pool()
    before = pool.statistics
    tensors = [tc.Tensor((100, 100)) for _ in range(1000)]
    assert pool.statistics.requested.current - before.requested.current == 1000 * 80_000
    assert len({tensor.ptr for tensor in tensors}) == 1000
    del tensors
    assert pool.statistics.requested.current == before.requested.current


def test_tensors_are_made_and_dropped_in_several_threads() -> None:
    """Each keeps its own content, also when another thread drops it."""
    kept: list[tc.Tensor] = []

    def work(value: int) -> None:
        for _ in range(300):
            tensor = tc.Tensor((50, 50))
            tensor.fill(value)
            assert (tensor.numpy() == value).all()
        kept.append(tensor)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(float(tensor[0, 0]) for tensor in kept) == [0, 1, 2, 3]
    kept.clear()
    tc.get_global_memory_pool().check()


def test_a_subclass_is_made_by_the_same_calls() -> None:
    """Both ways of construction, and views, give the subclass."""

    class Field(tc.Tensor):
        pass

    field = Field((2, 3))
    assert type(field) is type(Field((2, 3), device="cpu")) is type(field[0]) is type(field.copy()) is Field


def test_no_constructor_keeps_a_reference_that_it_should_not(pool: tc.MemoryPool) -> None:
    """Made or refused, in C or in Python: the type, the pool and the global pool have as many references after as before."""
    plain, objects, default = np.dtype("i4,f8"), np.dtype([("a", object)]), tc.get_global_memory_pool()
    calls: list[tuple[Any, Any, Any]] = [((3,), plain, None), ((3,), plain, pool), ((3,), objects, None), ((3,), objects, pool)]
    calls += [((-1,), plain, None), ((1.5,), plain, None), ((1 << 50,), plain, pool)]

    def references() -> list[int]:
        for shape, dtype, where in calls:
            with contextlib.suppress(TypeError, ValueError, tc.OutOfMemoryError):
                tc.Tensor(shape, dtype) if where is None else tc.Tensor(shape, dtype, pool=where)
        gc.collect()
        return [sys.getrefcount(held) for held in (plain, objects, pool, default)]

    references()
    assert references() == references()


def test_flags_tell_the_order_and_protect_the_memory(grid: tc.Tensor) -> None:
    """On a device too, where CuPy's arrays have no word for read-only memory."""
    fake = tc.Tensor((3, 4), pool=tc.MemoryPool(device="cuda:0", upstream="fake"))
    for tensor in (grid, fake):
        turned: Any = tensor.T  # NumPy types the function for arrays alone
        assert (np.isfortran(turned), np.isfortran(turned.T), turned.flags.f_contiguous) == (True, False, True)
        view = tensor[1:]
        view.flags.writeable = False
        with pytest.raises(ValueError, match="read-only"):
            view.fill(1)
        tensor.fill(1)


# ---- views and copies -----------------------------------------------------------------------------------------------------------


def test_transposed_and_reshaped_tensors_share_the_storage(pool: tc.MemoryPool, grid: tc.Tensor) -> None:
    """A reshape that strides can't express is a copy in the same pool."""
    assert grid.T.shape == grid.transpose().shape == grid.transpose(1, 0).shape == (4, 3)
    assert grid.T.strides == (8, 32)
    assert grid.reshape(2, 6).ptr == grid.reshape((12,)).ptr == grid.reshape(-1).ptr == grid.ptr
    assert pool.allocation_count == 1
    flat = grid.T.reshape(12)
    assert flat.tolist() == grid.numpy().T.reshape(12).tolist()
    assert pool.allocation_count == 2


def test_a_view_keeps_the_storage_and_the_last_one_gives_it_back(pool: tc.MemoryPool) -> None:
    """Tensor views, NumPy arrays and memoryviews alike."""
    tensor = tc.Tensor((100, 100), pool=pool)
    keepers: list[Any] = [tensor[3:5], tensor.T, tensor.numpy(), np.asarray(tensor), memoryview(tensor)]
    tensor.fill(1)
    del tensor
    while keepers:
        assert pool.deallocation_count == 0
        assert np.asarray(keepers[-1]).ravel()[0] == 1
        keepers.pop()
    assert pool.deallocation_count == 1


@pytest.mark.parametrize("duplicate", [tc.Tensor.copy, copy.copy, copy.deepcopy], ids=["copy()", "copy.copy", "copy.deepcopy"])
def test_a_copy_has_storage_of_its_own_in_the_same_pool(grid: tc.Tensor, duplicate: Any) -> None:
    """In C order, also of a view."""
    copied = duplicate(grid.T)
    assert copied.tolist() == grid.numpy().T.tolist()
    assert copied.strides == (24, 8)
    assert copied.pool is grid.pool
    copied.fill(0)
    assert grid[2, 3].item() == 11


def test_pickling_keeps_type_shape_and_elements(grid: tc.Tensor) -> None:
    """The new tensor lies in the global pool, since the old pool may not exist where it is read."""
    again = pickle.loads(pickle.dumps(grid[1:]))
    assert type(again) is tc.Tensor
    assert (again.tolist(), again.dtype, again.pool) == (grid[1:].tolist(), grid.dtype, tc.get_global_memory_pool())


def test_to_the_device_where_it_is_returns_the_tensor_itself(grid: tc.Tensor) -> None:
    """By name or device."""
    assert grid.to("cpu") is grid.to(tc.device("cpu")) is grid


def test_a_tensor_can_be_referred_to_weakly(pool: tc.MemoryPool) -> None:
    """For caches that must not keep it."""
    tensor = tc.Tensor(3, pool=pool)
    reference = weakref.ref(tensor)
    assert reference() is tensor
    del tensor
    assert reference() is None


def test_a_cycle_through_the_pool_is_collected() -> None:
    """A callback of the pool that holds a tensor of the pool."""
    pool = tc.MemoryPool()
    tensor = tc.Tensor(3, pool=pool)
    pool.on_out_of_memory(functools.partial(print, tensor))
    alive = weakref.ref(tensor)
    del pool, tensor
    gc.collect()
    assert alive() is None


# ---- in NumPy -------------------------------------------------------------------------------------------------------------------


def test_numpy_gives_an_array_over_the_same_memory(grid: tc.Tensor) -> None:
    """Writable, and an object of its own, so that nothing done to it changes the tensor's shape."""
    array = grid.numpy()
    assert array.ctypes.data == grid.ptr
    array[0, 0] = 100
    assert grid[0, 0].item() == 100
    assert array is not grid.numpy()


def test_numpy_functions_take_tensors(grid: tc.Tensor) -> None:
    """Through the buffer protocol or __array__, without a copy where none is asked for."""
    assert np.sum(grid) == 66
    assert np.shares_memory(np.asarray(grid), grid.numpy())
    assert not np.shares_memory(np.array(grid), grid.numpy())
    np.add(grid.numpy(), 1, out=grid.numpy())
    assert grid.tolist()[0] == [1, 2, 3, 4]


def test_array_conversion_follows_dtype_and_copy(grid: tc.Tensor) -> None:
    """copy=False refuses where a conversion is needed."""
    assert grid.__array__(np.dtype("f4")).dtype == np.float32
    assert not np.shares_memory(grid.__array__(copy=True), grid.numpy())
    assert np.shares_memory(grid.__array__(copy=False), grid.numpy())
    with pytest.raises(ValueError, match="copy"):
        grid.__array__(np.dtype("f4"), copy=False)


@pytest.mark.parametrize("dtype", ["M8[s]", "f2", "i4,f8"])
def test_types_without_a_buffer_format_convert_too(pool: tc.MemoryPool, dtype: str) -> None:
    """Dates have no buffer format: __array__ serves them."""
    tensor = tc.Tensor(4, dtype, pool=pool)
    assert np.asarray(tensor).dtype == np.dtype(dtype)
    assert np.shares_memory(np.asarray(tensor), tensor.numpy())


def test_the_buffer_shows_shape_strides_and_format(grid: tc.Tensor) -> None:
    """On every Python version: memoryview, ctypes and bytes see the memory itself."""
    view = memoryview(grid.T)
    assert (view.shape, view.strides, view.format, view.readonly) == ((4, 3), (8, 32), "d", False)
    assert bytes(memoryview(grid)) == grid.numpy().tobytes()
    numbers = (ctypes.c_double * 12).from_buffer(grid)
    numbers[0] = 42
    assert grid[0, 0].item() == 42
    with pytest.raises(TypeError, match="not C contiguous"):
        (ctypes.c_double * 12).from_buffer(grid.T)


def test_tracemalloc_sees_the_storage() -> None:
    """In NumPy's domain, and no longer once it is freed."""
    domain = tracemalloc.DomainFilter(inclusive=True, domain=np.lib.tracemalloc_domain)
    tracemalloc.start()
    try:
        tensor = tc.Tensor(100_000, "u1")
        held = tracemalloc.take_snapshot().filter_traces([domain])
        del tensor
        freed = tracemalloc.take_snapshot().filter_traces([domain])
    finally:
        tracemalloc.stop()
    assert 100_000 in [trace.size for trace in held.traces]
    assert 100_000 not in [trace.size for trace in freed.traces]
