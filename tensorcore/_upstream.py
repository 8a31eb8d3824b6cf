"""Where a pool gets its segments, as Python objects: the operating system, or a fake that counts and fails on demand."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ._errors import DeviceUnavailableError
from ._lib import OK, address_of, ffi, lib, raise_status
from ._streams import stream_handle

if TYPE_CHECKING:
    import contextlib


class Upstream:
    """A source of segments: a table of C functions.

    Parameters
    ----------
    table
        A ``const tc_upstream *``. It must outlive every pool made from it, and their blocks.
    """

    def __init__(self, table: Any) -> None:
        self._table = table

    @property
    def name(self) -> str:
        """The upstream's name: ``"os"``, ``"fake"``."""
        return str(ffi.string(self._table.name).decode())

    @property
    def host_memory(self) -> bool:
        """Whether the CPU can read and write what this upstream hands out."""
        return bool(self._table.host_memory)

    @property
    def stream_ordered(self) -> bool:
        """Whether it has streams and events, so that pools over it are stream-ordered."""
        return bool(self._table.event_record != ffi.NULL)

    @property
    def capacity(self) -> int | None:
        """Bytes that it hands out at most; None: not known to it."""
        return None

    @property
    def address(self) -> int:
        """The address of the ``tc_upstream``, for other C code."""
        return address_of(self._table)

    # ---- streams: for those that have them --------------------------------------------------------------------------------------

    def current_stream(self) -> int:
        """Return the handle of the calling thread's current stream; 0, the default stream, where it does not know of one."""
        return 0

    def stream(self, stream: object) -> int:
        """Return the handle of a stream, None: of the current one."""
        return self.current_stream() if stream is None else stream_handle(stream)

    def order(self, before: int, after: Upstream, then: int) -> None:
        """Let what stream `then` of the upstream `after` is given from now on start after all that stream `before` has so far.

        Raises
        ------
        DeviceUnavailableError
            The device refused.
        """
        table, other = self._table, after._table
        event = table.event_record(table.context, before)
        failed = event == ffi.NULL or other.stream_wait == ffi.NULL or other.stream_wait(other.context, then, event) != 0
        if event != ffi.NULL:
            table.event_destroy(table.context, event)
        if failed:
            raise DeviceUnavailableError(
                f"{self!r} could not make stream {then:#x} wait for stream {before:#x}: synchronize the streams yourself"
            ) from self.take_failure()

    def take_failure(self) -> Exception | None:
        """Return what this thread's last refused request met, once; None where nothing is known."""
        return None

    # ---- data: for device memory, which the CPU can't reach ---------------------------------------------------------------------

    def write(self, address: int, source: int, nbytes: int, stream: int) -> None:  # noqa: ARG002 - for those that can
        """Copy from the host, or from any device, to this device, in the order of a stream of it."""
        raise self._no_data()

    def read(self, target: int, address: int, nbytes: int, stream: int) -> None:  # noqa: ARG002 - for those that can
        """Copy from this device to the host, in the order of a stream of it."""
        raise self._no_data()

    def clear(self, address: int, nbytes: int, stream: int) -> None:  # noqa: ARG002 - for those that can
        """Set bytes to 0 in the order of a stream."""
        raise self._no_data()

    def wait_for(self, stream: int) -> None:  # noqa: ARG002 - for those that can
        """Return when all work on a stream is done."""
        raise self._no_data()

    def on_device(self) -> contextlib.AbstractContextManager[None]:
        """Make this device the calling thread's current one for a while."""
        raise self._no_data()

    def used_on(self, stream: int, address: int, nbytes: int) -> None:
        """Take note that work on a stream uses this memory; a real device knows by itself."""

    def _no_data(self) -> DeviceUnavailableError:
        return DeviceUnavailableError(f"{self!r} hands out addresses only: TensorCore can't move data there")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


@dataclass(frozen=True, slots=True)
class FakeCounts:
    """What a `FakeUpstream` saw: calls, and bytes."""

    allocate_calls: int
    deallocate_calls: int
    purge_calls: int
    failures: int
    live_bytes: int
    peak_bytes: int
    errors: int


class FakeUpstream(Upstream):
    """An upstream for tests: it counts, has a capacity, and fails on demand.

    Parameters
    ----------
    backing
        ``"os"``: real memory. None: made-up addresses, for which only the bookkeeping can be tested; nothing may touch them.
    capacity
        Bytes that it hands out at most; 0: no cap.
    fail_at, fail_count
        The `fail_at`-th call of allocate or purge fails, and `fail_count` - 1 calls after it; 0: none.
    """

    def __init__(self, backing: Literal["os"] | None = "os", *, capacity: int = 0, fail_at: int = 0, fail_count: int = 1) -> None:
        self._backing = lib.tc_upstream_os() if backing == "os" else ffi.NULL
        created = ffi.new("tc_upstream **")
        status = lib.tc_upstream_fake_create(self._options(capacity, fail_at, fail_count), created)
        if status != OK:
            raise_status(status, "the fake upstream could not be made")
        super().__init__(created[0])
        weakref.finalize(self, _destroy_fake, self._table).atexit = False

    def _options(self, capacity: int, fail_at: int, fail_count: int) -> Any:
        return ffi.new(
            "tc_fake_options *",
            {"backing": self._backing, "capacity": capacity, "fail_at": fail_at, "fail_count": fail_count},
        )

    def set(self, *, capacity: int = 0, fail_at: int = 0, fail_count: int = 1) -> None:
        """Change the capacity and the failures; the count of calls starts anew."""
        lib.tc_upstream_fake_set(self._table, self._options(capacity, fail_at, fail_count))

    @property
    def counts(self) -> FakeCounts:
        """What it saw so far."""
        counts = _read_counts(self._table)
        return FakeCounts(**{name: getattr(counts, name) for name in FakeCounts.__slots__})


def _read_counts(table: Any) -> Any:
    counts = ffi.new("tc_fake_counts *")
    lib.tc_upstream_fake_counts(table, counts)
    return counts


def _destroy_fake(table: Any) -> None:
    """Destroy a fake that nobody uses; one that still backs blocks must stay, and is left to the process's end."""
    if _read_counts(table).live_bytes == 0:
        lib.tc_upstream_fake_destroy(table)


OS_UPSTREAM = Upstream(lib.tc_upstream_os())
