"""An external memory manager for Numba, with device arrays from TensorCore's pools.

    NUMBA_CUDA_MEMORY_MANAGER=tensorcore.numba_plugin python your_script.py

Numba does not say on which streams an array is used, so a block that comes back waits for an event on the default stream: CUDA lets
that stream wait for all others (but those made with cudaStreamNonBlocking, of which Numba makes none). Pinned and mapped host
memory stays Numba's own. Limit: another process can open a block (IPC) only with its whole segment.
"""

from __future__ import annotations

import ctypes
import weakref
from typing import TYPE_CHECKING, Any

from numba.cuda import GetIpcHandleMixin, HostOnlyCUDAMemoryManager, MemoryInfo, MemoryPointer

from . import _cupy
from ._global import current_pool
from ._lib import OK, lib, pointer

if TYPE_CHECKING:
    from ._pool import MemoryPool

_DEFAULT_STREAM = 0
_NOBODYS_STREAM = 2  # cudaStreamPerThread: not the default stream, so that this one counts as a further user


class TensorCoreMemoryManager(GetIpcHandleMixin, HostOnlyCUDAMemoryManager):  # type: ignore[misc] # numba.cuda is untyped
    """Takes the memory of device arrays from the pool of the context's device: that of a scope, else the global one."""

    interface_version = 1

    def initialize(self) -> None:
        """Do nothing: a pool is made at its first use."""

    def pool(self) -> MemoryPool:
        """Return the pool that this context allocates from now."""
        return current_pool(f"cuda:{self.context.device.id}")

    def memalloc(self, size: int) -> Any:
        """Return a `numba.cuda.MemoryPointer` that owns a block; `tensorcore.OutOfMemoryError` where there is none."""
        address = self.pool().allocate(size, stream=_NOBODYS_STREAM)
        return MemoryPointer(weakref.proxy(self.context), ctypes.c_void_p(address), size, finalizer=lambda: _give_back(address))

    def get_memory_info(self) -> Any:
        """Return the free and total bytes of the current device."""
        free, total = _cupy.runtime().memGetInfo()
        return MemoryInfo(free=free, total=total)


def _give_back(address: int, _lib: Any = lib) -> None:
    """Return a block once all streams have passed. Where the device can't tell that any more, nobody gets the block."""
    block = pointer(address)
    if _lib.tc_pool_record_stream(_lib.tc_pool_of(block), block, _DEFAULT_STREAM) == OK:
        _lib.tc_free(block)


_numba_memory_manager = TensorCoreMemoryManager
"""What Numba looks for in the module that NUMBA_CUDA_MEMORY_MANAGER names."""
