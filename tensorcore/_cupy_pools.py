"""CupyMemoryPool and CupyPinnedMemoryPool: TensorCore's pools with the methods of CuPy's own, to be put in their place.

An allocation and its deallocation cost what CuPy's CFunctionAllocator does and one question for the current stream; once the
program has used a memory hook, two more. Limit: the memory objects are CuPy's CFunctionAllocatorMemory, not its PooledMemory,
which only its own pool can make.
"""

from __future__ import annotations

import threading
import warnings
from typing import TYPE_CHECKING, Any, SupportsIndex

from . import _cupy
from ._errors import DeviceMismatchError
from ._global import get_global_memory_pool
from ._lib import find_block, lib, native, pointer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ._pool import MemoryPool

_UNIT = 512  # bytes: what CuPy rounds to, in what it tells memory hooks


class _Face:
    """What both faces share: the pools by the number of their device."""

    _kind: str

    def __init__(self, pools: Iterable[MemoryPool] = ()) -> None:
        self._pools: dict[int, MemoryPool] = {}
        for pool in pools:
            if pool.device.kind != self._kind:
                raise DeviceMismatchError(f"{pool!r} is not of a device {self._kind!r}")
            if pool.device.index in self._pools:
                raise ValueError(f"{pool!r} is the second pool of its device; give one for each")
            self._pools[pool.device.index] = pool

    @property
    def pools(self) -> tuple[MemoryPool, ...]:
        """The pools that are in use so far."""
        return tuple(self._pools.values())

    def pool(self, device: int | None = None) -> MemoryPool:
        """Return the pool of a device, None: of the current one; where none was given, the global pool."""
        index = self._current_device() if device is None else device
        found = self._pools.get(index)
        if found is None:
            found = self._pools.setdefault(index, get_global_memory_pool(f"{self._kind}:{index}"))
        return found

    def _current_device(self) -> int:
        return int(_cupy.runtime().getDevice())

    def n_free_blocks(self) -> int:
        """Return how many free blocks the pool holds; a run of free pages counts as one, however long."""
        pool = self.pool()
        return sum(size_class.cached for size_class in pool.size_classes) + (pool.statistics.free_run_bytes > 0)


