"""The pool that each device uses where none is named."""

from __future__ import annotations

import threading

from ._backend import Device, parse_device
from ._defaults import any_scope, get_default_device, scoped_pool, set_default
from ._pool import MemoryPool
from ._registry import defaults

_lock = threading.Lock()


def get_global_memory_pool(device: str | Device = "cpu") -> MemoryPool:
    """Return the pool from which a device's tensors, allocations and hooks take memory where no other is named.

    It is made at the first call, without a limit, and named after the device.
    """
    pool = defaults.get(str(device))
    return pool if pool is not None else _make_global_pool(device)


def _make_global_pool(name: str | Device) -> MemoryPool:
    where = parse_device(name)
    with _lock:
        pool = defaults.get(str(where))
        if pool is None:
            pool = MemoryPool(device=where, name=str(where))
            set_default(where, pool)
        return pool


def current_pool(device: str | Device | None = None) -> MemoryPool:
    """Return the pool from which this thread or task takes memory of a device now: that of a scope, else the global one.

    Parameters
    ----------
    device
        None: the default device.

    Raises
    ------
    DeviceUnavailableError
        The device has no pool yet and is not usable here; the message says why and what to do.
    """
    if isinstance(device, str) and device in defaults and not any_scope():
        return get_global_memory_pool(device)
    where = get_default_device() if device is None else parse_device(device)
    return scoped_pool(where) or get_global_memory_pool(where)


def set_global_memory_pool(pool: MemoryPool) -> MemoryPool | None:
    """Make `pool` the global pool of its device; return the one before, None where there was none.

    What the old pool handed out stays valid. A hook that is installed keeps the pool that it was installed with.
    """
    if pool.closed:
        raise ValueError(f"{pool!r} can't be the global pool: make a new one")
    with _lock:
        return set_default(pool.device, pool)
