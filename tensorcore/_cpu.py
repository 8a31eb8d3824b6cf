"""The CPU backend: NumPy arrays in blocks of a host pool.

An array owns its block itself where NumPy's layout is the known one (no finaliser, about the cost of numpy.empty); else an owner
object behind the array gives the block back, which is slower by 10 µs and right everywhere.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ._backend import Backend, register_backend
from ._lib import arrays_can_own_blocks, lib, native, pointer
from ._upstream import OS_UPSTREAM, FakeUpstream, Upstream

if TYPE_CHECKING:
    from collections.abc import Callable


class CpuBackend(Backend):
    """The memory of this machine."""

    kind = "cpu"
    upstreams = ("os", "fake")
    wants = "the CPU has no streams; FakeUpstream is the fake for it"

    def accepts(self, upstream: Upstream) -> bool:
        """Return whether an upstream is without streams."""
        return not upstream.stream_ordered

    def why_unavailable(self) -> str | None:
        """Return None: there is always a CPU."""
        return None

    def device_count(self) -> int:
        """Return 1: all cores share one memory."""
        return 1

    def memory(self, index: int) -> int:  # noqa: ARG002 - the interface's signature
        """Return the machine's memory, or the cgroup's limit where that is lower, in bytes."""
        from ._machine import memory_limit  # for a limit given as a fraction only: it brings pathlib

        return memory_limit()

    def upstream(self, index: int, name: str | None = None) -> Upstream:  # noqa: ARG002 - the interface's signature
        """Return the operating system's memory, or a fake one."""
        return FakeUpstream() if name == "fake" else OS_UPSTREAM

    def array_maker(self, upstream: Upstream, *, zeroed: bool = False) -> Callable[[native.PoolHandle, Any, Any], Any | None]:
        """Return the C function that makes an array, or a stand-in where there is none."""
        if not upstream.host_memory:
            return refuse_array
        if arrays_can_own_blocks:
            return native.zeros if zeroed else native.empty
        return zeros_with_owner if zeroed else empty_with_owner


def refuse_array(pool: native.PoolHandle, shape: Any, dtype: Any) -> Any:  # noqa: ARG001 - an array maker's signature
    """Raise: the addresses of this pool mean nothing to the CPU."""
    raise ValueError(f"{pool!r} hands out addresses that the CPU can't use: it has allocate and deallocate, but no arrays")


class _Owner:
    """Holds a block for the array that is made over it, and gives it back with the last reference."""

    __slots__ = ("__array_interface__", "_address")

    def __init__(self, address: int, nbytes: int) -> None:
        self._address = address
        self.__array_interface__ = {"data": (address, False), "shape": (nbytes,), "typestr": "|u1", "version": 3}

    def __del__(self) -> None:
        lib.tc_free(pointer(self._address))


def empty_with_owner(pool: native.PoolHandle, shape: Any, dtype: Any) -> np.ndarray[Any, np.dtype[Any]] | None:
    """Return an array over a block that an owner object holds; None where the pool refused."""
    model = np.broadcast_to(np.zeros((), dtype), shape)  # NumPy checks shape and dtype, and no memory is touched
    if model.dtype.hasobject:
        raise TypeError(f"pool memory holds plain data, not the Python objects of {model.dtype!r}: use numpy.empty for those")
    nbytes = max(1, math.prod(model.shape) * model.dtype.itemsize)
    address = native.allocate(pool, nbytes)
    return np.ndarray(model.shape, model.dtype, np.asarray(_Owner(address, nbytes))) if address else None


def zeros_with_owner(pool: native.PoolHandle, shape: Any, dtype: Any) -> np.ndarray[Any, np.dtype[Any]] | None:
    """Return the same, cleared."""
    array = empty_with_owner(pool, shape, dtype)
    if array is not None:
        array.reshape(-1).view("u1")[...] = 0
    return array


register_backend(CpuBackend())