class CupyMemoryPool(_Face):
    """Device pools with the face of `cupy.cuda.MemoryPool`; calls mean the pool of the current device, as CuPy's do.

    Its `malloc` is an allocator for `cupy.cuda.set_allocator` and `using_allocator`. `tensorcore.install` makes one and puts it in.

    Parameters
    ----------
    pools
        `MemoryPool` objects, at most one for each GPU. A GPU without one uses its global pool.

    Raises
    ------
    DeviceMismatchError
        A pool is not of a device ``"cuda"``.

    Examples
    --------
    >>> pool = CupyMemoryPool([MemoryPool(device="cuda", limit=0.5)])  # doctest: +SKIP
    >>> cupy.cuda.set_allocator(pool.malloc)  # doctest: +SKIP
    """

    _kind = "cuda"

    malloc: Callable[[int], Any]
    """Return a `cupy.cuda.MemoryPointer` to so many bytes on CuPy's current device and stream, or raise `OutOfMemoryError`."""

    def __init__(self, pools: Iterable[MemoryPool] = ()) -> None:
        super().__init__(pools)
        hooks = _cupy.module().cuda.memory_hook
        self._hooks: Callable[[], dict[str, Any]] = hooks.get_memory_hooks
        self._freed = threading.local()
        functions = (self._current_stream_function(), hooks._has_memory_hooks, self._hooks, self._allocate, self._call_free_hooks)
        self._port = native.CupyPort(*functions)
        _watch_hooks(hooks.MemoryHook, self._port, bool(self._hooks()))
        self.malloc = self._make_malloc()

    def _current_stream_function(self) -> Callable[[], Any]:
        function: Callable[[], Any] = _cupy.module().cuda.get_current_stream
        return function

    def _make_malloc(self) -> Callable[[int], Any]:
        """Return CuPy's own wrapper around the two C functions: it takes the current device, and makes memory and pointer."""
        port = self._port
        malloc: Callable[[int], Any] = (
            _cupy.module().cuda.memory.CFunctionAllocator(port.param, port.malloc, port.free, self).malloc
        )
        return malloc

    # ---- what the port calls where it is not simple -----------------------------------------------------------------------------

    def _allocate(self, nbytes: int, device: int) -> int:
        """Return a block's address, with CuPy's hooks called; what it needed to know is remembered for the next time."""
        pool = self.pool(device)
        stream = self._current_stream_function()()
        handle = pool.upstream.stream(stream)
        self._port.remember(device, pool, stream, handle)
        if self._hooks():
            return self._allocate_hooked(pool, nbytes, device, handle)
        return native.allocate_on(pool, nbytes, handle) or pool._refuse(nbytes)

    def _allocate_hooked(self, pool: MemoryPool, nbytes: int, device: int, stream: int) -> int:
        """Allocate between CuPy's hooks. Those of new device memory come after it: before, nobody knows that it will be needed."""
        hooks = list(self._hooks().values())
        size = {"device_id": device, "mem_size": -(-nbytes // _UNIT) * _UNIT}
        for hook in hooks:
            hook.malloc_preprocess(size=nbytes, **size)
        held = pool.statistics.reserved.total_allocated
        address = 0
        try:
            address = native.allocate_on(pool, nbytes, stream)
        finally:
            grown = pool.statistics.reserved.total_allocated - held
            if grown or not address:
                segment = {"device_id": device, "mem_size": grown or size["mem_size"]}
                for hook in hooks:
                    hook.alloc_preprocess(**segment)
                for hook in hooks:
                    hook.alloc_postprocess(mem_ptr=address, **segment)
            for hook in hooks:
                hook.malloc_postprocess(size=nbytes, mem_ptr=address, pmem_id=address, **size)
        return address or pool._refuse(nbytes)

    def _call_free_hooks(self, address: int, device: int, is_after: int) -> None:
        """Call CuPy's hooks before and after a deallocation; `pmem_id` is the address, as at the allocation."""
        if not is_after:
            self._freed.size = -(-int(find_block(address).requested) // _UNIT) * _UNIT
        details = {"device_id": device, "mem_size": self._freed.size, "mem_ptr": address, "pmem_id": address}
        for hook in self._hooks().values():
            (hook.free_postprocess if is_after else hook.free_preprocess)(**details)

    # ---- CuPy's methods ---------------------------------------------------------------------------------------------------------

    def free_all_blocks(self, stream: Any = None) -> None:
        """Give all cached memory back to the device; with a stream, what that stream freed and is done with."""
        self.pool().trim(stream=stream)

    def free_all_free(self) -> None:
        """Do the same as `free_all_blocks`, with CuPy's DeprecationWarning."""
        warnings.warn("free_all_free is deprecated: call free_all_blocks", DeprecationWarning, stacklevel=2)
        self.free_all_blocks()

    def used_bytes(self) -> int:
        """Return the bytes in live blocks (their capacity)."""
        return self.pool().statistics.allocated.current

    def free_bytes(self) -> int:
        """Return the bytes held and not in use, those that wait for a stream too."""
        figures = self.pool().statistics
        return figures.reserved.current - figures.allocated.current

    def total_bytes(self) -> int:
        """Return the bytes held from the device."""
        return self.pool().statistics.reserved.current

    def set_limit(self, size: SupportsIndex | None = None, fraction: float | None = None) -> None:
        """Cap the bytes held on the current device: in bytes, or as a fraction of its memory; neither, or 0: no cap.

        Raises
        ------
        ValueError
            Both were given, or one is out of its range.
        """
        if size is not None and fraction is not None:
            raise ValueError(f"size and fraction cannot be specified at one time: {size!r} and {fraction!r}; give one")
        if fraction is not None:
            if not 0 <= fraction <= 1:
                raise ValueError(f"a memory limit as a fraction is out of range: {fraction!r} is not in 0 to 1")
            self.pool().limit = float(fraction) or None
            return
        nbytes = 0 if size is None else int(size)
        if nbytes < 0:
            raise ValueError(f"a memory limit is out of range: {nbytes} is below 0 bytes")
        self.pool().limit = nbytes or None

    def get_limit(self) -> int:
        """Return the cap on the bytes held on the current device; 0: none."""
        return self.pool().limit or 0


def _watch_hooks(kind: Any, port: native.CupyPort, in_use: bool) -> None:
    """Let ports ask for memory hooks from the first one on that is entered; `in_use`: this thread has some already.

    Limit: hooks that another thread has entered before the first face was made are seen from the next one on.
    """
    enter = kind.__enter__
    if in_use:
        port.ask_for_hooks()
    if getattr(enter, "is_tensorcores", False):
        return

    def watched_enter(hook: Any) -> Any:
        port.ask_for_hooks()
        return enter(hook)

    watched_enter.is_tensorcores = True  # type: ignore[attr-defined]
    kind.__enter__ = watched_enter


class CupyPinnedMemoryPool(_Face):
    """Pools of page-locked host memory with the face of `cupy.cuda.PinnedMemoryPool`; sizes are exact, not powers of two.

    CuPy keeps such memory until the copies that use it are done, so a block is free for anybody at once when it comes back.

    Parameters
    ----------
    pools
        `MemoryPool` objects with ``device="pinned"``, at most one for each GPU; a GPU without one uses its global pool.
    """

    _kind = "pinned"

    def __init__(self, pools: Iterable[MemoryPool] = ()) -> None:
        super().__init__(pools)
        self._memory = _cupy.module().cuda.PinnedMemory
        self._pointer = _cupy.module().cuda.PinnedMemoryPointer
        self._pooled = type("PooledPinnedMemory", (_PinnedBlock, self._memory), {"__module__": __name__})

    def malloc(self, size: SupportsIndex) -> Any:
        """Return a `cupy.cuda.PinnedMemoryPointer` to so many bytes; `OutOfMemoryError` where there are none."""
        nbytes = int(size)
        if nbytes == 0:
            return self._pointer(self._memory(0), 0)
        pool = self.pool()
        return self._pointer(self._pooled(native.allocate(pool, nbytes) or pool._refuse(nbytes), nbytes), 0)

    def free_all_blocks(self) -> None:
        """Give all cached memory back to the system."""
        self.pool().trim()


class _PinnedBlock:
    """Owns a block as CuPy's PinnedMemory owns its memory; a base before that class, whose `__del__` would call cudaFreeHost."""

    def __init__(self, address: int, nbytes: int) -> None:
        self.ptr = address
        self.size = nbytes

    def free(self, *, _free: Any = lib.tc_free, _pointer: Any = pointer) -> None:
        """Give the block back; a second call does nothing. Its names stay bound when the interpreter takes modules apart."""
        address, self.ptr, self.size = self.ptr, 0, 0
        if address:
            _free(_pointer(address))

    __del__ = free
