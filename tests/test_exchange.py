"""A tensor's memory for other libraries and theirs for a tensor, on the host: DLPack and the array interface."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from array_helpers import Old

import tensorcore as tc

if TYPE_CHECKING:
    from conftest import RunPython

DTYPES = ["bool", "i1", "i8", "u2", "f2", "f4", "f8", "c8", "c16"]


def name_of(capsule: Any) -> str:
    """Return the name of a capsule."""
    get = ctypes.pythonapi.PyCapsule_GetName
    get.restype, get.argtypes = ctypes.c_char_p, [ctypes.py_object]
    return str(get(capsule).decode())


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
