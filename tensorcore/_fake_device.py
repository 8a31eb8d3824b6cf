"""FakeDeviceUpstream: a device for tests, whose streams and events run on a clock that only the test advances.

Its addresses are made up, so a pool over it proves the bookkeeping of a device pool on any machine. A copy or a kernel is work of
some ticks on a stream. Limit: it holds no data, so nothing can be read back.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ._errors import DeviceUnavailableError
from ._lib import OK, STREAM_OF_BLOCK, ffi, lib, pointer, raise_status
from ._streams import stream_handle
from ._upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    FakeCall = Literal["allocate", "record", "query", "wait", "synchronize"]

_CALLS = {
    "allocate": lib.TC_FAKE_ALLOCATE,
    "record": lib.TC_FAKE_RECORD,
    "query": lib.TC_FAKE_QUERY,
    "wait": lib.TC_FAKE_WAIT,
    "synchronize": lib.TC_FAKE_SYNCHRONIZE,
}


@dataclass(frozen=True, slots=True)
class FakeDeviceCounts:
    """What a `FakeDeviceUpstream` saw: calls, live events, bytes; `early` hand-overs, and `errors`, are mistakes of a pool."""

    allocate_calls: int
    deallocate_calls: int
    record_calls: int
    query_calls: int
    wait_calls: int
    synchronize_calls: int
    failures: int
    live_events: int
    live_bytes: int
    peak_bytes: int
    errors: int
    early: int


class _Current(threading.local):
    """The current stream of each thread."""

    handle = 0


class FakeDeviceUpstream(Upstream):
    """A device for tests: it has a capacity, streams, events and a clock, and fails on demand.

    Parameters
    ----------
    capacity
        Bytes that it hands out at most; 0: no cap.
    alignment
        Of its addresses, in bytes, a power of two; 0: what is asked for.
    pinned
        Host memory, for a pool with ``device="pinned"``: real, and usable by the CPU.
    missing
        Calls that this device does not have: ``"wait"``, ``"synchronize"``.
    latency
        Seconds that each allocation and deallocation takes.
    failing, fail_at, fail_count
        Which calls fail: the `fail_at`-th of the calls named in `failing`, and `fail_count` - 1 after it; 0: none.
    copy_ticks
        How long a copy or a fill runs on its stream.
    """

    def __init__(
        self,
        *,
        capacity: int = 0,
        alignment: int = 0,
        pinned: bool = False,
        missing: Iterable[FakeCall] = (),
        latency: float = 0.0,
        failing: Iterable[FakeCall] = ("allocate",),
        fail_at: int = 0,
        fail_count: int = 1,
        copy_ticks: int = 1,
    ) -> None:
        self._fixed = {"alignment": alignment, "host_memory": pinned, "missing": _flags(missing)}
        self._capacity = capacity
        self._copy_ticks = copy_ticks
        self._current = _Current()
        created = ffi.new("tc_upstream **")
        status = lib.tc_upstream_fake_device_create(self._options(latency, failing, fail_at, fail_count), created)
        if status != OK:
            raise_status(status, "the fake device could not be made", detail=f"its alignment is no power of two: {alignment}")
        super().__init__(created[0])
        weakref.finalize(self, _destroy, self._table).atexit = False

    def _options(self, latency: float, failing: Iterable[FakeCall], fail_at: int, fail_count: int) -> Any:
        changing = {"failing": _flags(failing), "fail_at": fail_at, "fail_count": fail_count, "latency_ns": round(latency * 1e9)}
        return ffi.new("tc_fake_device_options *", {**self._fixed, **changing, "capacity": self._capacity})

    def set(
        self,
        *,
        capacity: int = 0,
        latency: float = 0.0,
        failing: Iterable[FakeCall] = ("allocate",),
        fail_at: int = 0,
        fail_count: int = 1,
    ) -> None:
        """Change the capacity, the latency and the failures; the count of the calls that fail starts anew."""
        self._capacity = capacity
        lib.tc_upstream_fake_device_set(self._table, self._options(latency, failing, fail_at, fail_count))

    @property
    def capacity(self) -> int | None:
        """Bytes that it hands out at most; None: no cap."""
        return self._capacity or None

    @property
    def counts(self) -> FakeDeviceCounts:
        """What it saw so far."""
        counts = _read_counts(self._table)
        return FakeDeviceCounts(**{name: getattr(counts, name) for name in FakeDeviceCounts.__slots__})

    # ---- time and streams -------------------------------------------------------------------------------------------------------

    def advance(self, ticks: int) -> None:
        """Let the clock run on."""
        lib.tc_fake_device_advance(self._table, ticks)

    def enqueue(self, stream: object, ticks: int, address: int = 0, nbytes: int = 0) -> None:
        """Give a stream work of so many ticks, which uses `nbytes` from `address` on.

        Raises
        ------
        ValueError
            The stream was destroyed.
        """
        status = lib.tc_fake_device_enqueue(self._table, stream_handle(stream), ticks, pointer(address), nbytes)
        if status != OK:
            raise_status(status, f"stream {stream} took no work", detail="it was destroyed; create_stream makes it anew")

    def claim(self, stream: object, address: int, nbytes: int) -> bool:
        """Say that memory now belongs to a stream, None: the host; True where work of earlier holders is not known to be done."""
        handle = STREAM_OF_BLOCK if stream is None else stream_handle(stream)
        return bool(lib.tc_fake_device_claim(self._table, handle, pointer(address), nbytes))

    def create_stream(self, stream: object) -> None:
        """Let a destroyed handle come back as a new stream; any other handle is a live stream already."""
        lib.tc_fake_device_stream_create(self._table, stream_handle(stream))

    def destroy_stream(self, stream: object) -> None:
        """Destroy a stream; its work still runs to the end."""
        lib.tc_fake_device_stream_destroy(self._table, stream_handle(stream))

    @contextlib.contextmanager
    def using_stream(self, stream: object) -> Iterator[int]:
        """Make a stream the current one of this thread, inside the with-block."""
        previous, self._current.handle = self.current_stream(), stream_handle(stream)
        try:
            yield self._current.handle
        finally:
            self._current.handle = previous

    def current_stream(self) -> int:
        """Return the handle of this thread's current stream, 0 at first."""
        return self._current.handle

    # ---- data -------------------------------------------------------------------------------------------------------------------

    def write(self, address: int, source: int, nbytes: int, stream: int) -> None:
        """Take a copy as work on a stream that uses the target and, where the source is memory of this device, the source."""
        self.enqueue(stream, self._copy_ticks, address, nbytes)
        owner = lib.tc_pool_of(pointer(source))
        if owner != ffi.NULL and lib.tc_pool_upstream(owner) == self._table:
            self.enqueue(stream, 0, source, nbytes)

    def used_on(self, stream: int, address: int, nbytes: int) -> None:
        """Take a copy by another device, from or to this memory, as work on the stream here too: each fake has its own clock."""
        self.enqueue(stream, self._copy_ticks, address, nbytes)

    def clear(self, address: int, nbytes: int, stream: int) -> None:
        """Take a fill as work on a stream."""
        self.enqueue(stream, self._copy_ticks, address, nbytes)

    def read(self, target: int, address: int, nbytes: int, stream: int) -> None:  # noqa: ARG002 - the interface's signature
        """Refuse: the fake device holds no data."""
        raise DeviceUnavailableError("a fake device holds no data: what was written there can't be read back")

    def wait_for(self, stream: int) -> None:
        """Do nothing: a fake stream's work is done when the test advances the clock."""


def _flags(calls: Iterable[FakeCall]) -> int:
    """Return the tc_fake_call flags of the names."""
    flags = 0
    for call in calls:
        if call not in _CALLS:
            raise ValueError(f"a fake device has the calls {', '.join(_CALLS)}, not {call!r}")
        flags |= _CALLS[call]
    return flags


def _read_counts(table: Any) -> Any:
    counts = ffi.new("tc_fake_device_counts *")
    lib.tc_upstream_fake_device_counts(table, counts)
    return counts


def _destroy(table: Any) -> None:
    """Destroy a fake that nobody uses; one that still backs blocks must stay, and is left to the process's end."""
    if _read_counts(table).live_bytes == 0:
        lib.tc_upstream_fake_device_destroy(table)
