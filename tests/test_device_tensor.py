"""Tensors on devices: layout and views on the fake device, data over a double of CuPy's runtime, and nothing copied unasked."""

from __future__ import annotations

import copy
import gc
import operator
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from runtime_double import RuntimeDouble, StreamDouble

import tensorcore as tc
from tensorcore import _cuda, _cupy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


set_item: Any = operator.setitem


@pytest.fixture
def device() -> Iterator[tc.FakeDeviceUpstream]:
    """A fake GPU 0 behind the global pools of cuda:0 and pinned; the tests leave no block in it."""
    upstream = tc.FakeDeviceUpstream()
    pools = [
        tc.MemoryPool(device="cuda:0", upstream=upstream, name="device"),
        tc.MemoryPool(device="pinned", upstream="fake", name="staging"),
    ]
    for pool in pools:
        assert tc.set_global_memory_pool(pool) is None
    yield upstream
    gc.collect()
    left = [pool.total_allocated for pool in pools]
    for pool in pools:
        pool.check()
        pool.close()
    assert left == [0, 0]
    assert (upstream.counts.errors, upstream.counts.early) == (0, 0)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[RuntimeDouble]:
    """A machine with two GPUs whose work is done late; the global pools are made at first use."""
    runtime, default = RuntimeDouble(), StreamDouble(0)
    monkeypatch.setattr(_cupy, "runtime", lambda: runtime)
    monkeypatch.setattr(_cupy, "current_stream", lambda index: lambda: default)  # noqa: ARG005 - the same on each device
    _cuda._find_upstream.cache_clear()
    yield runtime
    gc.collect()
    runtime.run()
    pools = [tc.get_global_memory_pool(name) for name in ("cuda:0", "cuda:1", "pinned", "pinned:1")]
    left = [pool.total_allocated for pool in pools]
    for pool in pools:
        pool.check()
        pool.close()
    assert left == [0] * 4
    assert (runtime.memory, runtime.events) == ({}, {})
    _cuda._find_upstream.cache_clear()


# ---- layout ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("dtype", ["bool", "i1", "f2", "f8", "c16", "S5", "M8[s]", ">i4", "i4,f8"])
@pytest.mark.parametrize("shape", [(), (0,), (5,), (3, 4), (2, 0, 3), (1, 1, 7, 2), 6, [2, 3], (np.int64(2), 3)])
def test_a_tensor_on_a_device_has_the_layout_of_the_same_numpy_array(shape: Any, dtype: str) -> None:
    """And its storage is one block of the device's pool."""
    pool = tc.get_global_memory_pool("cuda")
    before = pool.allocation_count
    tensor, model = tc.Tensor(shape, dtype, device="cuda"), np.empty(shape, dtype)
    for name in ("shape", "dtype", "ndim", "size", "itemsize", "nbytes"):
        assert getattr(tensor, name) == getattr(model, name)
    assert tensor.strides == model.strides or model.size == 0
    assert tensor.ptr % 512 == 0
    assert (tensor.pool, str(tensor.device), pool.allocation_count - before) == (pool, "cuda:0", 1)
    assert pool.statistics.requested.current == model.nbytes


VIEWS: list[Callable[[Any], Any]] = [
    operator.itemgetter(1),
    operator.itemgetter((1, 2)),
    operator.itemgetter((slice(None), np.int64(1))),
    operator.itemgetter(slice(None, None, -2)),
    operator.itemgetter((slice(1, 3), slice(4, None, 2))),
    operator.itemgetter((..., None, 3)),
    operator.itemgetter((..., slice(0, 0))),
    operator.itemgetter(...),
    operator.attrgetter("T"),
    lambda x: x.transpose(1, 2, 0),
    lambda x: x.reshape(-1),
    lambda x: x.reshape(6, 20),
    lambda x: x.reshape((2, 3, -1)),
    lambda x: x[:, 1:3].reshape(2, 2, 2, 5),
    lambda x: x.T[::2].T,
]


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("view", VIEWS)
def test_views_have_numpy_s_layout_and_keep_the_storage(view: Callable[[Any], Any]) -> None:
    """Of slices, integers, None, transposition and reshape; no element is read, for there are none."""
    model = np.zeros((4, 6, 5), "f4")
    pool = tc.get_global_memory_pool("cuda")
    tensor = tc.Tensor(model.shape, "f4", device="cuda")
    start = tensor.ptr
    got, expected = view(tensor), np.asarray(view(model))
    assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
    if expected.size:
        assert got.strides == expected.strides
        assert got.ptr - start == expected.__array_interface__["data"][0] - model.__array_interface__["data"][0]
    del tensor
    assert pool.total_allocated >= model.nbytes
    assert pool.allocation_count - pool.deallocation_count == 1


