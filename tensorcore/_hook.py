"""The NumPy hook: install a pool under NumPy's array data, for the whole process or for one context.

Process-wide there are two ways, each tried out, in a new thread too, before it is trusted: replacing the functions inside NumPy's
default memory handler in place ("process"), or pointing the handler's capsule to a copy with our functions ("capsule"). Where
neither works, or for libraries that want only their own scope, the documented way of NEP 49 is left ("context").
csrc/python/numpy_hook.c has the functions.
"""

from __future__ import annotations

import threading
import warnings
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ._backend import why_unavailable
from ._errors import DeviceUnavailableError, HookWarning, PoolClosedError
from ._global import get_global_memory_pool
from ._lib import address_of, find_block, native
from ._pool import MemoryPool

if TYPE_CHECKING:
    from collections.abc import Iterator

Scope = Literal["process", "context"]
HookMode = Literal["process", "capsule", "context"]

_lock = threading.RLock()  # not held while arrays are made for others: install and uninstall are rare
_mode: HookMode | None = None
_installed: MemoryPool | None = None  # kept alive while NumPy allocates from it
_context_pool: ContextVar[MemoryPool | None] = ContextVar("tensorcore_pool", default=None)

_PROBE_BYTES = 80_000  # above NumPy's own cache of small blocks


def install(
    numpy: bool = True,
    cupy: bool | Literal["auto"] = "auto",
    torch: bool = False,
    pool: MemoryPool | None = None,
    *,
    scope: Scope = "process",
) -> None:
    """Put a pool under the array data of NumPy: every array made from now on, in every thread, has its data in a block of the pool.

    Arrays made before stay as they are; arrays made from the pool stay valid after `uninstall`. A second call replaces the pool. A
    child process made by fork has the hook too, one made by spawn does not.

    Parameters
    ----------
    numpy
        False: leave NumPy alone.
    cupy
        True: CuPy too; ``"auto"``: where a GPU is usable.
    torch
        True: PyTorch too.
    pool
        The pool; None: the global pool of the CPU.
    scope
        ``"process"``: all threads. ``"context"``: the current context (`contextvars`) only, for a library that must not change the
        program around it; threads started later do not have it, and each ufunc call costs 20 to 40 ns more.

    Raises
    ------
    DeviceUnavailableError
        CuPy or PyTorch was asked for and its devices can't be served; nothing was installed.
    ValueError
        The pool was closed, or its memory is not for the CPU.
    """
    if cupy is True:
        _require_cuda("cupy")
    if torch:
        _require_cuda("torch")
    if not numpy:
        return
    if scope not in ("process", "context"):
        raise ValueError(f"scope is 'process' or 'context', not {scope!r}")
    pool = get_global_memory_pool() if pool is None else pool
    _check_pool(pool)
    if scope == "context" or hook_mode() == "context":
        if scope == "process":
            message = "this NumPy allows the hook in the current context only: threads started later are not pooled"
            warnings.warn(message, HookWarning, stacklevel=2)
        _set_context(pool)
    else:
        _set_process(pool)


def uninstall(*, scope: Scope = "process") -> None:
    """Take the pool away from NumPy: new arrays come from NumPy's own allocator again. Without `install` it does nothing.

    Arrays made from the pool stay valid and go back to it when they are freed.

    Parameters
    ----------
    scope
        The scope that was given to `install`.
    """
    if scope == "context" or _mode == "context":
        _set_context(None)
    else:
        _set_process(None)


@contextmanager
def installed(
    numpy: bool = True,
    cupy: bool | Literal["auto"] = "auto",
    torch: bool = False,
    pool: MemoryPool | None = None,
    *,
    scope: Scope = "process",
) -> Iterator[MemoryPool | None]:
    """`install` for a with-block, then put back what was there before; yields the pool, None with ``numpy=False``.

    With the scope ``"process"`` the blocks of different threads must be nested, since they change one setting.
    """
    local = scope == "context" or hook_mode() == "context"
    before = _context_pool.get() if local else _installed
    install(numpy, cupy, torch, pool, scope=scope)
    try:
        yield (_context_pool.get() if local else _installed) if numpy else None
    finally:
        if numpy:
            (_set_context if local else _set_process)(before)


