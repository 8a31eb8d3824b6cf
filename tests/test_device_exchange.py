"""Memory of a device, a fake one, for other libraries and theirs for a tensor: DLPack with streams, the CUDA array interface."""

from __future__ import annotations

import gc
import sys
import types
from typing import TYPE_CHECKING, Any

import pytest
from array_helpers import Old

import tensorcore as tc

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def device() -> Iterator[tc.FakeDeviceUpstream]:
    """A fake GPU 0 behind the global pool of cuda:0, without a block afterwards."""
    upstream = tc.FakeDeviceUpstream()
    pool = tc.MemoryPool(device="cuda:0", upstream=upstream)
    tc.set_global_memory_pool(pool)
    yield upstream
    gc.collect()
    left = pool.total_allocated
    pool.check()
    pool.close()
    assert (left, upstream.counts.errors, upstream.counts.early) == (0, 0, 0)


@pytest.mark.usefixtures("device")
def test_a_device_tensor_has_the_cuda_array_interface() -> None:
    """Version 3: strides where they are not C order, no address where there is no element."""
    tensor = tc.Tensor((3, 4), "f4", device="cuda")
    interface = tensor.__cuda_array_interface__
    assert interface == {
        "shape": (3, 4),
        "typestr": "<f4",
        "descr": [("", "<f4")],
        "data": (tensor.ptr, False),
        "strides": None,
        "stream": 1,
        "version": 3,
    }
    assert tensor.T.__cuda_array_interface__["strides"] == (4, 16)
    assert tensor[:0].__cuda_array_interface__["data"] == (0, False)
    assert not hasattr(tensor, "__array_interface__")


class Producer:
    """Another library's array on a device."""

    def __init__(self, tensor: tc.Tensor, **changes: Any) -> None:
        self.tensor = tensor
        self.__cuda_array_interface__ = tensor.__cuda_array_interface__ | changes


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("dtype", ["bool", "f8", "c16", "i4,f8", "M8[s]"])
def test_a_tensor_is_made_over_another_library_s_device_memory(dtype: str) -> None:
    """With its strides, and it keeps the memory."""
    pool = tc.get_global_memory_pool("cuda")
    tensor = tc.Tensor((3, 4), dtype, device="cuda")
    for view in (tensor, tensor.T, tensor[::-1, 1:], tensor[2, 3]):
        found = tc.Tensor.from_cupy(Producer(view))
        assert (found.shape, found.dtype, str(found.device), found.pool) == (view.shape, view.dtype, "cuda:0", None)
        assert (found.strides, found.ptr) == (view.strides, view.ptr)
        assert tc.asarray(Producer(view)).shape == view.shape
    found = tc.Tensor.from_cupy(Producer(tensor))
    del tensor, view
    gc.collect()
    assert pool.total_allocated > 0
    del found


@pytest.mark.usefixtures("device")
def test_an_interface_that_can_not_be_a_tensor_is_refused() -> None:
    """Masked, of objects, on the ambiguous stream 0; read-only memory can't be written."""
    tensor = tc.Tensor((3, 4), device="cuda")
    wrong: list[tuple[dict[str, Any], type[Exception]]] = [
        ({"mask": 3}, TypeError),
        ({"typestr": "|O8"}, TypeError),
        ({"stream": 0}, ValueError),
    ]
    for changes, error in wrong:
        with pytest.raises(error):
            tc.Tensor.from_cupy(Producer(tensor, **changes))
    frozen = tc.Tensor.from_cupy(Producer(tensor, data=(tensor.ptr, True)))
    assert frozen[1].__cuda_array_interface__["data"] == (frozen[1].ptr, True)
    with pytest.raises(ValueError, match="read-only"):
        frozen[0].fill(1)


def test_the_producer_s_stream_is_waited_for_on_the_device(device: tc.FakeDeviceUpstream) -> None:
    """With one event where the streams differ, with none where they are the same."""
    tensor = tc.Tensor((100,), device="cuda")
    for stream, waits in [(None, 0), (1, 0), (7, 1), (2, 1)]:
        before = device.counts.wait_calls
        tc.Tensor.from_cupy(Producer(tensor, stream=stream))
        assert device.counts.wait_calls - before == waits
    assert device.counts.live_events <= 1


