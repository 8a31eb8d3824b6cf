"""PoolBase: what a pool holds and tells, apart from handing out blocks: reserve, trim, limits, callbacks, figures.

Every call that releases the GIL with the pool's address in hand holds the pool's lock, and so does `close`: the address stays one.
"""

from __future__ import annotations

import operator
import threading
from typing import TYPE_CHECKING, Any, NoReturn, SupportsIndex

from . import _cupy
from ._callbacks import add_callback
from ._errors import DeviceUnavailableError, OutOfMemoryError, PoolClosedError, PoolState
from ._lib import FORK_EXPLAINED, FORKED, OK, OUT_OF_MEMORY, address_of, ffi, lib, native, pointer, raise_status
from ._options import MODE_NAMES, parse_decay, parse_limit
from ._runtime_upstream import is_out_of_memory
from ._statistics import MemoryStatistics, SizeClassStatistics, read_size_classes, read_statistics
from ._units import parse_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._backend import Device
    from ._pool import MemoryPool
    from ._upstream import Upstream


class PoolBase(native.PoolHandle):
    """A pool of the core that is open, or was."""

    __slots__ = ("_device", "_lock", "_name", "_out_of_memory_callbacks", "_upstream", "_watermark_callback")

    def __init__(self, device: Device, upstream: Upstream) -> None:
        self._device = device
        self._upstream = upstream
        self._lock = threading.RLock()
        self._name = ""
        self._out_of_memory_callbacks: list[Callable[[MemoryPool, int], object]] = []
        self._watermark_callback: Callable[[MemoryPool, float], object] | None = None

    def _pointer(self) -> Any:
        """Return the tc_pool; the caller holds the lock, so that it stays one."""
        address = native.pool_address(self)
        if address == 0:
            raise PoolClosedError(f"pool {self._name!r} was closed; make a new MemoryPool")
        return pointer(address, "tc_pool *")

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return native.pool_address(self) == 0

    def _refuse(self, nbytes: SupportsIndex) -> NoReturn:
        """Raise what an allocation that got no block means."""
        failure = self._upstream.take_failure()
        with self._lock:
            pool = self._pointer()
            status = lib.tc_pool_status(pool)
            statistics = read_statistics(address_of(pool))
            limit = self.limit
        if status == FORKED:
            raise DeviceUnavailableError(f"pool {self._name!r} on {self._device} can't be used in this process: {FORK_EXPLAINED}")
        if failure is not None and not is_out_of_memory(failure):
            raise DeviceUnavailableError(
                f"pool {self._name!r}: {self._device} failed, and not for want of memory: {failure}"
            ) from failure
        state = PoolState(
            name=self._name,
            device=str(self._device),
            allocated=statistics.allocated.current,
            reserved=statistics.reserved.current,
            limit=limit,
            largest_free_block=statistics.largest_free_block,
        )
        raise self._out_of_memory(operator.index(nbytes), state) from failure

    def _out_of_memory(self, nbytes: int, state: PoolState) -> OutOfMemoryError:
        """Return the error of a refusal; on a device it is CuPy's OutOfMemoryError too."""
        kind = _cupy.out_of_memory_class() if self._upstream.stream_ordered else OutOfMemoryError
        return kind(nbytes, state)

    def _stream(self, stream: object) -> int:
        """Return the handle of a stream of this pool, None: of the current one; ValueError where the pool has none."""
        if not self._upstream.stream_ordered:
            raise ValueError(f"device {self._device} has no streams: stream is None, not {stream!r}")
        return self._upstream.stream(stream)

    # ---- streams ----------------------------------------------------------------------------------------------------------------

    def record_stream(self, address: int, stream: object = None) -> None:
        """Say that a block is used on a further stream: once freed, it waits for what that stream was given by then.

        Parameters
        ----------
        address
            What `allocate` returned.
        stream
            As in `allocate`; None: the current one.

        Raises
        ------
        ValueError
            The device has no streams.
        InvalidFreeError, DoubleFreeError
            The address is not the start of a block of this pool that is in use.
        """
        handle = self._stream(stream)
        with self._lock:
            status = lib.tc_pool_record_stream(self._pointer(), pointer(address), handle)
        if status != OK:
            raise_status(status, f"pool {self._name!r} can't record a stream for 0x{address:x}", address=address)

    def drain(self) -> int:
        """Ask which streams have passed; return the bytes that stopped being pending. Allocations do this by themselves."""
        with self._lock:
            return int(lib.tc_pool_drain(self._pointer()))

    def forget_stream(self, stream: object) -> None:
        """Say that a stream is about to be destroyed. Needed for streams given as integers; stream objects are kept while needed.

        Raises
        ------
        ValueError
            The device has no streams.
        """
        handle = self._stream(stream)
        with self._lock:
            status = lib.tc_pool_forget_stream(self._pointer(), handle)
        if status != OK:
            raise_status(
                status, f"pool {self._name!r} could not forget stream {handle:#x}", detail="it is not a stream of this pool"
            )

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

    def trim(self, keep: SupportsIndex | str = 0, *, stream: object = None) -> int:
        """Give cached memory back upstream; return the bytes that went back.

        Parameters
        ----------
        keep
            Bytes (or ``'32MiB'``) that may stay cached.
        stream
            Only what this stream freed and is done with, and nothing is waited for. None: all of it; a device's streams are waited
            for.
        """
        if stream is None:
            with self._lock:
                return int(lib.tc_pool_trim(self._pointer(), parse_size(keep, "keep")))
        if keep != 0:
            raise ValueError(f"keep is for a trim of all streams: give stream or keep={keep!r}, not both")
        handle = self._stream(stream)
        with self._lock:
            return int(lib.tc_pool_trim_stream(self._pointer(), handle))

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
        nbytes = parse_limit(limit, self._device, self._upstream)
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
