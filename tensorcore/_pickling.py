"""Pickled tensors: their elements as one buffer, which protocol 5 can hand on beside the pickle, without a copy in C or F order.

Loaded from the pickle itself, or from bytes, the elements are copied into the pool of the device; from any other buffer (a
memoryview, shared memory, a mapped file) the tensor on the CPU lies over that memory and keeps it.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import numpy as np

from ._backend import Device, parse_device
from ._described import Described, Elsewhere
from ._global import current_pool
from ._lib import native
from ._transfer import copy_into_pool

if TYPE_CHECKING:
    HostArray = np.ndarray[Any, np.dtype[Any]]

_OUT_OF_BAND = 5  # the first protocol that knows buffers


def reduce_array(kind: type[Described], array: HostArray, device: Device, protocol: int, *, transposed: bool) -> tuple[Any, ...]:
    """Return how a tensor with the elements of an array, or of its transpose, is made again, as `__reduce_ex__` does."""
    elements: Any = np.ascontiguousarray(array).reshape(-1).view("u1")
    buffer = pickle.PickleBuffer(elements) if protocol >= _OUT_OF_BAND else elements.tobytes()
    return rebuild, (kind, buffer, array.dtype, array.shape, str(device), transposed)


def rebuild(
    kind: type[Described], buffer: Any, dtype: np.dtype[Any], shape: tuple[int, ...], device: str, transposed: bool = False
) -> Any:
    """Return the tensor that `reduce_array` described."""
    tensor: Any = _rebuild_in_c_order(kind, buffer, dtype, shape, device)
    return tensor.T if transposed else tensor


def _rebuild_in_c_order(kind: type[Described], buffer: Any, dtype: np.dtype[Any], shape: tuple[int, ...], device: str) -> Any:
    array: HostArray = np.frombuffer(buffer, "u1").view(dtype).reshape(shape) if len(memoryview(buffer)) else np.empty(shape, dtype)
    where = parse_device(device)
    if where.kind == "cpu" and not isinstance(buffer, (bytes, bytearray)) and array.size:
        return native.holder(kind, array, Elsewhere(where))
    return native.holder(kind, *copy_into_pool(array, current_pool(where)))