def installed_pool() -> MemoryPool | None:
    """Return the pool under NumPy here: of the current context, else of the process; None where there is none."""
    return _context_pool.get() or _installed


def hook_mode() -> HookMode:
    """Return how the hook works with this NumPy: the first way that passes its test, tried at the first call."""
    global _mode
    with _lock:
        if _mode is None:
            _mode = _choose_mode()
        return _mode


# ---- choosing -------------------------------------------------------------------------------------------------------------------


def _choose_mode() -> HookMode:
    ways: list[tuple[HookMode, bool]] = [("process", False), ("capsule", True)]
    for mode, repoint in ways:
        if (repoint or _is_writable(native.hook_handler_address())) and _works(repoint):
            return mode
    return "context"


def _is_writable(address: int) -> bool:
    """Return whether the page at an address may be written to, as /proc says."""
    try:
        with open("/proc/self/maps") as file:  # noqa: PTH123  # pathlib would add 0.5 MB to every program
            lines = file.readlines()
    except OSError:
        return False
    for line in lines:
        span, permissions, *_ = line.split()
        start, end = (int(bound, 16) for bound in span.split("-"))
        if start <= address < end:
            return "w" in permissions
    return False


def _works(repoint: bool) -> bool:
    """Return whether arrays made here and in a new thread come from a pool of their own and go back to it."""
    with MemoryPool(name="hook self-test") as pool:
        outcomes: list[bool] = []
        try:
            native.hook_attach(repoint)
            native.hook_set_pool(pool)
            outcomes.append(_probe(pool))
            thread = threading.Thread(target=lambda: outcomes.append(_probe(pool)))
            thread.start()
            thread.join()
        except RuntimeError:  # an unknown version of the handler
            return False
        finally:
            if native.hook_pool():
                native.hook_set_pool(None)
        return outcomes == [True, True] and not _comes_from(np.empty(_PROBE_BYTES, "u1"), pool)


def _probe(pool: MemoryPool) -> bool:
    made, returned = pool.allocation_count, pool.deallocation_count
    array = np.empty(_PROBE_BYTES, "u1")
    ours = _comes_from(array, pool)
    del array
    zeros = np.zeros(_PROBE_BYTES, "u1")
    ours = ours and _comes_from(zeros, pool) and not zeros.any()
    zeros.resize(2 * _PROBE_BYTES, refcheck=False)
    ours = ours and _comes_from(zeros, pool)
    del zeros
    return ours and pool.allocation_count >= made + 2 and pool.deallocation_count - returned == pool.allocation_count - made


def _comes_from(array: np.ndarray[Any, np.dtype[Any]], pool: MemoryPool) -> bool:
    return address_of(find_block(array.ctypes.data).pool) == native.pool_address(pool)


# ---- installing -----------------------------------------------------------------------------------------------------------------


def _set_process(pool: MemoryPool | None) -> None:
    global _installed
    with _lock:
        if pool is None and _installed is None:
            return
        native.hook_set_pool(pool)
        _installed = pool


def _set_context(pool: MemoryPool | None) -> None:
    if pool is None and _context_pool.get() is None:
        return
    native.hook_set_context(None if pool is None else native.hook_context_handler(pool))
    _context_pool.set(pool)


def _check_pool(pool: MemoryPool) -> None:
    if pool.closed:
        raise PoolClosedError(f"{pool!r} can't be installed: make a new one")
    if not pool.upstream.host_memory:
        raise ValueError(f"{pool!r} hands out addresses that the CPU can't use: it can't be installed under NumPy")


def _require_cuda(library: str) -> None:
    reason = why_unavailable("cuda")
    if reason is not None:
        raise DeviceUnavailableError(f"{library}=True needs a GPU: {reason}; or leave {library}=True out")