@pytest.mark.usefixtures("device")
def test_a_key_or_shape_that_can_not_be_is_refused() -> None:
    """With NumPy's errors, and nothing stays allocated."""
    tensor = tc.Tensor((3, 4), device="cuda")
    make: Any = tc.Tensor
    refusals: list[tuple[Callable[[], object], type[Exception]]] = [
        (lambda: tensor[3], IndexError),
        (lambda: tensor[0, 0, 0], IndexError),
        (lambda: tensor[..., ...], IndexError),
        (lambda: tensor.reshape(5), ValueError),
        (lambda: tensor.reshape(-1, 5), ValueError),
        (lambda: make((-1,), device="cuda"), ValueError),
        (lambda: make((1 << 40, 1 << 40), device="cuda"), ValueError),
        (lambda: make((1,) * 65, device="cuda"), ValueError),
        (lambda: make(1.5, device="cuda"), TypeError),
        (lambda: make(3, object, device="cuda"), TypeError),
        (lambda: make(3, [("a", object)], device="cuda"), TypeError),
    ]
    for wrong, error in refusals:
        with pytest.raises(error):
            wrong()


@pytest.mark.usefixtures("device")
def test_what_a_fake_device_does_not_hold_is_not_made_up() -> None:
    """Every way to read elements says that there are none; the tensor still prints."""
    tensor = tc.Tensor((3, 4), device="cuda")
    for read in (
        tensor.cpu,
        tensor.tolist,
        tensor[0, 0].item,
        lambda: float(tensor[0, 0]),
        lambda: bool(tensor[0, 0]),
        lambda: tensor[[0, 1]],
        lambda: tensor[tc.Tensor(3, "bool", device="cuda")],
        lambda: pickle.dumps(tensor),
    ):
        with pytest.raises(tc.DeviceUnavailableError, match="a fake device holds no data"):
            read()
    assert repr(tensor) == "Tensor(shape=(3, 4), dtype=float64, device='cuda:0')"
    assert len(tensor) == len(list(tensor)) == 3


WRITES: list[Callable[[tc.Tensor], object]] = [
    lambda tensor: tensor.fill(2),
    lambda tensor: set_item(tensor, slice(5), 1.0),
    lambda tensor: set_item(tensor, ..., tensor.copy()),
    lambda tensor: set_item(tensor, slice(None, None, -1), tensor.copy()),
]


@pytest.mark.parametrize("write", WRITES, ids=["fill", "a number", "an array", "an array backwards"])
def test_what_is_written_is_work_on_the_current_stream(write: Callable[[tc.Tensor], object]) -> None:
    """So the block is in use until the clock has run; zeros write too."""
    device = tc.FakeDeviceUpstream()
    with tc.MemoryPool(device="cuda:0", upstream=device) as pool, device.using_stream(3):
        tensor = tc.zeros((1000,), pool=pool)
        assert device.claim(4, tensor.ptr, tensor.nbytes)
        device.advance(1)
        write(tensor)
        assert device.claim(5, tensor.ptr, tensor.nbytes)
        device.advance(1)
        del tensor
    assert device.counts.errors == 0


