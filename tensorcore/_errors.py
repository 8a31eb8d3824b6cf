"""What can go wrong, as exceptions: each is the builtin that a caller would catch and a `TensorCoreError` too.

A message names the value, the state it met and the fix.
"""

from __future__ import annotations

from dataclasses import dataclass

from ._units import format_bytes


class TensorCoreError(Exception):
    """Base of every error that TensorCore raises on its own account."""


@dataclass(frozen=True, slots=True)
class CallSite:
    """Who called: a thread, by the system's number (`threading.get_native_id`), and a place, as ``file:line`` or a C function."""

    thread: int
    place: str

    def __str__(self) -> str:
        return f"thread {self.thread} at {self.place}"


class BlockFaultError(TensorCoreError):
    """Base of the errors about what was done with a block.

    Attributes
    ----------
    address : int
        What was given, or the first byte found written.
    requested : int
        The bytes that the block was allocated with; 0 where they are not known.
    origin : str or None
        The name of the pool that the memory belongs to.
    allocated_by, deallocated_by, found_by : CallSite or None
        Of the block's last allocation, of its deallocation where it came back, and of the call that raises. Known in the modes
        ``"checked"`` and ``"hardened"`` until the block is handed out again.
    """

    address: int = 0
    requested: int = 0
    origin: str | None = None
    allocated_by: CallSite | None = None
    deallocated_by: CallSite | None = None
    found_by: CallSite | None = None


class InvalidFreeError(BlockFaultError, ValueError):
    """The address is not the start of a block of this pool. Nothing was changed."""


class DoubleFreeError(BlockFaultError, ValueError):
    """The block at this address is not in use: it was deallocated before. Nothing was changed."""


class SizeMismatchError(BlockFaultError, ValueError):
    """The size given is not the size that was asked for. The block is still in use."""


class PoolClosedError(TensorCoreError, ValueError):
    """The pool was closed and hands out nothing more; blocks that are still alive stay valid."""


class ReleasedError(TensorCoreError, ValueError):
    """The allocation was released and has no address any more."""


class DeviceUnavailableError(TensorCoreError, RuntimeError):
    """The device, or the library that serves it, is not there or not usable."""


class DeviceMismatchError(TensorCoreError, ValueError):
    """Memory of one device was given where another's is needed; nothing is copied between devices unasked."""


class CorruptionError(TensorCoreError, RuntimeError):
    """`MemoryPool.check` found a broken invariant: something wrote over the pool's own pages, or the core has a bug."""


class OverflowDetectedError(BlockFaultError, RuntimeError):
    """Bytes behind a block were written. Raised by a deallocation, the block was taken back all the same."""


class WriteAfterFreeError(BlockFaultError, RuntimeError):
    """A block was written after it came back; it will not be handed out before its memory has gone to the pool's heap."""


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
        MemoryError.__init__(  # not super(): a device pool's class is CuPy's too, whose constructor takes other arguments
            self,
            f"pool {state.name!r} on {state.device} could not hand out {format_bytes(requested)}: "
            f"{format_bytes(state.allocated)} allocated, {format_bytes(state.reserved)} reserved, "
            f"limit {'none' if state.limit is None else format_bytes(state.limit)}, "
            f"largest free block {format_bytes(state.largest_free_block)}; {self._fix(state)}",
        )

    def _fix(self, state: PoolState) -> str:
        if state.limit is None:
            return "the upstream has no more: drop arrays, or ask for less"
        if self.requested > state.limit:
            return "the request alone is above the limit: raise pool.limit, or ask for less"
        return "drop arrays, raise pool.limit, or free memory in an on_out_of_memory callback"

    def __reduce__(self) -> tuple[type[OutOfMemoryError], tuple[int, PoolState]]:
        return OutOfMemoryError, (self.requested, self._state)  # not type(self): a device pool's class is made at run time
