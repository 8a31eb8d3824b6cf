"""Interfaces: a tensor's memory for other libraries and theirs for a tensor, by the array interfaces and without a copy.

Host memory has `__array_interface__` (and the buffer protocol, csrc/python/holder.c), device memory `__cuda_array_interface__`. A
stream that the interface names is waited for on the device.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from . import _cupy
from ._backend import Device, find_backend
from ._described import Described, Elsewhere
from ._device_array import DeviceArray, DeviceMemory, wrap_device_memory
from ._errors import DeviceMismatchError
from ._global import current_pool
from ._lib import address_of, find_block, native
from ._registry import pools
from ._streams import stream_handle

if TYPE_CHECKING:
    from ._upstream import Upstream

    Array = np.ndarray[tuple[int, ...], np.dtype[Any]]

LEGACY_DEFAULT = 1  # how both protocols write the default stream


class Interfaces(Described):
    """The part of a tensor that the array interfaces serve."""

    __slots__ = ()

    # ---- from others ------------------------------------------------------------------------------------------------------------

    @classmethod
    def from_numpy(cls, array: np.ndarray[Any, np.dtype[Any]]) -> Self:
        """Return a tensor over the memory of a NumPy array, which it keeps alive.

        Raises
        ------
        TypeError
            It is not an array, or holds Python objects.
        """
        if not isinstance(array, np.ndarray):
            raise TypeError(f"from_numpy takes a numpy.ndarray, not {type(array).__name__}: tensorcore.asarray takes anything")
        if array.dtype.hasobject:
            raise TypeError(f"a tensor holds plain data, not the Python objects of {array.dtype!r}")
        return native.holder(cls, array.view(np.ndarray), Elsewhere(Device("cpu")))

    @classmethod
    def from_cupy(cls, array: Any) -> Self:
        """Return a tensor over the memory of a CuPy array, or of an object with ``__cuda_array_interface__``; it keeps that alive.

        The current stream waits for the stream that the interface names.

        Raises
        ------
        TypeError
            It has no such interface, a mask, or Python objects.
        DeviceUnavailableError
            The device that it lies on is not usable here.
        """
        interface = _cupy.interface_of(array)
        if interface is None:
            raise TypeError(f"from_cupy takes an object with __cuda_array_interface__, not {type(array).__name__}")
        if interface.get("mask") is not None:
            raise TypeError("an array with a mask can't be a tensor: give its data alone")
        ptr, read_only = interface["data"]
        shape = tuple(interface["shape"])
        dtype = array.dtype if _cupy.is_array(array) else _dtype_of(interface)  # the interface can't name bfloat16
        index, upstream = _place_of(ptr, array)
        found = wrap_device(array, index, upstream, (ptr, shape, dtype, interface.get("strides")), read_only=read_only)
        _wait_for(upstream, interface.get("stream"))
        return native.holder(cls, found, Elsewhere(Device("cuda", index)))

    # ---- to others --------------------------------------------------------------------------------------------------------------

    @property
    def __array_interface__(self) -> dict[str, Any]:
        """NumPy's array interface, version 3; AttributeError for device memory."""
        if isinstance(self._array, DeviceArray):
            raise AttributeError("device memory has no __array_interface__: copy it to the CPU with cpu()")
        interface: dict[str, Any] = self._array.__array_interface__
        return interface

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """The CUDA array interface, version 3, with the current stream; AttributeError for host memory."""
        array = self._array
        if not isinstance(array, DeviceArray):
            raise AttributeError("host memory has no __cuda_array_interface__: copy it to a device with cuda()")
        return {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "descr": array.dtype.descr,
            "data": (array.ptr if array.size else 0, array.read_only),
            "strides": None if array.contiguous else array.strides,
            "stream": array.memory.upstream.current_stream() or LEGACY_DEFAULT,
            "version": 3,
        }


# ---- memory of others -----------------------------------------------------------------------------------------------------------