# ---- devices that do not mix ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("device")
def test_nothing_is_copied_between_devices_unasked() -> None:
    """Every mix raises and names the way to do it."""
    here, there = tc.Tensor((3, 4)), tc.Tensor((3, 4), device="cuda")
    here.fill(7)
    for mix in (
        lambda: set_item(here, ..., there),
        lambda: set_item(here, 0, there[0]),
        lambda: set_item(there, ..., here),
        lambda: set_item(there, 0, np.zeros(4)),
        lambda: set_item(there, 0, [1.0, 2, 3, 4]),
        lambda: there.fill(here),
        lambda: there.numpy(),
        lambda: np.asarray(there),
        lambda: np.add(here, there),
        lambda: here.cupy(),
        lambda: here[there],
        lambda: tc.Tensor(3, device="cuda", pool=tc.get_global_memory_pool()),
        lambda: tc.zeros(3, device="cpu", pool=tc.get_global_memory_pool("cuda")),
        lambda: here.record_stream(3),
    ):
        with pytest.raises(tc.DeviceMismatchError):
            mix()
    with pytest.raises(BufferError, match="copy it with cpu"):
        memoryview(there)
    assert (here.numpy() == 7).all()


@pytest.mark.usefixtures("device")
def test_an_index_on_the_host_does_not_select_on_a_device() -> None:
    """Nor the other way round."""
    there = tc.Tensor((3, 4), device="cuda")
    with pytest.raises((tc.DeviceMismatchError, tc.DeviceUnavailableError)):
        there[np.array([0, 1])]


# ---- making ---------------------------------------------------------------------------------------------------------------------


def test_tensors_are_made_by_name_on_the_cpu(pool: tc.MemoryPool) -> None:
    """As by NumPy's functions, in a block of the pool."""
    made = {
        "zeros": (tc.zeros((2, 3), "i2", pool=pool), np.zeros((2, 3), "i2")),
        "ones": (tc.ones(4, pool=pool), np.ones(4)),
        "full": (tc.full((2,), 7, pool=pool), np.full((2,), 7)),
        "full of a type": (tc.full((2,), 7, "f4", pool=pool), np.full((2,), 7, "f4")),
        "arange": (tc.arange(5, pool=pool), np.arange(5)),
        "arange with a start": (tc.arange(2, 5, pool=pool), np.arange(2, 5)),
        "arange with a step": (tc.arange(5, step=2, dtype="f8", pool=pool), np.arange(0, 5, 2, dtype="f8")),
        "arange downwards": (tc.arange(5, 0, -1.5, pool=pool), np.arange(5, 0, -1.5)),
        "asarray of a list": (tc.asarray([[1, 2], [3, 4]], pool=pool), np.asarray([[1, 2], [3, 4]])),
        "asarray of a number": (tc.asarray(2.5, pool=pool), np.asarray(2.5)),
    }
    for name, (tensor, expected) in made.items():
        assert tensor.pool is pool, name
        np.testing.assert_array_equal(tensor.numpy(), expected, strict=True)
    assert tc.empty((2, 3), "f4", pool=pool).shape == (2, 3)


def test_asarray_copies_only_where_it_must() -> None:
    """copy=False refuses, copy=True takes a block, None shares the array's memory."""
    array = np.arange(6.0)
    shared = tc.asarray(array)
    shared[0] = 9
    assert (array[0], shared.pool, str(shared.device)) == (9, None, "cpu")
    assert tc.asarray(shared) is shared
    assert tc.asarray(array, copy=False).ptr == array.ctypes.data
    copied = tc.asarray(array, copy=True)
    assert copied.ptr != array.ctypes.data
    assert copied.pool is tc.get_global_memory_pool()
    converted = tc.asarray(array, "f4")
    assert (converted.dtype, converted.tolist()) == (np.dtype("f4"), array.tolist())
    mine = tc.MemoryPool()
    assert tc.asarray(array, pool=mine).pool is mine
    assert tc.asarray(tc.asarray(array, pool=mine), pool=mine).pool is mine
    refusals: list[Callable[[], object]] = [
        lambda: tc.asarray(array, "f4", copy=False),
        lambda: tc.asarray([1, 2], copy=False),
        lambda: tc.asarray(array, pool=mine, copy=False),
    ]
    for refused in refusals:
        with pytest.raises(ValueError, match="copy=False forbids"):
            refused()


@pytest.mark.parametrize("array", [[1, 2], np.array([1, None]), np.array([object()])])
def test_from_numpy_takes_arrays_of_plain_data_only(array: Any) -> None:
    """With asarray named for the rest."""
    with pytest.raises(TypeError, match=r"from_numpy takes|Python objects"):
        tc.Tensor.from_numpy(array)


