"""A pool's options as people write them, turned into what the core takes; out of range is a ValueError that names the range."""

from __future__ import annotations

from typing import TYPE_CHECKING, SupportsIndex

from ._backend import Device, find_backend
from ._lib import lib
from ._units import parse_size

if TYPE_CHECKING:
    from typing import Literal

_HUGE_PAGES: dict[str | bool, int] = {
    "auto": lib.TC_HUGE_PAGES_AUTO,
    "on": lib.TC_HUGE_PAGES_ON,
    "off": lib.TC_HUGE_PAGES_OFF,
    True: lib.TC_HUGE_PAGES_ON,
    False: lib.TC_HUGE_PAGES_OFF,
}
_MAX_ALIGNMENT = 2 << 20
_MAX_NAME = 63  # characters, as UTF-8; the core cuts longer ones off


def parse_limit(limit: SupportsIndex | str | float | None, where: Device) -> int:
    """Return the bytes of a limit: 0 for none, a fraction of the device's memory for a float."""
    if limit is None:
        return 0
    if isinstance(limit, float):
        if not 0 < limit <= 1:
            raise ValueError(f"a limit as a fraction is above 0 and at most 1, not {limit!r}; bytes are an integer or a string")
        return max(1, int(limit * find_backend(where.kind).memory(where.index)))
    nbytes = parse_size(limit, "a limit")
    if nbytes == 0:
        raise ValueError("a limit is above 0 bytes; None means no limit")
    return nbytes


def parse_decay(seconds: float | None) -> float:
    """Return the seconds of a decay, -1 for never."""
    if seconds is None:
        return -1.0
    if not seconds >= 0:
        raise ValueError(f"decay is at least 0 seconds, or None for never, not {seconds!r}")
    return float(seconds)


def parse_huge_pages(choice: Literal["auto", "on", "off"] | bool) -> int:
    """Return the tc_huge_pages of a choice."""
    if choice not in _HUGE_PAGES:
        raise ValueError(f"huge_pages is 'auto', 'on', 'off', True or False, not {choice!r}")
    return _HUGE_PAGES[choice]


def parse_numa(node: int | None) -> int:
    """Return the NUMA node of a pool, -1 for no preference."""
    if node is not None:
        raise ValueError(f"numa is None (no preference) in this version, not {node!r}")
    return -1


def parse_name(name: str | None) -> bytes | None:
    """Return a pool's name for C; None lets the core choose one."""
    if name is None:
        return None
    encoded = name.encode()
    if not 0 < len(encoded) <= _MAX_NAME or b"\0" in encoded:
        raise ValueError(f"a pool's name has 1 to {_MAX_NAME} bytes and no NUL, not {name!r}")
    return encoded


def parse_alignment(alignment: int) -> int:
    """Return an alignment in bytes."""
    if not 0 < alignment <= _MAX_ALIGNMENT or alignment & (alignment - 1):
        raise ValueError(f"alignment is a power of two up to {_MAX_ALIGNMENT:,} bytes, not {alignment!r}")
    return alignment


def require_no_stream(stream: object, where: Device) -> None:
    """Refuse a stream on a device that has none."""
    if stream is not None:
        raise ValueError(f"device {where} has no streams: stream is None, not {stream!r}")