def _place_of(ptr: int, array: Any) -> tuple[int, Upstream]:
    """Return the number of the device that holds an address, and what moves data there."""
    owner = pools.get(address_of(find_block(ptr).pool)) if ptr else None
    if owner is not None:
        return owner.device.index, owner.upstream
    index = array.device.id if _cupy.is_array(array) else _index_of(ptr)
    return index, current_pool(Device("cuda", index)).upstream


def _dtype_of(interface: dict[str, Any]) -> np.dtype[Any]:
    has_fields = interface["typestr"][1] == "V" and interface.get("descr")
    dtype: np.dtype[Any] = np.dtype(interface["descr"] if has_fields else interface["typestr"])
    return dtype


def _index_of(ptr: int) -> int:
    """Return the number of the device that an address belongs to; 0, no address, stands for no elements, and any device does."""
    if ptr == 0:
        return 0
    find_backend("cuda")  # says what is missing, where CuPy or the driver is
    return _cupy.device_of(ptr)


def move_data_on(source: Any, index: int) -> Upstream:
    """Return what moves data on a producer's device; a producer of made-up addresses is a tensor over them."""
    array = getattr(source, "_array", None)
    return array.memory.upstream if isinstance(array, DeviceArray) else current_pool(Device("cuda", index)).upstream


def _wait_for(upstream: Upstream, stream: int | None) -> None:
    """Make the current stream wait for the one that a producer names; None: no need to."""
    if stream is None:
        return
    if stream == 0:
        raise ValueError("stream 0 means two streams in __cuda_array_interface__: 1 is the default stream, 2 the thread's own")
    before, current = stream_handle(stream), upstream.current_stream()
    if before != current:
        upstream.order(before, upstream, current)


_Layout = tuple[int, tuple[int, ...], np.dtype[Any], "tuple[int, ...] | None"]


def _extent(layout: _Layout) -> tuple[int, int]:
    """Return the start and the size in bytes of what a layout (address, shape, dtype, strides or None) reaches."""
    ptr, shape, dtype, strides = layout
    if 0 in shape:
        return ptr, 0
    if strides is None:
        return ptr, math.prod(shape) * dtype.itemsize
    reaches = [(size - 1) * stride for size, stride in zip(shape, strides, strict=True)]
    low = sum(reach for reach in reaches if reach < 0)
    return ptr + low, sum(abs(reach) for reach in reaches) + dtype.itemsize


def wrap_device(owner: Any, index: int, upstream: Upstream, layout: _Layout, *, read_only: bool) -> DeviceArray:
    if layout[2].hasobject:
        raise TypeError(f"a tensor holds plain data, not the Python objects of {layout[2]!r}")
    start, nbytes = _extent(layout)
    return wrap_device_memory(DeviceMemory(start, nbytes, owner, upstream, index), layout, read_only=read_only)


class _HostMemory:
    """Lets NumPy make an array over host memory that an owner keeps."""

    __slots__ = ("__array_interface__", "owner")

    def __init__(self, owner: Any, start: int, nbytes: int, *, read_only: bool) -> None:
        self.owner = owner
        self.__array_interface__ = {"data": (start, read_only), "shape": (nbytes,), "typestr": "|u1", "version": 3}


def wrap_host(owner: Any, layout: _Layout, *, read_only: bool) -> np.ndarray[Any, np.dtype[Any]]:
    ptr, shape, dtype, strides = layout
    start, nbytes = _extent(layout)
    memory = np.asarray(_HostMemory(owner, start, nbytes, read_only=read_only))
    return np.ndarray(shape, dtype, memory, ptr - start, strides)


def require_host(array: Array | DeviceArray, fix: str) -> Array:
    """Return an array on the host; DeviceMismatchError for one in device memory."""
    if isinstance(array, DeviceArray):
        raise DeviceMismatchError(
            f"the tensor is on cuda:{array.memory.index}, whose memory NumPy can't use, and nothing is copied unasked: {fix}"
        )
    return array
