"""Where a pool gets its segments, as Python objects: the operating system, or a fake that counts and fails on demand."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any, Literal

from ._lib import OK, address_of, ffi, lib, raise_status


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
    def address(self) -> int:
        """The address of the ``tc_upstream``, for other C code."""
        return address_of(self._table)

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


def find_upstream(upstream: Upstream | Literal["os", "fake"] | None, default: Upstream) -> Upstream:
    """Return the upstream that a pool's `upstream=` argument means."""
    if upstream is None:
        return default
    if upstream == "os":
        return OS_UPSTREAM
    if upstream == "fake":
        return FakeUpstream()
    if isinstance(upstream, Upstream):
        return upstream
    raise ValueError(f"upstream is None, 'os', 'fake' or an Upstream, not {upstream!r}")
