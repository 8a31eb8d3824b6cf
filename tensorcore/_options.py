"""A pool's options as people write them, turned into what the core takes; out of range is a ValueError that names the range."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, SupportsIndex

from ._backend import Device, backend_of, find_backend
from ._fake_device import FakeDeviceUpstream
from ._lib import lib
from ._units import parse_size

if TYPE_CHECKING:
    from typing import Literal

    from ._upstream import Upstream

_HUGE_PAGES: dict[str | bool, int] = {
    "auto": lib.TC_HUGE_PAGES_AUTO,
    "on": lib.TC_HUGE_PAGES_ON,
    "off": lib.TC_HUGE_PAGES_OFF,
    True: lib.TC_HUGE_PAGES_ON,
    False: lib.TC_HUGE_PAGES_OFF,
}
MODES = {"fast": lib.TC_MODE_FAST, "checked": lib.TC_MODE_CHECKED, "hardened": lib.TC_MODE_HARDENED}
MODE_NAMES = {value: name for name, value in MODES.items()}
_ON_FAULT = {"raise": lib.TC_ON_FAULT_RAISE, "abort": lib.TC_ON_FAULT_ABORT}
_MAX_ALIGNMENT = 2 << 20
_MAX_NAME = 63  # characters, as UTF-8; the core cuts longer ones off


def parse_limit(limit: SupportsIndex | str | float | None, where: Device, upstream: Upstream) -> int:
    """Return the bytes of a limit: 0 for none; for a float a fraction of the upstream's capacity, else of the device's memory."""
    if limit is None:
        return 0
    if isinstance(limit, float):
        if not 0 < limit <= 1:
            raise ValueError(f"a limit as a fraction is above 0 and at most 1, not {limit!r}; bytes are an integer or a string")
        return max(1, int(limit * _memory_behind(where, upstream)))
    nbytes = parse_size(limit, "a limit")
    if nbytes == 0:
        raise ValueError("a limit is above 0 bytes; None means no limit")
    return nbytes


def _memory_behind(where: Device, upstream: Upstream) -> int:
    """Return the bytes of which a limit may be a fraction."""
    if upstream.capacity is not None:
        return upstream.capacity
    if isinstance(upstream, FakeDeviceUpstream) and not upstream.host_memory:
        raise ValueError("a limit as a fraction needs a fake device with a capacity: FakeDeviceUpstream(capacity=...)")
    backend = backend_of(where.kind) if upstream.host_memory else find_backend(where.kind)
    return backend.memory(where.index)


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


def parse_mode(mode: str | None) -> int:
    """Return the tc_mode of a mode; None: what TENSORCORE_MODE says, else fast."""
    return _choice(mode, MODES, "mode", "TENSORCORE_MODE", "fast")


def parse_on_fault(choice: str | None) -> int:
    """Return the tc_on_fault of a choice; None: what TENSORCORE_ON_FAULT says, else raise."""
    return _choice(choice, _ON_FAULT, "on_fault", "TENSORCORE_ON_FAULT", "raise")


def _choice(value: str | None, choices: dict[str, int], name: str, variable: str, default: str) -> int:
    if value is None:
        value, name = os.environ.get(variable, "") or default, f"the environment variable {variable}"
    if value not in choices:
        raise ValueError(f"{name} is {' or '.join(map(repr, choices))}, not {value!r}")
    return choices[value]


def set_mode(options: Any, mode: str | None, on_fault: str | None, zero_on_free: bool, guard_every: int | None) -> None:
    """Write the mode and what belongs to it into a tc_pool_options."""
    options.mode = parse_mode(mode)
    options.on_fault = parse_on_fault(on_fault)
    if options.mode == MODES["fast"] and (zero_on_free or on_fault == "abort"):
        raise ValueError("zero_on_free and on_fault='abort' need mode='checked' or 'hardened'; this pool's mode is 'fast'")
    if guard_every is not None:
        if options.mode != MODES["hardened"]:
            raise ValueError("guard_every needs mode='hardened'")
        if not 0 <= guard_every < 1 << 31:
            raise ValueError(f"guard_every is at least 0 and below 2**31, not {guard_every!r}")
        options.guard_every = guard_every
    options.zero_on_free = zero_on_free


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
