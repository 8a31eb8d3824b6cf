"""A tensor's memory for other libraries and theirs for a tensor: DLPack and the array interfaces, on the host and on a device."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
import types
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import tensorcore as tc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import RunPython

DTYPES = ["bool", "i1", "i8", "u2", "f2", "f4", "f8", "c8", "c16"]


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


def name_of(capsule: Any) -> str:
    """Return the name of a capsule."""
    get = ctypes.pythonapi.PyCapsule_GetName
    get.restype, get.argtypes = ctypes.c_char_p, [ctypes.py_object]
    return str(get(capsule).decode())


class Old:
    """A producer that knows no versions of DLPack, as of 2021."""

    def __init__(self, tensor: tc.Tensor) -> None:
        self.tensor = tensor

    def __dlpack__(self, stream: int | None = None) -> Any:
        return self.tensor.__dlpack__(stream=stream)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.tensor.__dlpack_device__()


# ---- the host -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (5,), (3, 4), (2, 0, 3)])
def test_numpy_reads_a_tensor_s_memory(dtype: str, shape: tuple[int, ...]) -> None:
    """By DLPack and by the array interface, without a copy."""
    tensor = tc.zeros(shape, dtype)
    tensor.fill(1)
    for array in (np.from_dlpack(tensor), np.asarray(tensor)):
        assert (array.shape, array.dtype) == (tensor.shape, tensor.dtype)
        assert array.size == 0 or array.ctypes.data == tensor.ptr
        assert (array == 1).all()
    assert tensor.__array_interface__["data"] == (tensor.ptr, False)
    assert not hasattr(tensor, "__cuda_array_interface__")


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_tensor_reads_another_library_s_memory(dtype: str) -> None:
    """NumPy's, of every type, strided too; the array lives as long as the tensor."""
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    for view in (array, array.T, array[:, ::2], array[..., :0], array[1, 1, 1]):
        tensor = tc.from_dlpack(np.asarray(view))
        np.testing.assert_array_equal(tensor.numpy(), view, strict=True)
        assert tensor.size == 0 or tensor.strides == np.asarray(view).strides
        assert (tensor.pool, str(tensor.device)) == (None, "cpu")
    reference = weakref.ref(array)
    tensor = tc.from_dlpack(array)
    del array, view
    gc.collect()
    assert reference() is not None
    del tensor
    gc.collect()
    assert reference() is None


def test_a_capsule_keeps_the_memory_until_it_is_dropped(pool: tc.MemoryPool) -> None:
    """Taken or not, of either version; the tensor itself may be gone."""
    for version in (None, (0, 8), (1, 0), (1, 1)):
        capsule = tc.zeros(100, pool=pool).__dlpack__(max_version=version)
        assert name_of(capsule) == ("dltensor_versioned" if version is not None and version[0] >= 1 else "dltensor")
        gc.collect()
        assert pool.total_allocated > 0
        del capsule
        gc.collect()
        assert pool.total_allocated == 0
        array = np.from_dlpack(tc.zeros(100, pool=pool))
        assert not array.any()
        del array
        gc.collect()
        assert pool.total_allocated == 0


def test_the_last_reference_may_go_in_another_thread(pool: tc.MemoryPool) -> None:
    """The consumer's deleter takes the GIL."""
    held = [np.from_dlpack(tc.zeros(100, pool=pool)) for _ in range(50)]
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()
    assert pool.total_allocated == 0


def test_a_capsule_can_be_taken_once() -> None:
    """A used one, and what is none, is a BufferError."""

    class Producer:
        capsule: Any = tc.zeros(3).__dlpack__()

        def __dlpack__(self, **options: Any) -> Any:
            return self.capsule

        def __dlpack_device__(self) -> tuple[int, int]:
            return (1, 0)

    assert tc.from_dlpack(Producer()).tolist() == [0] * 3
    assert name_of(Producer.capsule) == "used_dltensor"
    with pytest.raises(BufferError, match="used before"):
        tc.from_dlpack(Producer())
    Producer.capsule = 3
    with pytest.raises(BufferError, match="no DLPack capsule"):
        tc.from_dlpack(Producer())


def test_an_older_producer_is_understood() -> None:
    """It is asked anew, without the words that it does not know; copy= it can't promise."""
    tensor = tc.arange(5)
    assert tc.from_dlpack(Old(tensor)).ptr == tensor.ptr
    with pytest.raises(BufferError, match="does not know copy="):
        tc.from_dlpack(Old(tensor), copy=True)


def test_memory_of_an_older_producer_is_read_only_on_the_host(pool: tc.MemoryPool) -> None:
    """It can't say that it is a constant, so it is taken for one, as NumPy does; what refuses names the way to a copy."""
    source = tc.arange(5.0, pool=pool)
    for tensor in (tc.from_dlpack(Old(source)), tc.asarray(Old(source)), tc.from_dlpack(Old(source))[1:]):
        with pytest.raises(ValueError, match=r"read-only.*x\.copy\(\) can be written to"):
            tensor.fill(1)
        with pytest.raises(ValueError, match=r"read-only.*x\.copy\(\) can be written to"):
            tensor[0] = 1
        with pytest.raises(ValueError, match="read-only"):
            tensor += 1
        copied = tensor.copy()
        copied.fill(7)
    assert source.tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="broadcast"):
        source[:2] = [1, 2, 3]


