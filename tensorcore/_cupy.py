"""The only importer of CuPy: its runtime functions, its streams, its arrays, and why it can't be used where it can't.

CuPy is imported at the first use of a device, never with the package: that costs 0.3 s and up.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from ._errors import DeviceUnavailableError, OutOfMemoryError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

_out_of_memory_classes: dict[type[Exception], type[OutOfMemoryError]] = {}  # by the class of CuPy that each is too
_NO_DRIVER, _NO_DEVICE, _TOO_OLD = 35, 100, 803  # cudaError_t: InsufficientDriver, NoDevice, SystemDriverMismatch
_NOT_INITIALIZED, _UNLOADING, _CONTEXT_GONE = 3, 4, 709  # InitializationError, CudartUnloading, ContextIsDestroyed


def module() -> Any:
    """Return `cupy`; ImportError where it is not installed."""
    import cupy

    return cupy


def runtime() -> Any:
    """Return `cupy.cuda.runtime`; ImportError where CuPy is not installed."""
    import cupy

    return cupy.cuda.runtime


def why_unavailable() -> str | None:
    """Return None where a CUDA device can be used, else which of CuPy, driver and GPU is missing and the command that mends it."""
    try:
        count = runtime().getDeviceCount()
    except ImportError as error:
        return _explain_import(error)
    except Exception as error:
        return _explain_status(error)
    return None if count else _explain_status(None)


def _explain_import(error: ImportError) -> str:
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == "cupy":
        return (
            "CuPy is not installed: pip install 'tensorcore[cuda13]', or 'tensorcore[cuda12]' where the driver is older than 580 "
            "(nvidia-smi prints its version)"
        )
    return f"CuPy can't be imported ({error}): pip install --force-reinstall 'cupy-cuda13x[ctk]'"


def _explain_status(error: Exception | None) -> str:
    """Return what the driver's first answer means; None: it counted no device."""
    status = _NO_DEVICE if error is None else getattr(error, "status", None)
    if status == _NO_DEVICE:
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        if hidden is not None:
            return f"no GPU is visible, CUDA_VISIBLE_DEVICES is {hidden!r}: unset CUDA_VISIBLE_DEVICES"
        return "the driver finds no GPU: nvidia-smi -L lists those it has; a container needs docker run --gpus all"
    if status in (_NO_DRIVER, _TOO_OLD):
        version = runtime().driverGetVersion()
        if version == 0:
            return "the NVIDIA driver is missing: apt install nvidia-driver-580; a container needs docker run --gpus all"
        return (
            f"the NVIDIA driver (for CUDA {version // 1000}.{version % 1000 // 10}) is older than this CuPy needs: "
            "apt install nvidia-driver-580, or pip install 'tensorcore[cuda12]' in place of cuda13"
        )
    if status == _NOT_INITIALIZED:
        return (
            f"the CUDA driver can't be used here ({error}), as in every process that was forked after its parent used CUDA: "
            "start processes with multiprocessing.get_context('spawn')"
        )
    return f"the CUDA driver does not work ({error}): nvidia-smi tells its state"


def current_stream(index: int) -> Callable[[], Any]:
    """Return the function that returns CuPy's current stream of a device, on the calling thread."""
    from cupy.cuda import get_current_stream

    return partial(get_current_stream, index)


def array(ptr: int, owner: Any, nbytes: int, index: int, layout: Any) -> Any:
    """Return a `cupy.ndarray` over device memory, without a copy and without a call of the driver.

    Parameters
    ----------
    ptr, nbytes, owner
        The start and the size of the memory in bytes, and the object that keeps it.
    index
        The device's number.
    layout
        Has `shape`, `dtype`, `strides` (bytes) and `ptr`, the address of the first element.

    Raises
    ------
    DeviceUnavailableError
        CuPy is not installed.
    """
    try:
        import cupy
    except ImportError as error:
        raise DeviceUnavailableError(_explain_import(error)) from None
    memory = cupy.cuda.UnownedMemory(ptr, nbytes, owner, index)
    pointer = cupy.cuda.MemoryPointer(memory, layout.ptr - ptr)
    return cupy.ndarray(layout.shape, layout.dtype, memptr=pointer, strides=layout.strides)


def memory_pointer(ptr: int, owner: Any, nbytes: int, index: int) -> Any:
    """Return CuPy's pointer to device memory that `owner` keeps."""
    import cupy

    return cupy.cuda.MemoryPointer(cupy.cuda.UnownedMemory(ptr, nbytes, owner, index), 0)


def allocating_with(allocate: Callable[[int], Any]) -> AbstractContextManager[None]:
    """Return a context in which this thread's CuPy arrays get their memory from `allocate`, which returns a `memory_pointer`."""
    import cupy

    context: AbstractContextManager[None] = cupy.cuda.using_allocator(allocate)
    return context


def byte_bounds(array: Any) -> tuple[int, int]:
    """Return the first address of a CuPy array's elements and the one behind the last."""
    import cupy

    low, high = cupy.byte_bounds(array)
    return int(low), int(high)


def device_of(ptr: int) -> int:
    """Return the number of the device that an address belongs to."""
    return int(runtime().pointerGetAttributes(ptr).device)


def is_rocm() -> bool:
    """Return whether the CuPy that is loaded serves AMD's devices; False where none is."""
    cupy = sys.modules.get("cupy")
    return cupy is not None and bool(cupy.cuda.runtime.is_hip)


def is_array(value: object) -> bool:
    """Return whether a value is a CuPy array; False where CuPy was never imported."""
    cupy = sys.modules.get("cupy")
    return cupy is not None and isinstance(value, cupy.ndarray)


def interface_of(array: Any) -> dict[str, Any] | None:
    """Return an object's ``__cuda_array_interface__``, None where it has none.

    A CuPy array's is put together here: it is used on the current stream, so there is no stream to wait for, and no driver to ask.
    """
    if not is_array(array):
        interface: dict[str, Any] | None = getattr(array, "__cuda_array_interface__", None)
        return interface
    layout = {"shape": array.shape, "typestr": array.dtype.str, "descr": array.dtype.descr, "strides": array.strides}
    return {**layout, "data": (array.data.ptr, False), "stream": None}


def out_of_memory_class() -> type[OutOfMemoryError]:
    """Return the error of a device pool: CuPy's OutOfMemoryError too, where CuPy is loaded; who catches that one has loaded it."""
    memory = sys.modules.get("cupy.cuda.memory")
    if memory is None:
        return OutOfMemoryError
    made = _out_of_memory_classes.get(memory.OutOfMemoryError)
    if made is None:
        made = type("OutOfMemoryError", (OutOfMemoryError, memory.OutOfMemoryError), {"__module__": OutOfMemoryError.__module__})
        _out_of_memory_classes[memory.OutOfMemoryError] = made
    return made


def is_gone(error: BaseException) -> bool:
    """Return whether an error says that the driver is going or was never there: nothing of its memory is left to care for."""
    return getattr(error, "status", None) in (_NOT_INITIALIZED, _UNLOADING, _CONTEXT_GONE)