@pytest.mark.parametrize(
    ("stream", "waits"),
    [(None, 1), (1, 1), (2, 1), (7, 0), (9, 1), (-1, 0)],
    ids=["none", "legacy", "thread", "same", "other", "no sync"],
)
def test_a_consumer_s_stream_waits_for_the_current_one(device: tc.FakeDeviceUpstream, stream: int | None, waits: int) -> None:
    """On the device; and the block, once freed, waits for the consumer's work."""
    pool = tc.get_global_memory_pool("cuda")
    with device.using_stream(7):
        tensor = tc.Tensor((1000,), device="cuda")
        before = device.counts.wait_calls
        capsule = tensor.__dlpack__(stream=stream, max_version=(1, 0))
        assert device.counts.wait_calls - before == waits
    if stream != -1:
        device.enqueue(stream or 0, 10, tensor.ptr, tensor.nbytes)
    del tensor, capsule
    gc.collect()
    assert (pool.statistics.pending.current > 0) == bool(waits)
    device.advance(10)
    pool.drain()
    assert pool.statistics.pending.current == 0


@pytest.mark.usefixtures("device")
def test_a_stream_or_device_that_means_nothing_is_refused() -> None:
    """0 is two streams; a copy to the host reads, which the fake can't; strange numbers."""
    tensor = tc.Tensor(3, device="cuda")
    for options, error in [
        ({"stream": 0}, ValueError),
        ({"stream": -2}, ValueError),
        ({"stream": "s"}, TypeError),
        ({"dl_device": (1, 0), "copy": False}, BufferError),
        ({"dl_device": (1, 0)}, tc.DeviceUnavailableError),
        ({"dl_device": (2, 5), "copy": False}, BufferError),
    ]:
        with pytest.raises(error):
            tensor.__dlpack__(**options)  # type: ignore[arg-type] # wrong on purpose


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("old", [False, True])
def test_device_memory_goes_through_dlpack_and_back(old: bool) -> None:
    """Shape, strides, device and address; each tensor keeps the block."""
    pool = tc.get_global_memory_pool("cuda")
    tensor = tc.Tensor((3, 4), "i2", device="cuda")
    assert tensor.__dlpack_device__() == (2, 0)
    for view in (tensor, tensor.T, tensor[::2, 1:], tensor[:0]):
        producer: Any = Old(view) if old else view
        found = tc.from_dlpack(producer)
        assert (found.shape, found.dtype, str(found.device)) == (view.shape, view.dtype, "cuda:0")
        assert view.size == 0 or (found.ptr, found.strides) == (view.ptr, view.strides)
        found.fill(1)  # writable, also from a producer that can't say whether it is
    del tensor, view
    gc.collect()
    assert pool.total_allocated > 0
    del found


@pytest.mark.usefixtures("device")
def test_cupy_sees_a_device_tensor_s_memory() -> None:
    """And a tensor sees CuPy's; no driver is needed for that."""
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    pool = tc.get_global_memory_pool("cuda")
    tensor = tc.Tensor((3, 4), device="cuda")
    for view in (tensor, tensor.T, tensor[1:, ::2], tensor[::-1]):
        array = view.cupy()
        assert isinstance(array, cupy.ndarray)
        assert (array.shape, array.dtype, array.strides, array.data.ptr) == (view.shape, view.dtype, view.strides, view.ptr)
        again = tc.Tensor.from_cupy(array)
        assert (again.ptr, again.strides, str(again.device)) == (view.ptr, view.strides, "cuda:0")
    with tc.PooledAllocation(1000, device="cuda") as block:
        assert block.array("f4", (5, 10)).shape == (5, 10)
    del tensor, view, again, block
    gc.collect()
    assert pool.total_allocated > 0
    del array


def test_device_memory_that_nobody_here_knows_needs_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address of another library, on a machine without CuPy; without elements too."""
    monkeypatch.setitem(sys.modules, "cupy", None)
    for ptr in (0, 0x7F0000000000):
        interface = {"shape": (3,), "typestr": "<f4", "data": (ptr, False), "version": 3}
        with pytest.raises(tc.DeviceUnavailableError, match="pip install"):
            tc.Tensor.from_cupy(types.SimpleNamespace(__cuda_array_interface__=interface))


@pytest.mark.usefixtures("device")
def test_without_cupy_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what CuPy alone can do."""
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(tc.DeviceUnavailableError, match="pip install"):
        tc.Tensor((3, 4), device="cuda").cupy()
