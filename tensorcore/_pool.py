"""MemoryPool: the Python face of one pool of the core.

A pair of allocate and deallocate costs about 200 ns. Blocks that are alive when their pool is closed or dropped stay valid.
"""

from __future__ import annotations

import contextlib
import operator
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, Literal, Self, SupportsIndex

from . import _cpu as _cpu  # registers the CPU backend
from . import _cuda as _cuda  # registers the backends of a GPU
from ._backend import Device, backend_of, find_upstream, parse_device
from ._defaults import enter_pool, leave_pool, set_default
from ._errors import PoolState
from ._lib import (
    ALIGNMENT,
    CLOSED,
    DEVICE_ALIGNMENT,
    INVALID_FREE,
    OK,
    OUT_OF_MEMORY,
    address_of,
    ffi,
    find_block,
    lib,
    native,
    pointer,
    pool_name,
    raise_status,
)
from ._options import (
    parse_alignment,
    parse_decay,
    parse_huge_pages,
    parse_limit,
    parse_name,
    parse_numa,
    set_mode,
)
from ._pool_base import PoolBase
from ._registry import defaults, open_pools, pools, user_of
from ._runs import PoolKey, note_closing
from ._units import parse_size

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from ._upstream import Upstream


class MemoryPool(PoolBase):
    """A pool of memory on one device: hands out aligned blocks from segments that it gets from an upstream and keeps.

    Everything may be called from any thread.

    Parameters
    ----------
    initial_capacity
        Bytes (or ``'16MiB'``) reserved at once, with blocks of 64 B, 128 B ... 64 KiB preallocated in them.
    device
        Where the memory is: ``"cpu"``, ``"cuda:1"`` (``"cuda"`` is ``"cuda:0"``), or ``"pinned"``: host memory that GPU 0 copies to
        and from by itself (``"pinned:1"``: GPU 1).
    limit
        Cap on the reserved bytes: bytes, ``'8GiB'``, or a float in (0, 1], the fraction of the memory that this process may use
        (the machine's, or its cgroup's where that is lower; the card's). None: no cap.
    decay
        Seconds until freed pages that stay unused return to the upstream. None: never, as on every device but the CPU.
    huge_pages
        ``"auto"``, ``"on"`` or True, ``"off"`` or False. The CPU's alone.
    numa
        None: no preference, the only value so far.
    name
        At most 63 characters, shown in statistics and messages. None: ``"pool-N"``.
    upstream
        Where segments come from. None: the device's own. On the CPU ``"os"``; on a GPU ``"cuda"`` (cudaMalloc), ``"managed"``
        (cudaMallocManaged), ``"async"`` (cudaMallocAsync); pinned ``"cuda"`` (cudaHostAlloc); on each ``"fake"``, which needs no
        GPU. Or an `Upstream`.
    mode
        What is checked beyond address, start and in use: ``"fast"``, ``"checked"`` or ``"hardened"`` (docs/modes.md). None: what
        the environment variable TENSORCORE_MODE says, else ``"fast"``.
    on_fault
        ``"raise"``, or ``"abort"``: a report to stderr and the process's end. None: what TENSORCORE_ON_FAULT says, else raise.
    zero_on_free
        Zero each block when it comes back; not in mode ``"fast"``.
    guard_every
        Mode ``"hardened"``: one in so many blocks up to 512 KiB lies between guard pages; 0: none. None: 16,384.

    Raises
    ------
    ValueError
        A parameter is out of its range.
    OutOfMemoryError
        `initial_capacity` could not be reserved.
    DeviceUnavailableError
        There is no such device, or CuPy, the driver or the GPU is missing; the message says which and what mends it.

    Examples
    --------
    >>> pool = MemoryPool("16MiB")
    >>> address = pool.allocate(1024)
    >>> pool.deallocate(address, 1024)
    """

    __slots__ = ("__weakref__", "_address", "_current_stream", "_finalizer", "_key", "_make_empty", "_make_zeros")

    def __init__(
        self,
        initial_capacity: SupportsIndex | str = 0,
        *,
        device: str | Device = "cpu",
        limit: SupportsIndex | str | float | None = None,
        decay: float | None = 10.0,
        huge_pages: Literal["auto", "on", "off"] | bool = "auto",
        numa: int | None = None,
        name: str | None = None,
        upstream: Upstream | Literal["os", "cuda", "managed", "async", "fake"] | None = None,
        mode: Literal["fast", "checked", "hardened"] | None = None,
        on_fault: Literal["raise", "abort"] | None = None,
        zero_on_free: bool = False,
        guard_every: int | None = None,
    ) -> None:
        where = parse_device(device)
        super().__init__(where, find_upstream(upstream, where))
        backend = backend_of(where.kind)
        self._make_empty = backend.array_maker(self._upstream)
        self._make_zeros = backend.array_maker(self._upstream, zeroed=True)
        device_memory = self._upstream.stream_ordered and not self._upstream.host_memory
        self._current_stream = self._upstream.current_stream if device_memory else None
        options = ffi.new("tc_pool_options *")
        lib.tc_pool_options_init(options)
        encoded_name = parse_name(name)
        c_name = ffi.NULL if encoded_name is None else ffi.new("char[]", encoded_name)  # lives until the core has copied it
        options.name = c_name
        options.upstream = self._upstream._table
        options.limit = parse_limit(limit, where, self._upstream)
        options.device = where.index if device_memory else -1
        options.decay = parse_decay(decay)
        options.numa_node = parse_numa(numa)
        options.huge_pages = parse_huge_pages(huge_pages)
        options.initial_capacity = parse_size(initial_capacity, "initial_capacity")
        if zero_on_free and (self._upstream.stream_ordered or not self._upstream.host_memory):
            raise ValueError(f"zero_on_free needs memory that the CPU writes in order; upstream {self._upstream.name!r} has none")
        set_mode(options, mode, on_fault, zero_on_free, guard_every)
        self._open(options)

    def _open(self, options: Any) -> None:
        created = ffi.new("tc_pool **")
        status = lib.tc_pool_create(options, created)
        if status == OUT_OF_MEMORY:
            raise self._out_of_memory(options.initial_capacity, PoolState("new", str(self._device), 0, 0, options.limit or None, 0))
        if status != OK:
            raise_status(status, "a pool could not be made", detail="the C core refused its options")
        self._address = address = address_of(created[0])
        self._name = pool_name(created[0])
        lib.tc_pool_on_out_of_memory(created[0], lib.tensorcore_on_out_of_memory, ffi.NULL)
        native.pool_open(self, address)
        self._key = PoolKey(str(self._device))
        pools[address] = self
        self._finalizer = weakref.finalize(self, _destroy, address, self._key, self._upstream)
        self._finalizer.atexit = False  # blocks may outlive the interpreter; the operating system takes everything back

    # ---- blocks -----------------------------------------------------------------------------------------------------------------

    def allocate(self, nbytes: SupportsIndex, *, alignment: int | None = None, stream: object = None) -> int:
        """Return the address of a block of at least `nbytes` bytes; 0 bytes give a distinct block too.

        It is aligned to 64 bytes, on a device to 512.

        Parameters
        ----------
        nbytes
            The size of the request in bytes.
        alignment
            Bytes, a power of two up to 2 MiB, where that is not enough.
        stream
            The stream that will use the block: a handle, or an object with ``__cuda_stream__``, ``ptr`` or ``cuda_stream``. None:
            the device's current stream; on ``"pinned"`` none at all. The CPU has no streams.

        Raises
        ------
        OutOfMemoryError
            The limit or the upstream refused.
        DeviceUnavailableError
            The device failed, or the pool was made before this process was forked.
        PoolClosedError
            The pool was closed.
        """
        if alignment is not None or stream is not None:
            return self._allocate_with(nbytes, alignment, stream)
        if self._current_stream is None:
            return native.allocate(self, nbytes) or self._refuse(nbytes)
        return native.allocate_on(self, nbytes, self._current_stream()) or self._refuse(nbytes)

    def _allocate_with(self, nbytes: SupportsIndex, alignment: int | None, stream: object) -> int:
        """Allocate with an alignment, on a stream, or both."""
        handle = None if stream is None and self._current_stream is None else self._stream(stream)
        bytes_wanted, aligned_to = parse_size(nbytes, "a request"), parse_alignment(alignment or self._alignment)
        with self._lock:
            pool = self._pointer()
            if handle is None:
                block = lib.tc_pool_alloc_aligned(pool, bytes_wanted, aligned_to)
            else:
                block = lib.tc_pool_alloc_aligned_on(pool, bytes_wanted, aligned_to, handle)
        return address_of(block) or self._refuse(nbytes)

    @property
    def _alignment(self) -> int:
        return DEVICE_ALIGNMENT if self._upstream.stream_ordered else ALIGNMENT

    def deallocate(self, address: int, nbytes: SupportsIndex | None = None, *, stream: object = None) -> None:
        """Take a block back. A refused call changes nothing.

        Parameters
        ----------
        address
            What `allocate` returned; 0 is ignored.
        nbytes
            The size that was asked for, to have it checked; None: unchecked.
        stream
            The stream whose work used the block last, or that waits for that work. None: the stream it was allocated on.

        Raises
        ------
        InvalidFreeError, DoubleFreeError, SizeMismatchError
            The address is not the start of a block of this pool; the block is not in use; the size is another one.
        """
        if stream is None:
            status = native.deallocate(self, address, nbytes)
        else:
            status = native.deallocate_on(self, address, nbytes, self._stream(stream))
        if status != OK:
            self._deallocate_slowly(status, address, nbytes)

    def _deallocate_slowly(self, status: int, address: int, nbytes: SupportsIndex | None) -> None:
        """Take back a block that outlived `close`, or raise what the status means."""
        size = None if nbytes is None else operator.index(nbytes)
        if status == CLOSED:
            status = self._deallocate_closed(address, size)
        if status != OK:
            raise_status(status, f"pool {self._name!r} refused to deallocate 0x{address:x}", address=address, nbytes=size)

    def _deallocate_closed(self, address: int, nbytes: int | None) -> int:
        """Return the status of a deallocation through the block, whose pool lives as long as the block does."""
        owner = find_block(address).pool
        if address_of(owner) != self._address:
            return INVALID_FREE
        block = pointer(address)
        return int(lib.tc_pool_free(owner, block) if nbytes is None else lib.tc_pool_free_sized(owner, block, nbytes))

    # ---- life -------------------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Hand out nothing more and give back what is not in use; a second call does nothing.

        Blocks that are alive stay valid and can still be deallocated; their memory goes back with the last of them.

        Raises
        ------
        ValueError
            The pool is installed under NumPy, CuPy or PyTorch.
        """
        with self._lock:
            address = native.pool_address(self)
            if address == 0:
                return
            if address == native.hook_pool():
                raise ValueError(f"pool {self._name!r} is installed under NumPy: call tensorcore.uninstall() before closing it")
            library = user_of(self)
            if library is not None:
                raise ValueError(f"pool {self._name!r} is installed under {library}: uninstall it there before closing it")
            if defaults.get(str(self._device)) is self:
                set_default(self._device, None)
            native.pool_close(self)
            pools.pop(address, None)
            self._finalizer()

    def __enter__(self) -> Self:
        """Make this pool the one of its device for this thread or task; leaving the outermost with-block closes it."""
        enter_pool(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if not leave_pool(self):
            self.close()

    @contextlib.contextmanager
    def use(self) -> Iterator[Self]:
        """Make this pool the one of its device inside the with-block, for this thread or task; it stays open afterwards.

        Examples
        --------
        >>> pool = MemoryPool(limit="1GiB")
        >>> with pool.use():
        ...     x = Tensor((1000, 1000))
        """
        enter_pool(self)
        try:
            yield self
        finally:
            leave_pool(self)

    def __repr__(self) -> str:
        return f"<MemoryPool {self._name!r} on {self._device}{', closed' if self.closed else ''}>"


def _destroy(address: int, key: PoolKey, upstream: Upstream) -> None:  # noqa: ARG001 - keeps the upstream until its pool is gone
    note_closing(address, key)
    lib.tc_pool_destroy(pointer(address, "tc_pool *"))


def _renew_locks() -> None:
    """In the child of a fork: another thread of the parent may have held a lock, and is not here to release it."""
    for pool in open_pools():
        pool._lock = threading.RLock()


os.register_at_fork(after_in_child=_renew_locks)