def test_copies_are_made_as_asked(pool: tc.MemoryPool) -> None:
    """True: another block; False and None: the same memory."""
    tensor = tc.arange(5, pool=pool)
    assert tc.from_dlpack(tensor, copy=True).ptr != tensor.ptr
    assert tc.from_dlpack(tensor, copy=False).ptr == tc.from_dlpack(tensor).ptr == tensor.ptr
    capsule = tensor.__dlpack__(copy=True)
    assert pool.allocation_count == 3
    del capsule


class Head(ctypes.Structure):
    """The beginning of DLManagedTensorVersioned."""

    _fields_ = (
        ("version", ctypes.c_uint32 * 2),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
    )


def flags_of(capsule: Any) -> int:
    """Return the flags of a versioned capsule."""
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return int(Head.from_address(get(capsule, b"dltensor_versioned")).flags)


def test_a_capsule_says_whether_it_is_a_copy_and_whether_it_can_be_written_to() -> None:
    """In the flags of DLPack 1.0; a consumer may keep a copy for itself."""
    tensor = tc.arange(5)
    frozen = tensor[1:]
    frozen.flags.writeable = False
    read_only, is_copied = 1, 2
    for source, copy, flags in [(tensor, None, 0), (tensor, False, 0), (tensor, True, is_copied), (frozen, None, read_only)]:
        assert flags_of(source.__dlpack__(max_version=(1, 0), copy=copy)) == flags
    assert flags_of(frozen.__dlpack__(max_version=(1, 1), copy=True)) == is_copied


def test_a_version_is_a_tuple() -> None:
    """A number or a text is a TypeError that says so."""
    for wrong in (1, "1.0", [1, 0]):
        with pytest.raises(TypeError, match=r"max_version is None or a tuple like \(1, 0\)"):
            tc.arange(3).__dlpack__(max_version=wrong)  # type: ignore[arg-type] # wrong on purpose


def test_read_only_memory_stays_so() -> None:
    """Versioned capsules say it, older ones can't and are refused."""
    array = np.arange(3.0)
    array.flags.writeable = False
    tensor = tc.Tensor.from_numpy(array)
    with pytest.raises(BufferError, match=r"read-only.*max_version=\(1, 0\)"):
        tensor.__dlpack__()
    again = tc.from_dlpack(tensor)
    with pytest.raises(ValueError, match="read-only"):
        again.fill(1)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"stream": 0}, ValueError),
        ({"stream": 1}, ValueError),
        ({"dl_device": (2, 0), "copy": False}, BufferError),
        ({"dl_device": (8, 0)}, BufferError),
        ({"dl_device": (2, 0)}, tc.DeviceUnavailableError),
    ],
)
def test_what_the_cpu_can_not_do_is_refused(options: dict[str, Any], error: type[Exception]) -> None:
    """A stream, another device without a copy or without a GPU, a device of another kind."""
    with pytest.raises(error):
        tc.arange(3).__dlpack__(**options)


@pytest.mark.parametrize("dtype", ["S5", "U3", "M8[s]", ">i4", "i4,f8"])
def test_a_type_without_a_word_in_dlpack_is_a_buffer_error(dtype: str) -> None:
    """The array interface knows them."""
    tensor = tc.Tensor(3, dtype)
    with pytest.raises(BufferError, match="DLPack has no word for"):
        tensor.__dlpack__()
    assert np.asarray(tensor).dtype == tensor.dtype


def test_strides_between_elements_are_a_buffer_error() -> None:
    """DLPack counts in elements."""
    field = np.zeros(4, "i2,i8")["f1"]
    assert field.strides == (10,)
    with pytest.raises(BufferError, match="not whole elements"):
        tc.Tensor.from_numpy(field).__dlpack__()


def test_what_is_no_producer_is_a_type_error() -> None:
    """Of DLPack or of the CUDA interface."""
    with pytest.raises(TypeError, match="__dlpack__, not list"):
        tc.from_dlpack([1, 2])
    with pytest.raises(TypeError, match="__cuda_array_interface__, not ndarray"):
        tc.Tensor.from_cupy(np.zeros(3))


def test_a_device_of_another_kind_is_refused() -> None:
    """OpenCL, for instance."""

    class Producer(Old):
        def __dlpack_device__(self) -> tuple[int, int]:
            return (4, 0)

    with pytest.raises(BufferError, match="device type 4 is neither"):
        tc.from_dlpack(Producer(tc.zeros(3)))


def test_no_reference_is_lost_or_kept(pool: tc.MemoryPool) -> None:
    """After a thousand exchanges of each kind, errors included."""
    tensor, strange = tc.zeros(3, pool=pool), tc.Tensor(3, "S5", pool=pool)

    def exchange() -> None:
        for _ in range(1000):
            tc.from_dlpack(tensor)
            tc.from_dlpack(Old(tensor))
            tensor.__dlpack__()
            with pytest.raises(BufferError):
                strange.__dlpack__()

    exchange()
    before = sys.getrefcount(tensor._array), sys.getrefcount(pool), pool.total_allocated
    exchange()
    gc.collect()
    assert (sys.getrefcount(tensor._array), sys.getrefcount(pool), pool.total_allocated) == before


def test_memory_that_is_lent_at_the_end_of_the_program_harms_nothing(run_python: RunPython) -> None:
    """Capsules and arrays are left as they are."""
    run_python(
        """
        import numpy as np
        import tensorcore as tc

        capsule, array = tc.zeros(3).__dlpack__(), np.from_dlpack(tc.zeros(3))
        knot = [tc.from_dlpack(np.zeros(3))]
        knot.append(knot)
        """
    )


# ---- a device -------------------------------------------------------------------------------------------------------------------


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
