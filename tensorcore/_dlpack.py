"""DLPack both ways: a tensor's memory for other libraries and theirs for a tensor, without a copy, on every device.

What crosses streams is ordered on the device, by an event; nothing here waits for it. csrc/python/dlpack.c makes the capsules.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from . import _cupy
from ._backend import Device
from ._described import Elsewhere
from ._device_array import DeviceArray
from ._interfaces import LEGACY_DEFAULT, Interfaces, move_data_on, wrap_device, wrap_host
from ._lib import native
from ._streams import stream_handle
from ._transfer import record_use

_CODES = {"i": 0, "u": 1, "f": 2, "c": 5, "b": 6}  # DLDataTypeCode by NumPy's kind
_KINDS = {code: kind for kind, code in _CODES.items()}
_CPU, _CUDA, _ROCM = 1, 2, 10  # DLDeviceType
_HOST_TYPES = (_CPU, 3, 11)  # pinned by CUDA and by ROCm too
_DEVICE_TYPES = (_CUDA, _ROCM, 13)  # managed by CUDA too


class DLPack(Interfaces):
    """The part of a tensor that DLPack serves."""

    __slots__ = ()

    @classmethod
    def from_dlpack(cls, source: Any, *, copy: bool | None = None) -> Self:
        """Return a tensor over the memory of any object with ``__dlpack__``, on the device where it is.

        Memory of the host is read-only where the producer says so, or has no DLPack that could (JAX): `copy` it to write.

        Parameters
        ----------
        source
            A NumPy, CuPy, PyTorch, JAX ... array.
        copy
            Asked of the producer: True for memory of its own, False for a BufferError where it would copy.

        Raises
        ------
        BufferError
            The producer refused, or its memory or type is none that a tensor can have.
        """
        if not hasattr(source, "__dlpack__"):
            raise TypeError(f"from_dlpack takes an object with __dlpack__, not {type(source).__name__}")
        device_type, index = source.__dlpack_device__()
        upstream = None
        options: dict[str, Any] = {}
        if device_type in _DEVICE_TYPES:
            upstream = move_data_on(source, index)
            options["stream"] = upstream.current_stream() or LEGACY_DEFAULT
        elif device_type not in _HOST_TYPES:
            raise BufferError(f"DLPack device type {device_type} is neither the CPU nor a CUDA or ROCm device")
        owner, description = native.dlpack_import(_ask_for_capsule(source, options, copy))
        address, shape, strides, code, bits, lanes, _, _, read_only = description
        dtype = _dtype_of(code, bits, lanes)
        layout = (address, shape, dtype, None if strides is None else tuple(step * dtype.itemsize for step in strides))
        if upstream is None:
            return native.holder(cls, wrap_host(owner, layout, read_only=read_only), Elsewhere(Device("cpu")))
        return native.holder(
            cls, wrap_device(owner, index, upstream, layout, read_only=read_only), Elsewhere(Device("cuda", index))
        )

    def __dlpack_device__(self) -> tuple[int, int]:
        """Return DLPack's type and number of the device; pinned memory is the CPU's."""
        if not isinstance(self._array, DeviceArray):
            return (_CPU, 0)
        return (_ROCM if _cupy.is_rocm() else _CUDA, self._array.memory.index)

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """Return a capsule of DLPack over the tensor's memory, which it keeps alive.

        Parameters
        ----------
        stream
            The consumer's stream, which waits for the current one: a handle, 1 the default stream (None too), 2 the calling
            thread's, -1 no waiting. For the CPU None.
        max_version
            The newest version that the consumer knows; from (1, 0) on the capsule is a versioned one.
        dl_device
            Where the consumer wants it; a copy is made where it is not there.
        copy
            True: always a copy. False: never one.

        Raises
        ------
        BufferError
            The type or the strides can't be told in DLPack, read-only memory in a version that has no word for it, a copy is not
            allowed, or the consumer's device is of a kind that TensorCore does not know.
        ValueError
            The stream is none of this device.
        TypeError
            `max_version` is no tuple.
        """
        versioned = _is_versioned(max_version)
        if dl_device is not None and tuple(dl_device) != self.__dlpack_device__():
            if copy is False:
                raise BufferError(
                    f"the tensor is not on DLPack device {tuple(dl_device)}, and copy=False forbids to bring it there"
                )
            moved: Any = self.to(_device_of(*dl_device))  # type: ignore[attr-defined] # of Tensor
            return moved._export(stream, copied=True, versioned=versioned)
        source: Any = self.copy() if copy else self  # type: ignore[attr-defined] # of Tensor
        return source._export(stream, copied=bool(copy), versioned=versioned)

    def _export(self, stream: int | None, *, copied: bool, versioned: bool) -> Any:
        array = self._array
        if isinstance(array, DeviceArray):
            address, read_only = array.ptr, array.read_only
        else:
            address, read_only = array.ctypes.data, not array.flags.writeable
        dtype, strides = _type_of(array.dtype), _elements(array)
        if read_only and not versioned:
            raise BufferError(
                "this memory is read-only, which DLPack can say from version 1.0 on: ask with max_version=(1, 0), or copy"
            )
        if isinstance(array, DeviceArray):
            self._lend(array, stream)
        elif stream is not None:
            raise ValueError(f"the CPU has no streams: stream is None, not {stream!r}")
        where = self.__dlpack_device__()
        return native.dlpack_export(array, address, array.shape, strides, dtype, where, read_only, copied, versioned)

    def _lend(self, array: DeviceArray, stream: int | None) -> None:
        """Make the consumer's stream wait for the current one, and the block wait for the consumer's stream once it is freed."""
        if stream == 0:
            raise ValueError("stream=0 means two streams in DLPack: give 1 for the default stream, 2 for the thread's own")
        if stream == -1:
            return
        upstream, consumer = array.memory.upstream, stream_handle(LEGACY_DEFAULT if stream is None else stream)
        current = upstream.current_stream()
        if consumer != current:
            upstream.order(current, upstream, consumer)
        record_use(array, consumer)


# ---- types and places -----------------------------------------------------------------------------------------------------------


def _is_versioned(max_version: tuple[int, int] | None) -> bool:
    """Return whether a consumer that knows versions up to `max_version` takes a versioned capsule."""
    if max_version is None:
        return False
    if not isinstance(max_version, tuple):
        raise TypeError(f"max_version is None or a tuple like (1, 0), not {max_version!r}")
    return max_version >= (1,)


def _type_of(dtype: np.dtype[Any]) -> tuple[int, int]:
    """Return the code and the bits of a type; BufferError where DLPack has none."""
    if dtype.kind not in _CODES or not dtype.isnative:
        raise BufferError(
            f"DLPack has no word for {dtype!r}: it knows bool, integers, floats and complex numbers in native byte order"
        )
    return _CODES[dtype.kind], 8 * dtype.itemsize


def _dtype_of(code: int, bits: int, lanes: int) -> np.dtype[Any]:
    """Return the type of a code and bits; BufferError where NumPy has none."""
    try:
        if lanes != 1 or bits % 8:
            raise TypeError
        return np.dtype(f"{_KINDS[code]}{bits // 8}")
    except (KeyError, TypeError):
        raise BufferError(f"NumPy has no type for DLPack's code {code} with {bits} bits and {lanes} lanes") from None


def _elements(array: Any) -> tuple[int, ...]:
    """Return the strides in elements; BufferError where they are not whole ones."""
    if any(stride % array.itemsize for stride in array.strides):
        raise BufferError(
            f"strides of {array.strides} bytes are not whole elements of {array.itemsize} bytes: copy the tensor first"
        )
    return tuple(stride // array.itemsize for stride in array.strides)


def _device_of(device_type: int, index: int) -> Device:
    if device_type == _CPU:
        return Device("cpu")
    if device_type in (_CUDA, _ROCM):
        return Device("cuda", index)
    raise BufferError(f"TensorCore has no device for DLPack device type {device_type}")


def _ask_for_capsule(source: Any, options: dict[str, Any], copy: bool | None) -> Any:
    """Return the producer's capsule; one that knows no versions yet is asked in the old way."""
    newer: dict[str, Any] = {"max_version": (1, 0)} | ({} if copy is None else {"copy": copy})
    try:
        return source.__dlpack__(**options, **newer)
    except TypeError:
        if copy is not None:
            raise BufferError(f"{type(source).__name__}.__dlpack__ does not know copy=: copy before or after") from None
        return source.__dlpack__(**options)
