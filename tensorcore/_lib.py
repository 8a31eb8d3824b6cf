"""The only importer of the compiled core: its functions bound once, and the one function that turns a status into an exception.

`lib` and `ffi` are cffi's (a call costs about 60 ns and releases the GIL); `native` holds the functions that run once per array
(about 30 ns, the GIL stays held).
"""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING, Any, NoReturn

import numpy

from . import _core
from ._errors import (
    BlockFaultError,
    CallSite,
    CorruptionError,
    DeviceUnavailableError,
    DoubleFreeError,
    InvalidFreeError,
    OverflowDetectedError,
    PoolClosedError,
    SizeMismatchError,
    TensorCoreError,
    WriteAfterFreeError,
)
from ._units import format_bytes

if TYPE_CHECKING:
    from . import _native

    native = _native
else:
    _address = int(_core.ffi.cast("intptr_t", _core.ffi.addressof(_core.lib, "tci_native_module")))
    native = ctypes.PYFUNCTYPE(ctypes.py_object)(_address)()

ffi: Any = _core.ffi
lib: Any = _core.lib

OK: int = lib.TC_OK
OUT_OF_MEMORY: int = lib.TC_OUT_OF_MEMORY
INVALID_FREE: int = lib.TC_INVALID_FREE
CLOSED: int = lib.TC_CLOSED
ALIGNMENT: int = lib.TC_ALIGNMENT
DEVICE_ALIGNMENT: int = lib.TC_DEVICE_ALIGNMENT
FORKED: int = lib.TC_FORKED
STREAM_OF_BLOCK: int = lib.TC_STREAM_OF_BLOCK
__version__: str = ffi.string(lib.tc_version()).decode()

FORK_EXPLAINED = (
    "its memory belongs to the process that this one was forked from, as CUDA does not outlive a fork; "
    "make a pool here, or start processes with multiprocessing.get_context('spawn')"
)

arrays_can_own_blocks: bool = native.array_layout_matches()
"""False where this NumPy lays out its arrays in an unknown way: arrays then keep their block through an owner object."""

LIBRARY: str = os.path.abspath(_core.__file__)  # noqa: PTH100  # pathlib costs 0.5 MB
"""The shared object of the core, whose symbols other libraries look up."""

C_API: object = native.C_API
"""The capsule of tensorcore_capi.h."""


def get_include() -> str:
    """Return the folder of ``tensorcore_capi.h``, ``tensorcore.h`` and ``tensorcore/memory_pool.hpp``, for C and C++ extensions."""
    return os.path.join(os.path.dirname(_core.__file__), "include")  # noqa: PTH118, PTH120  # pathlib costs 0.5 MB


def pointer(address: int, ctype: str = "void *") -> Any:
    """Return an address as a cffi pointer."""
    return ffi.cast(ctype, address)


def address_of(pointer: Any) -> int:
    """Return a cffi pointer as an address; 0 for NULL."""
    return int(ffi.cast("uintptr_t", pointer))


def find_block(address: int) -> Any:
    """Return the tc_block that describes an address: pool, start, requested, capacity, in_use."""
    block = ffi.new("tc_block *")
    lib.tc_block_find(pointer(address), block)
    return block


def pool_name(pool: Any) -> str:
    """Return the name of a tc_pool."""
    return str(ffi.string(lib.tc_pool_name(pool)).decode())


def raise_status(status: int, what: str, *, address: int = 0, nbytes: int | None = None, detail: str = "") -> NoReturn:
    """Raise the exception of a status other than TC_OK; TC_OUT_OF_MEMORY is raised by the pool, which knows the figures.

    Parameters
    ----------
    status
        A tc_status.
    what
        What was tried and on which pool, as the start of a sentence: "pool 'a' refused to deallocate 0x10".
    address, nbytes
        The address that was to be freed, and the size given with it.
    detail
        More to say: the message of tc_pool_check.
    """
    if status in _FAULTS:
        raise fault_error(status, what, address, nbytes)
    if status == lib.TC_CLOSED:
        raise PoolClosedError(f"{what}: the pool was closed; make a new MemoryPool")
    if status == lib.TC_FORKED:
        raise DeviceUnavailableError(f"{what}: {FORK_EXPLAINED}")
    if status == lib.TC_CORRUPT:
        raise CorruptionError(f"{what}: {detail}")
    if status == lib.TC_INVALID_ARGUMENT:
        raise ValueError(f"{what}: {detail}")
    if status == lib.TC_TOO_MANY_POOLS:
        raise TensorCoreError(f"{what}: {lib.TC_MAX_POOLS} pools are alive; close some")
    raise TensorCoreError(f"{what}: {ffi.string(lib.tc_status_string(status)).decode()}")