def test_a_tensor_over_an_array_keeps_it_and_its_rules() -> None:
    """Strides, read-only memory; views and copies of it work."""
    array = np.arange(12.0).reshape(3, 4)[:, ::2]
    tensor = tc.Tensor.from_numpy(array)
    del array
    gc.collect()
    assert tensor.strides == (32, 16)
    assert tensor[1].tolist() == [4, 6]
    assert tensor.copy().pool is tc.get_global_memory_pool()
    frozen = np.zeros(3)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        tc.Tensor.from_numpy(frozen).fill(1)


# ---- data -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("non_blocking", [False, True])
@pytest.mark.parametrize("shape", [(), (0,), (7,), (300, 400)])
def test_a_tensor_comes_back_from_a_device_as_it_went(machine: RuntimeDouble, shape: Any, non_blocking: bool) -> None:
    """Through pinned memory where the copy does not block; there and back again."""
    model = np.random.default_rng(1).random(shape)
    there = tc.asarray(model).to("cuda", non_blocking=non_blocking)
    assert (str(there.device), there.shape, there.dtype) == ("cuda:0", model.shape, model.dtype)
    back = there.cpu(non_blocking=non_blocking)
    machine.run()
    np.testing.assert_array_equal(back.numpy(), model, strict=True)
    assert back.device.kind == ("pinned" if non_blocking else "cpu")


@pytest.mark.usefixtures("machine")
def test_strided_arrays_arrive_in_c_order() -> None:
    """Of a transposed and a sliced array."""
    model = np.arange(60.0).reshape(3, 4, 5)
    for view in (model.T, model[:, ::2, 1:], model[::-1]):
        there = tc.asarray(view).cuda()
        assert there.strides == np.ascontiguousarray(view).strides
        np.testing.assert_array_equal(there.cpu().numpy(), view)


def test_pinned_memory_is_not_reused_before_its_copy_is_done(machine: RuntimeDouble) -> None:
    """Ten copies in flight: ten blocks, and each arrives whole; afterwards one is enough."""
    pinned = tc.get_global_memory_pool("pinned")
    there = [tc.full((1000,), i).to("cuda", non_blocking=True) for i in range(10)]
    assert pinned.statistics.pending.current >= 10 * 8000
    machine.run()
    assert [tensor.cpu().numpy().mean() for tensor in there] == list(range(10))
    assert pinned.drain() >= 10 * 8000
    reserved = pinned.total_capacity
    for i in range(10):
        there.append(tc.full((1000,), i).to("cuda", non_blocking=True))
        machine.run()
    assert pinned.total_capacity == reserved


def test_a_pinned_tensor_is_copied_from_where_it_is(machine: RuntimeDouble) -> None:
    """No second block; dropped at once, it still arrives."""
    source = tc.full((1000,), 5.0, device="pinned")
    pinned = tc.get_global_memory_pool("pinned")
    count = pinned.allocation_count
    there = source.to("cuda", non_blocking=True)
    assert pinned.allocation_count == count
    del source
    other = tc.full((1000,), 6.0, device="pinned")
    machine.run()
    assert there.cpu().numpy().mean() == 5
    assert other.numpy().mean() == 6


def test_a_result_on_the_way_to_the_host_keeps_its_block_when_it_is_dropped(machine: RuntimeDouble) -> None:
    """The copy writes to memory that nobody else has yet."""
    there = tc.full((1000,), 3.0).cuda()
    there.cpu(non_blocking=True)
    other = tc.full((1000,), 4.0, device="pinned")
    machine.run()
    assert other.numpy().mean() == 4


def test_a_copy_between_devices_waits_for_both_streams(machine: RuntimeDouble) -> None:
    """The source's work comes first, and the target's later work after it."""
    there = tc.asarray(np.arange(1000.0)).to("cuda:0", non_blocking=True)
    other = there.to("cuda:1")
    assert (str(other.device), machine.calls.count("streamWaitEvent")) == ("cuda:1", 2)
    np.testing.assert_array_equal(other.cpu().numpy(), np.arange(1000.0))


