"""Device pools under CuPy: its allocators and its default pools replaced, and put back.

`cupy.get_default_memory_pool()` and its pinned sister then return TensorCore's faces, so that a program that frees blocks or sets a
limit through them does so on our pools. Limit: CuPy does not tell its pinned allocator; `uninstall` puts its default pool's back.
"""

from __future__ import annotations

import os
import threading
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _cupy
from ._backend import why_unavailable
from ._cupy_pools import CupyMemoryPool, CupyPinnedMemoryPool
from ._errors import DeviceUnavailableError, HookWarning, TensorCoreError
from ._import_hook import when_imported
from ._registry import users

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ._pool import MemoryPool

_LIMIT = "CUPY_GPU_MEMORY_LIMIT"

_lock = threading.RLock()
_installed: Faces | None = None
_before: _Before | None = None  # what CuPy had
_waiting: tuple[MemoryPool, ...] | None = None  # for CuPy to be imported
_stop_waiting: Callable[[], None] | None = None


class Faces(NamedTuple):
    """What stands in the place of CuPy's two pools."""

    device: CupyMemoryPool
    pinned: CupyPinnedMemoryPool


class _Before(NamedTuple):
    allocator: Any
    device: Any
    pinned: Any


def install_cupy(pools: Iterable[MemoryPool] = ()) -> None:
    """Put pools under CuPy; a second call replaces them.

    Parameters
    ----------
    pools
        Of devices ``"cuda"`` and ``"pinned"``, others are passed over; a device without one uses its global pool.

    Raises
    ------
    ValueError
        The calling thread is inside `cupy.cuda.using_allocator`, or CUPY_GPU_MEMORY_LIMIT is no limit.
    """
    given = list(pools)
    device = CupyMemoryPool(pool for pool in given if pool.device.kind == "cuda")
    pinned = CupyPinnedMemoryPool(pool for pool in given if pool.device.kind == "pinned")
    _limit_by_environment(device)
    put_in(Faces(device, pinned))


def put_in(faces: Faces) -> None:
    """Make CuPy allocate from two faces."""
    global _installed, _before
    cupy = _cupy.module()
    with _lock:
        before = _before or _Before(cupy.cuda.get_allocator(), cupy._default_memory_pool, cupy._default_pinned_memory_pool)
        cupy.cuda.set_allocator(faces.device.malloc)  # refuses inside using_allocator: nothing was changed so far
        cupy.cuda.set_pinned_memory_allocator(faces.pinned.malloc)
        cupy._default_memory_pool, cupy._default_pinned_memory_pool = faces
        _installed, _before = faces, before


def uninstall_cupy() -> None:
    """Give CuPy its own pools back, and wait for it no longer; arrays made meanwhile stay valid. A second call does nothing."""
    global _installed, _before, _waiting
    with _lock:
        _stop()
        _waiting = None
        if _before is None:
            return
        cupy = _cupy.module()
        cupy.cuda.set_allocator(_before.allocator)
        cupy.cuda.set_pinned_memory_allocator(_before.pinned.malloc)
        cupy._default_memory_pool, cupy._default_pinned_memory_pool = _before.device, _before.pinned
        _installed = _before = None


class State(NamedTuple):
    """What is installed under CuPy, or which pools wait for it to be imported."""

    faces: Faces | None
    waiting: tuple[MemoryPool, ...] | None


def cupy_state() -> State:
    """Return what is installed or waits, for `restore_cupy`."""
    return State(_installed, _waiting)


def restore_cupy(state: State) -> None:
    """Make it as it was."""
    uninstall_cupy()
    if state.faces is not None:
        put_in(state.faces)
    elif state.waiting is not None:
        install_cupy_when_usable(state.waiting)


def install_cupy_when_usable(pools: Iterable[MemoryPool] = ()) -> None:
    """Put pools under CuPy as soon as it is imported, now where it is; only where a GPU is usable. CuPy is not imported for it."""
    global _stop_waiting, _waiting
    given = tuple(pools)
    with _lock:
        _stop()
        _waiting = given
    _stop_waiting = when_imported("cupy", lambda: _install_or_warn(given))  # unlocked: another thread may be importing it now


def _stop() -> None:
    if _stop_waiting is not None:
        _stop_waiting()


def _install_or_warn(given: tuple[MemoryPool, ...]) -> None:
    """Install; a program that only asked for what is possible must not fail in its import of CuPy."""
    global _waiting
    _waiting = None
    if why_unavailable("cuda") is not None:
        return
    try:
        install_cupy(given)
    except (TensorCoreError, ValueError) as error:
        warnings.warn(f"CuPy keeps its own pool: {error}", HookWarning, stacklevel=2)


def require_gpu(library: str) -> None:
    """Raise DeviceUnavailableError where a library can't be served."""
    reason = why_unavailable("cuda")
    if reason is not None:
        raise DeviceUnavailableError(f"{library}=True needs a GPU: {reason}; or leave {library}=True out")


def _limit_by_environment(face: CupyMemoryPool) -> None:
    """Limit the current device's pool as CuPy would its own, where it has no limit yet."""
    text = os.environ.get(_LIMIT)
    if not text or face.get_limit():
        return
    try:
        if text.endswith("%"):
            face.set_limit(fraction=float(text[:-1]) / 100)
        else:
            face.set_limit(size=int(text))
    except ValueError as error:
        raise ValueError(f"{_LIMIT}={text!r} is neither bytes nor a percentage like '50%': {error}") from None


def _user_of(pool: MemoryPool) -> str | None:
    return "CuPy" if _installed is not None and any(pool in face.pools for face in _installed) else None


users.append(_user_of)
