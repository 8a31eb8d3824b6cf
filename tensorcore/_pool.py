"""MemoryPool: the Python face of one pool of the core.

A pair of allocate and deallocate costs about 200 ns. Blocks that are alive when their pool is closed or dropped stay valid.
"""

from __future__ import annotations

import operator
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, SupportsIndex

from . import _cpu as _cpu  # registers the CPU backend
from ._backend import Device, find_backend
from ._backend import device as find_device
from ._callbacks import add_callback
from ._errors import OutOfMemoryError, PoolClosedError, PoolState
from ._lib import (
    ALIGNMENT,
    CLOSED,
    INVALID_FREE,
    OK,
    OUT_OF_MEMORY,
    address_of,
    arrays_can_own_blocks,
    ffi,
    find_block,
    lib,
    native,
    pointer,
    pool_name,
    raise_status,
)
from ._options import (
    MODE_NAMES,
    parse_alignment,
    parse_decay,
    parse_huge_pages,
    parse_limit,
    parse_name,
    parse_numa,
    require_no_stream,
    set_mode,
)
from ._registry import defaults, open_pools, pools
from ._runs import PoolKey, note_closing
from ._statistics import MemoryStatistics, SizeClassStatistics, read_size_classes, read_statistics
from ._units import parse_size
from ._upstream import Upstream, find_upstream

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


