"""Functions of CuPy on device arrays, with every array that they make in a block of the device's pool, on the current stream.

A function of NumPy is carried out by CuPy's of the same name, one of the array API standard by array-api-compat's for CuPy. Limit:
what CuPy does not have is refused.
"""

from __future__ import annotations

import functools
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _cupy
from ._described import Described
from ._device_array import DeviceArray, DeviceMemory, wrap_device_memory
from ._errors import DeviceMismatchError, DeviceUnavailableError
from ._fake_device import FakeDeviceUpstream
from ._lib import native

if TYPE_CHECKING:
    from ._pool import MemoryPool


def call_on_device(
    pool: MemoryPool, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, list[tuple[Any, Described]]]:
    """Return what CuPy's counterpart of a function of NumPy makes of tensors on the pool's device, and those as CuPy arrays."""
    upstream = pool.upstream
    if isinstance(upstream, FakeDeviceUpstream):
        raise DeviceUnavailableError("a fake device holds no data: it has shapes, views and addresses only")
    with upstream.on_device(), _cupy.allocating_with(functools.partial(_take_block, pool)):
        operands: list[tuple[Any, Described]] = []
        if isinstance(kwargs.get("out"), tuple) and len(kwargs["out"]) == 1:  # as NumPy hands it to __array_ufunc__
            kwargs = {**kwargs, "out": kwargs["out"][0]}
        result = find_counterpart(function)(*_on_device(args, operands), **_on_device(kwargs, operands))
        return result, operands


def wrap_on_device(array: Any, pool: MemoryPool) -> DeviceArray:
    """Return a CuPy array as a DeviceArray that keeps it."""
    memory = DeviceMemory(array.data.ptr, array.nbytes, array, pool.upstream, pool.device.index)
    if array.nbytes and not array.flags.c_contiguous:
        low, high = _cupy.byte_bounds(array)
        memory = DeviceMemory(low, high - low, array, pool.upstream, pool.device.index)
    return wrap_device_memory(memory, (array.data.ptr, array.shape, array.dtype, array.strides))


def _take_block(pool: MemoryPool, nbytes: int) -> Any:
    """Return CuPy's pointer to a block of a pool, which it keeps."""
    block = native.block(pool, nbytes, pool.upstream.current_stream())
    return _cupy.memory_pointer(block.ptr, block, nbytes, pool.device.index) if block is not None else pool._refuse(nbytes)


def _on_device(value: Any, operands: list[tuple[Any, Described]]) -> Any:
    """Return an argument with its tensors as CuPy arrays, which are noted among the operands."""
    if isinstance(value, Described):
        array: Any = value._array
        operands.append((array.cupy(), value))
        return operands[-1][0]
    if isinstance(value, dict):
        return {name: _on_device(part, operands) for name, part in value.items()}
    if type(value) in (tuple, list):
        return type(value)(_on_device(part, operands) for part in value)
    if isinstance(value, np.ndarray):
        raise DeviceMismatchError(
            "an array on the CPU can't be used with a tensor on a GPU, and nothing is copied unasked: "
            "tensorcore.asarray(array, device=...) copies it"
        )
    return value


# ---- counterparts ---------------------------------------------------------------------------------------------------------------


def find_counterpart(function: Any) -> Any:
    """Return CuPy's counterpart of a function of NumPy, a method of an array or of a ufunc, or one of the standard's.

    Raises
    ------
    TypeError
        CuPy has none.
    """
    owner = getattr(function, "__self__", None)
    if isinstance(owner, np.ufunc):
        return _find_method(owner, function.__name__)
    if getattr(function, "__objclass__", None) is np.ndarray:  # np.ndarray.reshape
        return lambda array, *args, **kwargs: getattr(array, function.__name__)(*args, **kwargs)
    if getattr(function, "__module__", "") in ("_operator", "tensorcore.kernels"):  # which take CuPy's arrays as they are
        return function
    module, name = _standard_names().get(id(function), (None, getattr(function, "__name__", "")))
    for candidate in (module,) if module else _modules_like(function):
        found = getattr(_import(candidate), name, None)
        if found is not None:
            return found
    raise TypeError(f"CuPy has no counterpart of {function!r}: take the tensor to the CPU first, x.cpu()")


_REDUCTIONS = {"add": "sum", "multiply": "prod", "minimum": "min", "maximum": "max", "logical_and": "all", "logical_or": "any"}


def _find_method(ufunc: np.ufunc, method: str) -> Any:
    """Return CuPy's counterpart of a method of a ufunc: of `np.add.reduce` its `sum`, as its own ufuncs do not all reduce."""
    if method != "reduce" or ufunc.__name__ not in _REDUCTIONS:
        return getattr(find_counterpart(ufunc), method)
    reduction = getattr(_import("cupy"), _REDUCTIONS[ufunc.__name__])

    def reduce(array: Any, axis: Any = 0, dtype: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        return reduction(array, axis=axis, out=out, keepdims=keepdims, **({} if dtype is None else {"dtype": dtype}))

    return reduce


def _modules_like(function: Any) -> tuple[str, ...]:
    """Return CuPy's modules for a function of a NumPy module: numpy.linalg's are in cupy.linalg."""
    module = getattr(function, "__module__", None) or "numpy"
    return (module.replace("numpy", "cupy", 1), "cupy")


def _import(module: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("cupy."):
            return None
        raise


@functools.cache
def _standard_names() -> dict[int, tuple[str, str]]:
    """Return where array-api-compat has CuPy's form of each of its functions for NumPy, by the identity of that."""
    names: dict[int, tuple[str, str]] = {}
    for part in ("", ".fft", ".linalg"):
        module = import_module("array_api_compat.numpy" + part)
        for name in dir(module):
            if not name.startswith("_") and callable(getattr(module, name)):
                names.setdefault(id(getattr(module, name)), ("array_api_compat.cupy" + part, name))
    return names