_FAULTS: dict[int, type[BlockFaultError]] = {
    lib.TC_INVALID_FREE: InvalidFreeError,
    lib.TC_DOUBLE_FREE: DoubleFreeError,
    lib.TC_SIZE_MISMATCH: SizeMismatchError,
    lib.TC_OVERFLOW: OverflowDetectedError,
    lib.TC_WRITE_AFTER_FREE: WriteAfterFreeError,
}


def fault_error(status: int, what: str, address: int = 0, nbytes: int | None = None) -> BlockFaultError:
    """Return the exception of a fault, with what the core knows of the thread's last one."""
    fault = ffi.new("tc_fault *")
    known = bool(lib.tc_last_fault(fault)) and fault.status == status
    why = _explain(status, fault, address)
    sites = {"allocated": _call_site(fault.allocated), "deallocated": _call_site(fault.freed), "found": _call_site(fault.call)}
    has_sites = known and (sites["allocated"] or sites["deallocated"])
    told = "".join(f"; {verb} by {site}" for verb, site in sites.items() if site) if has_sites else ""
    given = f" as {nbytes} bytes" if status == lib.TC_SIZE_MISMATCH else ""
    error = _FAULTS[status](f"{what}{given}: {why}{told}")
    error.address = address or address_of(fault.address)
    if known:
        error.requested = int(fault.block.requested)
        error.origin = None if fault.block.pool == ffi.NULL else pool_name(fault.block.pool)
    if has_sites:
        error.allocated_by, error.deallocated_by, error.found_by = sites.values()
    return error


def _explain(status: int, fault: Any, address: int) -> str:
    if status == lib.TC_INVALID_FREE:
        return _describe_address(address)
    if status == lib.TC_DOUBLE_FREE:
        return "the block there is not in use; it was deallocated before, drop the second deallocation"
    if status == lib.TC_SIZE_MISMATCH:
        return f"it was allocated as {find_block(address).requested} bytes; give that size or none"
    start, first = address_of(fault.block.start), address_of(fault.address)
    what = f"the block of {fault.block.requested} bytes at 0x{start:x} was written {first - start} bytes from its start"
    return what + (", which is behind its end" if status == lib.TC_OVERFLOW else " after it was deallocated")


def _call_site(site: Any) -> CallSite | None:
    if site.call == ffi.NULL and site.thread == 0:
        return None
    text = ffi.new("char[]", 512)
    lib.tc_site_describe(site.call, text, len(text))
    return CallSite(int(site.thread), ffi.string(text).decode(errors="replace"))


def _last_fault_error() -> BlockFaultError:
    """Return the thread's last fault, found by a call that has no status to return."""
    fault = ffi.new("tc_fault *")
    lib.tc_last_fault(fault)
    return fault_error(fault.status, f"pool {pool_name(fault.pool)!r}", address_of(fault.address), fault.nbytes)


_OWN_FOLDERS = tuple(f"{os.path.dirname(path)}{os.sep}" for path in (__file__, numpy.__file__))  # noqa: PTH120
native.watch_faults(_last_fault_error, _OWN_FOLDERS)


def _describe_address(address: int) -> str:
    """Return what an address is instead of the start of a block of the pool that was asked, and what to do."""
    block = find_block(address)
    if block.pool == ffi.NULL:
        return "no TensorCore pool handed out this address; free it where it was allocated"
    start = address_of(block.start)
    if start not in (0, address):
        state = f"block of {format_bytes(block.requested)} in use" if block.in_use else "free block"
        where = f"{address - start:,} bytes inside a {state} of pool {pool_name(block.pool)!r}"
        return f"it lies {where}; deallocate its start, 0x{start:x}"
    if start == 0:
        return f"no block of pool {pool_name(block.pool)!r} starts there; deallocate what allocate returned"
    return f"it is a block of pool {pool_name(block.pool)!r}; deallocate it there"