class MemoryPool(native.PoolHandle):
    """A pool of memory on one device: hands out aligned blocks from segments that it gets from an upstream and keeps.

    Everything may be called from any thread.

    Parameters
    ----------
    initial_capacity
        Bytes (or ``'16MiB'``) reserved at once, with blocks of 64 B, 128 B ... 64 KiB preallocated in them.
    device
        Where the memory is: ``"cpu"``.
    limit
        Cap on the reserved bytes: bytes, ``'8GiB'``, or a float in (0, 1], the fraction of the memory that this process may use
        (the machine's, or its cgroup's where that is lower). None: no cap.
    decay
        Seconds until freed pages that stay unused return to the upstream. None: never.
    huge_pages
        ``"auto"``, ``"on"`` or True, ``"off"`` or False.
    numa
        None: no preference, the only value so far.
    name
        At most 63 characters, shown in statistics and messages. None: ``"pool-N"``.
    upstream
        Where segments come from: None (the device's own), ``"os"``, ``"fake"`` or an `Upstream`.
    mode
        What is checked beyond address, start and in use: ``"fast"``, ``"checked"`` or ``"hardened"`` (docs/modes.md). None: what
        the environment variable TENSORCORE_MODE says, else ``"fast"``.
    on_fault
        ``"raise"``, or ``"abort"``: a report to stderr and the process's end. None: what TENSORCORE_ON_FAULT says, else raise.
    zero_on_free
        Zero each block when it comes back; not in mode ``"fast"``.
    guard_every
        Mode ``"hardened"``: one in so many blocks up to 512 KiB lies between guard pages; 0: none. None: 4,096.

    Raises
    ------
    ValueError
        A parameter is out of its range.
    OutOfMemoryError
        `initial_capacity` could not be reserved.
    DeviceUnavailableError
        There is no such device.

    Examples
    --------
    >>> pool = MemoryPool("16MiB")
    >>> address = pool.allocate(1024)
    >>> pool.deallocate(address, 1024)
    """

    __slots__ = (
        "__weakref__",
        "_address",
        "_device",
        "_finalizer",
        "_key",
        "_lock",
        "_make_empty",
        "_make_zeros",
        "_name",
        "_out_of_memory_callbacks",
        "_upstream",
        "_watermark_callback",
    )

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
        upstream: Upstream | Literal["os", "fake"] | None = None,
        mode: Literal["fast", "checked", "hardened"] | None = None,
        on_fault: Literal["raise", "abort"] | None = None,
        zero_on_free: bool = False,
        guard_every: int | None = None,
    ) -> None:
        self._device = find_device(device)
        self._lock = threading.RLock()  # held by calls that release the GIL with the pool's address in hand, and by close
        backend = find_backend(self._device.kind)
        self._upstream = find_upstream(upstream, backend.upstream(self._device.index))
        self._make_empty = backend.array_maker(self._upstream)
        self._make_zeros = backend.array_maker(self._upstream, zeroed=True)
        self._out_of_memory_callbacks: list[Callable[[MemoryPool, int], object]] = []
        self._watermark_callback: Callable[[MemoryPool, float], object] | None = None
        options = ffi.new("tc_pool_options *")
        lib.tc_pool_options_init(options)
        encoded_name = parse_name(name)
        c_name = ffi.NULL if encoded_name is None else ffi.new("char[]", encoded_name)  # lives until the core has copied it
        options.name = c_name
        options.upstream = self._upstream._table
        options.limit = parse_limit(limit, self._device)
        options.decay = parse_decay(decay)
        options.numa_node = parse_numa(numa)
        options.huge_pages = parse_huge_pages(huge_pages)
        options.initial_capacity = parse_size(initial_capacity, "initial_capacity")
        set_mode(options, mode, on_fault, zero_on_free, guard_every)
        self._open(options)

    def _open(self, options: Any) -> None:
        created = ffi.new("tc_pool **")
        status = lib.tc_pool_create(options, created)
        if status == OUT_OF_MEMORY:
            state = PoolState("new", str(self._device), 0, 0, options.limit or None, 0)
            raise OutOfMemoryError(options.initial_capacity, state)
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
        """Return the address of a block of at least `nbytes` bytes, aligned to 64; 0 bytes give a distinct block too.

        Parameters
        ----------
        nbytes
            The size of the request in bytes.
        alignment
            Bytes, a power of two up to 2 MiB, where 64 is not enough.
        stream
            For device pools; None here.

        Raises
        ------
        OutOfMemoryError
            The limit or the upstream refused.
        PoolClosedError
            The pool was closed.
        """
        if alignment is not None or stream is not None:
            return self._allocate_aligned(nbytes, alignment or ALIGNMENT, stream)
        return native.allocate(self, nbytes) or self._refuse(nbytes)

    def _allocate_aligned(self, nbytes: SupportsIndex, alignment: int, stream: object) -> int:
        require_no_stream(stream, self._device)
        parse_alignment(alignment)
        with self._lock:
            address = address_of(lib.tc_pool_alloc_aligned(self._pointer(), parse_size(nbytes, "a request"), alignment))
        return address or self._refuse(nbytes)

    def _refuse(self, nbytes: SupportsIndex) -> NoReturn:
        """Raise what an allocation that got no block means."""
        with self._lock:
            statistics = read_statistics(address_of(self._pointer()))
            raise OutOfMemoryError(
                operator.index(nbytes),
                PoolState(
                    name=self._name,
                    device=str(self._device),
                    allocated=statistics.allocated.current,
                    reserved=statistics.reserved.current,
                    limit=self.limit,
                    largest_free_block=statistics.largest_free_block,
                ),
            )

    def deallocate(self, address: int, nbytes: SupportsIndex | None = None, *, stream: object = None) -> None:
        """Take a block back. A refused call changes nothing.

        Parameters
        ----------
        address
            What `allocate` returned; 0 is ignored.
        nbytes
            The size that was asked for, to have it checked; None: unchecked.
        stream
            For device pools; None here.

        Raises
        ------
        InvalidFreeError, DoubleFreeError, SizeMismatchError
            The address is not the start of a block of this pool; the block is not in use; the size is another one.
        """
        if stream is not None:
            require_no_stream(stream, self._device)
        status = native.deallocate(self, address, nbytes)
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

    # ---- memory held ------------------------------------------------------------------------------------------------------------

    def reserve(self, capacity: SupportsIndex | str) -> None:
        """Hold at least `capacity` bytes (or ``'32MiB'``) from upstream, in total. `trim` gives them back.

        Raises
        ------
        OutOfMemoryError
            The limit or the upstream refused; what was reserved before stays.
        """
        nbytes = parse_size(capacity, "a capacity")
        with self._lock:
            status = lib.tc_pool_reserve(self._pointer(), nbytes)
        if status == OUT_OF_MEMORY:
            self._refuse(nbytes)
        if status != OK:
            raise_status(status, f"pool {self._name!r} could not reserve {nbytes} bytes")

    def trim(self, keep: SupportsIndex | str = 0) -> int:
        """Give cached memory back upstream until at most `keep` bytes stay cached; return the bytes that went back."""
        with self._lock:
            return int(lib.tc_pool_trim(self._pointer(), parse_size(keep, "keep")))

    def check(self) -> None:
        """Walk all metadata; costs time in proportion to the memory held.

        Raises
        ------
        CorruptionError
            An invariant is broken; the message is the first one found.
        """
        message = ffi.new("char[512]")
        with self._lock:
            status = lib.tc_pool_check(self._pointer(), message, len(message))
        if status != OK:
            raise_status(status, f"pool {self._name!r} is damaged", detail=ffi.string(message).decode())

    @property
    def limit(self) -> int | None:
        """Cap on reserved bytes, None: no cap. Set it as in the constructor; below what is reserved it trims and refuses growth."""
        with self._lock:
            return int(lib.tc_pool_limit(self._pointer())) or None

    @limit.setter
    def limit(self, limit: SupportsIndex | str | float | None) -> None:
        nbytes = parse_limit(limit, self._device)
        with self._lock:
            lib.tc_pool_set_limit(self._pointer(), nbytes)

    @property
    def decay(self) -> float | None:
        """Seconds until freed pages that stay unused return to the upstream; None: never. It can be set."""
        with self._lock:
            seconds = float(lib.tc_pool_decay(self._pointer()))
        return seconds if seconds >= 0 else None

    @decay.setter
    def decay(self, seconds: float | None) -> None:
        with self._lock:
            lib.tc_pool_set_decay(self._pointer(), parse_decay(seconds))

    def on_out_of_memory(self, callback: Callable[[MemoryPool, int], object]) -> Callable[[], None]:
        """Call `callback(pool, nbytes)` when this pool is about to refuse: `tensorcore.on_out_of_memory` for one pool."""
        return add_callback(self._out_of_memory_callbacks, callback)

    def warn_at(self, utilization: float, callback: Callable[[MemoryPool, float], object] | None = None) -> None:
        """Warn each time allocated / reserved rises to a ratio; a second call replaces the first.

        Parameters
        ----------
        utilization
            The ratio, above 0 and at most 1.
        callback
            Called as ``callback(pool, utilization)`` on the thread that allocates. None: a Python warning, `UtilizationWarning`.
        """
        if not 0 < utilization <= 1:
            raise ValueError(f"utilization is a ratio above 0 and at most 1, not {utilization!r}")
        with self._lock:
            self._watermark_callback = callback
            lib.tc_pool_warn_at(self._pointer(), utilization, lib.tensorcore_on_watermark, ffi.NULL)

    # ---- figures ----------------------------------------------------------------------------------------------------------------

    @property
    def statistics(self) -> MemoryStatistics:
        """All figures of this pool."""
        with self._lock:
            return read_statistics(address_of(self._pointer()))

    @property
    def size_classes(self) -> tuple[SizeClassStatistics, ...]:
        """The size classes that have seen traffic or hold blocks, ascending by block size."""
        with self._lock:
            return read_size_classes(address_of(self._pointer()))

    @property
    def total_allocated(self) -> int:
        """Bytes in live blocks (their capacity)."""
        return self.statistics.allocated.current

    @property
    def total_capacity(self) -> int:
        """Bytes held from upstream."""
        return self.statistics.reserved.current

    @property
    def utilization_ratio(self) -> float:
        """total_allocated / total_capacity, 0..1; 0 for an empty pool."""
        return self.statistics.utilization_ratio

    @property
    def allocation_count(self) -> int:
        """Blocks handed out, ever."""
        return self.statistics.allocation_count

    @property
    def deallocation_count(self) -> int:
        """Blocks taken back, ever."""
        return self.statistics.deallocation_count

    def reset_peak(self) -> None:
        """Set every peak to its current value."""
        with self._lock:
            lib.tc_pool_reset_peak(self._pointer())

    @property
    def name(self) -> str:
        """The pool's name."""
        return self._name

    @property
    def device(self) -> Device:
        """The device whose memory this is."""
        return self._device

    @property
    def mode(self) -> str:
        """``"fast"``, ``"checked"`` or ``"hardened"``."""
        with self._lock:
            return MODE_NAMES[lib.tc_pool_mode(self._pointer())]

    @property
    def upstream(self) -> Upstream:
        """Where segments come from."""
        return self._upstream

    # ---- life -------------------------------------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return native.pool_address(self) == 0

    def close(self) -> None:
        """Hand out nothing more and give back what is not in use; a second call does nothing.

        Blocks that are alive stay valid and can still be deallocated; their memory goes back with the last of them.

        Raises
        ------
        ValueError
            The pool is installed under NumPy.
        """
        with self._lock:
            address = native.pool_address(self)
            if address == 0:
                return
            if address == native.hook_pool():
                raise ValueError(f"pool {self._name!r} is installed under NumPy: call tensorcore.uninstall() before closing it")
            if defaults.get(str(self._device)) is self:
                set_default(self._device, None)
            native.pool_close(self)
            pools.pop(address, None)
            self._finalizer()

    def _pointer(self) -> Any:
        """Return the tc_pool; the caller holds the lock, so that it stays one."""
        address = native.pool_address(self)
        if address == 0:
            raise PoolClosedError(f"pool {self._name!r} was closed; make a new MemoryPool")
        return pointer(address, "tc_pool *")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<MemoryPool {self._name!r} on {self._device}{', closed' if self.closed else ''}>"


def _destroy(address: int, key: PoolKey, upstream: Upstream) -> None:  # noqa: ARG001 - keeps the upstream until its pool is gone
    note_closing(address, key)
    lib.tc_pool_destroy(pointer(address, "tc_pool *"))


def set_default(where: Device, pool: MemoryPool | None) -> MemoryPool | None:
    """Make a pool the default of its device, None: no pool; return the old one."""
    old = defaults.pop(str(where), None)
    if pool is not None:
        defaults[str(where)] = pool
    if where.kind == "cpu" and arrays_can_own_blocks:
        native.set_default_pool(pool if pool is not None and pool.upstream.host_memory else None)
    native.forget_global_pool()
    return old


def _renew_locks() -> None:
    """In the child of a fork: another thread of the parent may have held a lock, and is not here to release it."""
    for pool in open_pools():
        pool._lock = threading.RLock()


os.register_at_fork(after_in_child=_renew_locks)