@pytest.mark.usefixtures("machine")
def test_tensors_on_a_device_are_copied_compared_and_pickled() -> None:
    """A copy is another block of the same pool; unpickled it is on the same device."""
    there = tc.asarray(np.arange(6.0).reshape(2, 3)).cuda()
    for again in (there.copy(), copy.copy(there), copy.deepcopy(there), pickle.loads(pickle.dumps(there))):
        assert again.ptr != there.ptr
        assert (again.device, again.tolist()) == (there.device, there.tolist())
    turned = pickle.loads(pickle.dumps(there.T))
    assert (turned.T.tolist(), turned.strides) == (there.tolist(), there.T.strides)
    assert there[1, 2].item() == float(there[1, 2]) == 5
    assert repr(there[0]) == "Tensor([0., 1., 2.], dtype=float64, device='cuda:0')"
    assert there.cuda() is there.to("cuda") is there.cuda(0) is there
    target = tc.zeros((2, 3), device="cuda")
    target[...] = there
    target[0] = there[1]
    assert target.tolist() == [[3, 4, 5], [3, 4, 5]]


@pytest.mark.usefixtures("machine")
def test_an_overlapping_assignment_reads_before_it_writes() -> None:
    """As in NumPy; the block in between goes back."""
    model = np.arange(1000.0)
    there = tc.asarray(model).cuda()
    there[1:] = there[:-1]
    model[1:] = model[:-1]
    there[:500] = there[500:]
    model[:500] = model[500:]
    assert there.tolist() == model.tolist()
    assert tc.get_global_memory_pool("cuda").statistics.requested.current == 8000


def test_a_copy_that_can_not_be_recorded_is_waited_for(machine: RuntimeDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the pinned memory of another device, or where recording fails: the block would be free too early."""
    there = tc.full((1000,), 3.0).cuda()
    waits = machine.calls.count("streamSynchronize")
    assert there.to("pinned:1", non_blocking=True).tolist() == [3] * 1000

    def refuse(self: tc.MemoryPool, address: int, stream: object = None) -> None:
        raise tc.InvalidFreeError(f"{self} {address} {stream}")

    monkeypatch.setattr(tc.MemoryPool, "record_stream", refuse)
    assert there.cpu(non_blocking=True).tolist() == [3] * 1000
    assert machine.calls.count("streamSynchronize") - waits == 2


@pytest.mark.usefixtures("machine")
def test_zeros_on_a_device_are_cleared_there() -> None:
    """A recycled block too."""
    for _ in range(2):
        tensor = tc.zeros((100,), device="cuda")
        assert tensor.tolist() == [0] * 100
        tensor[...] = tc.full((100,), 7.0).cuda()
        assert tensor.tolist() == [7] * 100
        del tensor


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize(("stream", "error"), [("s", TypeError), (-1, ValueError)])
def test_what_is_no_stream_is_not_recorded(stream: Any, error: type[Exception]) -> None:
    """With the same errors as by a pool."""
    tensor = tc.Tensor(3, device="cuda")
    with pytest.raises(error, match="a stream"):
        tensor.record_stream(stream)


def test_a_further_stream_keeps_the_block(device: tc.FakeDeviceUpstream) -> None:
    """record_stream of a tensor, or of a view of it."""
    pool = tc.get_global_memory_pool("cuda")
    tensor = tc.Tensor((100, 100), device="cuda")
    tensor[5:].record_stream(9)
    device.enqueue(9, 10, tensor.ptr, tensor.nbytes)
    del tensor
    assert pool.statistics.pending.current >= 80_000
    device.advance(10)
    assert pool.drain() >= 80_000


def test_an_allocation_on_a_device_has_an_address(device: tc.FakeDeviceUpstream) -> None:  # noqa: ARG001 - behind the pool
    """And gives its block back; what is too large for it is refused."""
    pool = tc.get_global_memory_pool("cuda")
    with tc.PooledAllocation(1 << 20, device="cuda") as block:
        assert block.ptr % 512 == 0
        with pytest.raises(ValueError, match="does not fit into 1048576 bytes"):
            block.array("f4", (1 << 20,))
        assert pool.total_allocated >= 1 << 20
    del block
    assert pool.total_allocated == 0
