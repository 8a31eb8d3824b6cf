"""What the core calls back: the out-of-memory ladder's last steps and the watermark, on whatever thread is allocating.

The core holds no lock meanwhile. An exception in a user's callback goes to `sys.unraisablehook`: it can't cross the core, and an
allocation that succeeds after all must not fail because of it.
"""

from __future__ import annotations

import gc
import threading
import warnings
from typing import TYPE_CHECKING, Any

from ._errors import UtilizationWarning
from ._lib import address_of, ffi, native
from ._registry import pools

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._pool import MemoryPool

_everywhere: list[Callable[[MemoryPool, int], object]] = []
_on_ladder = threading.local()


def on_out_of_memory(callback: Callable[[MemoryPool, int], object]) -> Callable[[], None]:
    """Call `callback(pool, nbytes)` whenever a pool is about to refuse an allocation, so that it can free memory.

    The core has reclaimed what it can and run `gc.collect()` by then. Each callback is called at most once per failing allocation,
    the pool's own ones first, and the pool searches again after each. What it returns is ignored.

    Parameters
    ----------
    callback
        Is given the `MemoryPool`, which it must not close, and the bytes asked for. It may run on any thread. Allocations that it
        makes itself find no ladder: they fail at once where the pool is still full.

    Returns
    -------
    callable
        Takes the callback away again; a second call does nothing.
    """
    return add_callback(_everywhere, callback)


def add_callback(callbacks: list[Any], callback: Callable[..., object]) -> Callable[[], None]:
    """Append a callback and return the function that takes it away."""
    entry = [callback]
    callbacks.append(callback)

    def remove() -> None:
        if entry:
            callbacks.remove(entry.pop())

    return remove


def report(error: BaseException, callback: object) -> None:
    """Hand an exception to sys.unraisablehook, as Python does for one in a finaliser."""
    native.report(error, callback)


@ffi.def_extern(error=0)  # type: ignore[untyped-decorator]
def tensorcore_on_out_of_memory(pool: Any, nbytes: int, attempt: int, context: Any) -> int:  # noqa: ARG001 - the C signature
    """Attempt 0 collects garbage, attempt k runs callback k - 1; 1 while there was something to try."""
    if getattr(_on_ladder, "busy", False):
        return 0  # a callback that allocates from a full pool: the ladder is being climbed by its caller already
    _on_ladder.busy = True
    try:
        return _climb(pools.get(address_of(pool)), nbytes, attempt)
    finally:
        _on_ladder.busy = False


def _climb(pool: MemoryPool | None, nbytes: int, attempt: int) -> int:
    if attempt == 0:
        gc.collect()
        return 1
    if pool is None:
        return 0
    callbacks = [*pool._out_of_memory_callbacks, *_everywhere]
    if attempt > len(callbacks):
        return 0
    callback = callbacks[attempt - 1]
    try:
        callback(pool, nbytes)
    except BaseException as error:
        report(error, callback)
    return 1


@ffi.def_extern()  # type: ignore[untyped-decorator]
def tensorcore_on_watermark(pool: Any, utilization: float, context: Any) -> None:  # noqa: ARG001 - the C signature
    """Run the callback given to warn_at, or warn."""
    found = pools.get(address_of(pool))
    if found is None:
        return
    callback = found._watermark_callback or warn_of_utilization
    try:
        callback(found, utilization)
    except BaseException as error:
        report(error, callback)


def warn_of_utilization(pool: MemoryPool, utilization: float) -> None:
    """Issue an `UtilizationWarning`; where warnings are errors, the error is reported as unraisable."""
    warnings.warn(
        f"pool {pool.name!r} on {pool.device} uses {utilization:.1%} of its {pool.total_capacity:,} reserved bytes; "
        f"reserve more ahead of use (pool.reserve), or drop arrays",
        UtilizationWarning,
        stacklevel=3,
    )
