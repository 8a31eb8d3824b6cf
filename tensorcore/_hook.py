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

from ._cupy_hook import cupy_state, install_cupy, install_cupy_when_usable, require_gpu, restore_cupy, uninstall_cupy
from ._errors import HookWarning, PoolClosedError
from ._global import get_global_memory_pool
from ._lib import address_of, find_block, native
from ._pool import MemoryPool
from ._torch import install_torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

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
    pool: MemoryPool | Iterable[MemoryPool] | None = None,
    *,
    scope: Scope = "process",
) -> None:
    """Put pools under the array data of NumPy and CuPy: what is made from now on, in every thread, lies in a block of a pool.

    Arrays made before stay as they are; arrays made from the pool stay valid after `uninstall`. A second call replaces the pool. A
    child process made by fork has the hook too, one made by spawn does not.

    Parameters
    ----------
    numpy
        False: leave NumPy alone.
    cupy
        True: device pools under CuPy, and its pinned memory from a pool too. ``"auto"``: where a GPU is usable, as soon as CuPy is
        imported (not with the scope ``"context"``). False: leave CuPy alone.
    torch
        True: device pools under PyTorch, for the rest of the process; before its first CUDA tensor.
    pool
        A pool, or several: each is for the libraries of its device (``cpu`` NumPy; ``cuda`` CuPy and PyTorch; ``pinned`` CuPy). A
        device without one uses its global pool.
    scope
        ``"process"``: all threads. ``"context"``: the current context (`contextvars`) only, for a library that must not change the
        program around it; threads started later do not have it, and each ufunc call costs 20 to 40 ns more.

    Raises
    ------
    DeviceUnavailableError
        CuPy or PyTorch was asked for and its devices can't be served; nothing was installed.
    TensorCoreError
        PyTorch has CUDA memory already; nothing was installed.
    ValueError
        A pool was closed, is the second of its device, or its memory is not for the CPU; `scope` or `cupy` is none of the above.
    """
    if scope not in ("process", "context"):
        raise ValueError(f"scope is 'process' or 'context', not {scope!r}")
    if cupy not in (True, False, "auto"):
        raise ValueError(f"cupy is True, False or 'auto', not {cupy!r}")
    given = [pool] if isinstance(pool, MemoryPool) else list(pool or ())
    mine = _check_pools(given, numpy)
    if cupy is True:
        require_gpu("cupy")
    if torch:
        require_gpu("torch")
        install_torch(one for one in given if one.device.kind == "cuda")
    if cupy is True:
        install_cupy(given)
    elif cupy == "auto" and scope == "process":
        install_cupy_when_usable(given)
    if numpy:
        _install_numpy(mine or get_global_memory_pool(), scope)


def _install_numpy(pool: MemoryPool, scope: Scope) -> None:
    if scope == "context" or hook_mode() == "context":
        if scope == "process":
            message = "this NumPy allows the hook in the current context only: threads started later are not pooled"
            warnings.warn(message, HookWarning, stacklevel=3)
        _set_context(pool)
    else:
        _set_process(pool)


def uninstall(*, scope: Scope = "process") -> None:
    """Take the pools away from NumPy and CuPy: new arrays come from their own allocators again. Without `install` it does nothing.

    PyTorch keeps them: it can't change its allocator back. Arrays made from the pools stay valid and go back to them when they are
    freed.

    Parameters
    ----------
    scope
        The scope that was given to `install`.
    """
    if scope == "context" or _mode == "context":
        _set_context(None)
    else:
        _set_process(None)
    if scope == "process":
        uninstall_cupy()


@contextmanager
def installed(
    numpy: bool = True,
    cupy: bool | Literal["auto"] = "auto",
    torch: bool = False,
    pool: MemoryPool | Iterable[MemoryPool] | None = None,
    *,
    scope: Scope = "process",
) -> Iterator[MemoryPool | None]:
    """`install` for a with-block, then put back what was there before; yields the pool, None with ``numpy=False``.

    With the scope ``"process"`` the blocks of different threads must be nested, since they change one setting.
    """
    local = scope == "context" or hook_mode() == "context"
    before = _context_pool.get() if local else _installed
    cupy_before = cupy_state()
    install(numpy, cupy, torch, pool, scope=scope)
    try:
        yield (_context_pool.get() if local else _installed) if numpy else None
    finally:
        if numpy:
            (_set_context if local else _set_process)(before)
        if cupy and scope == "process":
            restore_cupy(cupy_before)


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


def _check_pools(given: list[MemoryPool], numpy: bool) -> MemoryPool | None:
    """Return the pool for NumPy among those given, None where it is the global one; raise for what can't be installed."""
    kinds = [pool.device for pool in given]
    for pool in given:
        if pool.closed:
            raise PoolClosedError(f"{pool!r} can't be installed: make a new one")
        if kinds.count(pool.device) > 1:
            raise ValueError(f"{pool!r} is not the only pool given for {pool.device}: give one")
    mine = next((pool for pool in given if pool.device.kind == "cpu"), None)
    if mine is not None and numpy and not mine.upstream.host_memory:
        raise ValueError(f"{mine!r} hands out addresses that the CPU can't use: it can't be installed under NumPy")
    return mine
