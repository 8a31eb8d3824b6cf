"""Copies of arrays between the host and devices, in the order of the streams involved.

A copy that does not block goes through pinned memory, which stays untouched until the copy is done: its block is recorded on the
stream, and pending until that has passed. Cost: one pass over the elements more, on the host.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._backend import Device
from ._device_array import DeviceArray, make_device_array
from ._errors import TensorCoreError
from ._global import current_pool
from ._lib import address_of, find_block
from ._registry import pools

if TYPE_CHECKING:
    from ._pool import MemoryPool

    HostArray = np.ndarray[Any, np.dtype[Any]]


def new_array(pool: MemoryPool, shape: Any, dtype: Any) -> Any:
    """Return an array in a block of a pool; OutOfMemoryError where it gives none."""
    array = pool._make_empty(pool, shape, dtype)
    return array if array is not None else pool._refuse(np.broadcast_to(np.zeros((), dtype), shape).nbytes)


def copy_into_pool(array: HostArray | DeviceArray, pool: MemoryPool, *, blocking: bool = True) -> tuple[Any, MemoryPool]:
    """Return a copy of an array in memory of a pool, on whichever device, and the pool that it is in.

    That is another pool only for a copy from a device to the CPU that does not block: the pinned pool of the device.
    """
    if isinstance(array, DeviceArray):
        if pool.upstream.host_memory:
            return _to_host(array, pool, blocking=blocking)
        return _between_devices(array, pool), pool
    if not pool.upstream.host_memory:
        return _to_device(array, pool, blocking=blocking), pool
    copy = new_array(pool, array.shape, array.dtype)
    copy[...] = array
    return copy, pool


def _to_device(array: HostArray, pool: MemoryPool, *, blocking: bool) -> DeviceArray:
    upstream = pool.upstream
    target: DeviceArray = new_array(pool, array.shape, array.dtype)
    if target.nbytes == 0:
        return target
    stream = upstream.current_stream()
    source = np.ascontiguousarray(array) if blocking else _pin(array, pool.device.index)
    upstream.write(target.ptr, source.ctypes.data, target.nbytes, stream)
    if blocking or not _hold(source, pool.device.index, stream):
        upstream.wait_for(stream)
    return target


def _pin(array: HostArray, index: int) -> HostArray:
    """Return the array in C order in pinned memory of a device: itself where it is that already."""
    owner = pools.get(address_of(find_block(array.ctypes.data).pool))
    if owner is not None and owner.device == Device("pinned", index) and array.flags.c_contiguous:
        return array
    pinned: HostArray = new_array(current_pool(Device("pinned", index)), array.shape, array.dtype)
    pinned[...] = array
    return pinned


def _hold(array: HostArray, index: int, stream: int) -> bool:
    """Keep the pinned block of an array, once freed, until what a stream of a device was given is done; False where that failed."""
    address = array.ctypes.data
    block = find_block(address)
    owner = pools.get(address_of(block.pool))
    if owner is None or owner.device != Device("pinned", index):
        return False
    owner.upstream.used_on(stream, address, array.nbytes)
    try:
        owner.record_stream(address_of(block.start), stream)
    except TensorCoreError:
        return False
    return True


def _to_host(array: DeviceArray, pool: MemoryPool, *, blocking: bool) -> tuple[HostArray, MemoryPool]:
    memory = array.memory
    if not blocking and pool.device.kind == "cpu":
        pool = current_pool(Device("pinned", memory.index))
    target: HostArray = new_array(pool, array.shape, array.dtype)
    if target.nbytes == 0:
        return target, pool
    stream = memory.upstream.current_stream()
    source = array if array.contiguous else compact(array, current_pool(Device("cuda", memory.index)))
    memory.upstream.read(target.ctypes.data, source.ptr, source.nbytes, stream)
    if blocking or not _hold(target, memory.index, stream):
        memory.upstream.wait_for(stream)
    return target, pool


def compact(array: DeviceArray, pool: MemoryPool) -> DeviceArray:
    """Return a copy of an array in C order on its device."""
    copy: DeviceArray = new_array(pool, array.shape, array.dtype)
    copy.assign(..., array)
    return copy


def _between_devices(array: DeviceArray, pool: MemoryPool) -> DeviceArray:
    """Copy on the source's stream, after the target's and before what follows on it."""
    target = make_device_array(pool, array.shape, array.dtype)
    if target is None:
        pool._refuse(array.nbytes)
    memory = array.memory
    if memory.index == pool.device.index:
        target.assign(..., array)
        return target
    source = array if array.contiguous else compact(array, current_pool(Device("cuda", memory.index)))
    here, there = memory.upstream.current_stream(), pool.upstream.current_stream()
    pool.upstream.order(there, memory.upstream, here)
    memory.upstream.write(target.ptr, source.ptr, source.nbytes, here)
    memory.upstream.order(here, pool.upstream, there)
    pool.upstream.used_on(there, target.ptr, target.nbytes)
    return target


def record_use(array: DeviceArray, stream: int) -> None:
    """Let the array's block, once freed, wait for a stream; memory that is not of a pool is its owner's affair."""
    block = find_block(array.memory.ptr)
    owner = pools.get(address_of(block.pool))
    if owner is not None:
        owner.record_stream(address_of(block.start), stream)
