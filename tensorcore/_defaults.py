"""What is meant where nothing is named: the default device, and the pool of each device, for a scope or for the process.

Scopes belong to a context (`contextvars`): a thread has its own, an asyncio task too. While any scope is active anywhere, tensors
take the full way of construction (about 1 µs more), because the short one in C knows only the process's default.
"""

from __future__ import annotations

import contextlib
import os
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING

from ._backend import Device, parse_device
from ._lib import arrays_can_own_blocks, native
from ._registry import defaults

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._pool import MemoryPool

_VARIABLE = "TENSORCORE_DEVICE"
_CPU = Device("cpu")

_lock = threading.Lock()
_scopes = 0  # active in any context
short_pool: MemoryPool | None = None
"""The CPU's global pool where that is what is meant with nothing named, in every context; None: it has to be looked up."""
_process_device: Device | None = None  # None: what the environment says, at the first question
_scoped_device: ContextVar[Device | None] = ContextVar("tensorcore_device", default=None)
_scoped_pools: ContextVar[tuple[MemoryPool, ...]] = ContextVar("tensorcore_pools", default=())


def get_default_device() -> Device:
    """Return the device of tensors and allocations that name none.

    It is that of the innermost `default_device` scope, else of `set_default_device`, else of the environment variable
    ``TENSORCORE_DEVICE``, else ``cpu``.
    """
    return _scoped_device.get() or _process_device or _read_environment()


def _read_environment() -> Device:
    global _process_device
    name = os.environ.get(_VARIABLE) or "cpu"
    try:
        _process_device = parse_device(name)
    except (ValueError, RuntimeError) as error:
        raise type(error)(f"{_VARIABLE}={name!r} in the environment: {error}") from None
    return _process_device


def set_default_device(device: str | Device) -> Device:
    """Make a device the default of the process; return the one before. Whether it is usable here shows at its first use.

    Raises
    ------
    ValueError
        That is no name of a device.
    DeviceUnavailableError
        There is no such kind of device.
    """
    global _process_device
    where = parse_device(device)
    old = _process_device or _read_environment()
    _process_device = where
    renew_short_way()
    return old


@contextlib.contextmanager
def default_device(device: str | Device) -> Iterator[Device]:
    """Make a device the default inside the with-block, for this thread or task; errors as `set_default_device`."""
    where = parse_device(device)
    token = _scoped_device.set(where)
    _count(+1)
    try:
        yield where
    finally:
        _count(-1)
        _scoped_device.reset(token)


# ---- pools ----------------------------------------------------------------------------------------------------------------------


def enter_pool(pool: MemoryPool) -> None:
    """Make a pool the one of its device in this context, until `leave_pool`."""
    _scoped_pools.set((*_scoped_pools.get(), pool))
    _count(+1)


def leave_pool(pool: MemoryPool) -> bool:
    """Undo the last `enter_pool` of a pool in this context; return whether it was entered more often."""
    entered = _scoped_pools.get()
    where = next((i for i in reversed(range(len(entered))) if entered[i] is pool), None)
    if where is not None:  # else another context left it, as a generator can that is finished elsewhere
        _scoped_pools.set(entered[:where] + entered[where + 1 :])
        _count(-1)
    return pool in _scoped_pools.get()


def scoped_pool(where: Device) -> MemoryPool | None:
    """Return the pool of the innermost scope for a device in this context; None where there is none, or it was closed."""
    for pool in reversed(_scoped_pools.get()):
        if (pool.device is where or pool.device == where) and not pool.closed:
            return pool
    return None


def any_scope() -> bool:
    """Return whether a scope is active in any context."""
    return _scopes != 0


def set_default(where: Device, pool: MemoryPool | None) -> MemoryPool | None:
    """Make a pool the process's default of its device, None: no pool; return the old one."""
    old = defaults.pop(str(where), None)
    if pool is not None:
        defaults[str(where)] = pool
    renew_short_way()
    native.forget_global_pool()
    return old


def _count(change: int) -> None:
    """Note that a scope began or ended; the first and the last one change how tensors are made."""
    global _scopes
    with _lock:
        before, _scopes = _scopes, _scopes + change
    if 0 in (before, _scopes):
        renew_short_way()


def _is_cpu_the_default() -> bool:
    try:
        return (_process_device or _read_environment()) == _CPU
    except (ValueError, RuntimeError):
        return False  # a wrong name in the environment: who asks for the default device is told


def renew_short_way() -> None:
    """Find out anew what `short_pool` is, and tell the constructor of tensors in C."""
    global short_pool
    with _lock:
        pool = defaults.get("cpu")
        short = pool is not None and pool.upstream.host_memory and _scopes == 0 and _is_cpu_the_default()
        short_pool = pool if short else None
        if arrays_can_own_blocks:
            native.set_default_pool(short_pool)


def _renew_lock() -> None:
    """In the child of a fork: another thread of the parent may have held the lock, and is not here to release it."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)
