"""What can go wrong, as exceptions: each is the builtin that a caller would catch and a `TensorCoreError` too.

A message names the value, the state it met and the fix.
"""

from __future__ import annotations

from dataclasses import dataclass

from ._units import format_bytes


class TensorCoreError(Exception):
    """Base of every error that TensorCore raises on its own account."""


class InvalidFreeError(TensorCoreError, ValueError):
    """The address is not the start of a block of this pool. Nothing was changed."""


class DoubleFreeError(TensorCoreError, ValueError):
    """The block at this address is not in use: it was deallocated before. Nothing was changed."""


class SizeMismatchError(TensorCoreError, ValueError):
    """The size given is not the size that was asked for. The block is still in use."""


class PoolClosedError(TensorCoreError, ValueError):
    """The pool was closed and hands out nothing more; blocks that are still alive stay valid."""


class ReleasedError(TensorCoreError, ValueError):
    """The allocation was released and has no address any more."""


class DeviceUnavailableError(TensorCoreError, RuntimeError):
    """The device, or the library that serves it, is not there or not usable."""


class CorruptionError(TensorCoreError, RuntimeError):
    """`MemoryPool.check` found a broken invariant: something wrote over the pool's own pages, or the core has a bug."""


class TensorCoreWarning(UserWarning):
    """Base of TensorCore's warnings."""


class UtilizationWarning(TensorCoreWarning):
    """A pool's utilization ratio rose above the ratio given to `MemoryPool.warn_at`."""


class HookWarning(TensorCoreWarning):
    """The NumPy hook does less than was asked for."""


@dataclass(frozen=True, slots=True)
class PoolState:
    """What an `OutOfMemoryError` says of its pool: sizes in bytes at the time of the refusal."""

    name: str
    device: str
    allocated: int
    reserved: int
    limit: int | None
    largest_free_block: int


class OutOfMemoryError(TensorCoreError, MemoryError):
    """The limit or the upstream refused, after everything reclaimable was reclaimed.

    Attributes
    ----------
    requested, allocated, reserved, largest_free_block : int
        Bytes: of the request, of the live blocks, held from upstream, and of the largest free page run.
    limit : int or None
        The cap on reserved bytes; None where the pool has none.
    device : str
        For example ``"cpu"``.
    """

    def __init__(self, requested: int, state: PoolState) -> None:
        self.requested = requested
        self.device = state.device
        self.allocated = state.allocated
        self.reserved = state.reserved
        self.limit = state.limit
        self.largest_free_block = state.largest_free_block
        self._state = state
        super().__init__(
            f"pool {state.name!r} on {state.device} could not hand out {format_bytes(requested)}: "
            f"{format_bytes(state.allocated)} allocated, {format_bytes(state.reserved)} reserved, "
            f"limit {'none' if state.limit is None else format_bytes(state.limit)}, "
            f"largest free block {format_bytes(state.largest_free_block)}; {self._fix(state)}"
        )

    def _fix(self, state: PoolState) -> str:
        if state.limit is None:
            return "the upstream has no more: drop arrays, or ask for less"
        if self.requested > state.limit:
            return "the request alone is above the limit: raise pool.limit, or ask for less"
        return "drop arrays, raise pool.limit, or free memory in an on_out_of_memory callback"

    def __reduce__(self) -> tuple[type[OutOfMemoryError], tuple[int, PoolState]]:
        return type(self), (self.requested, self._state)
