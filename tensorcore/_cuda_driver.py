"""Which cards CUDA calls 'cuda:0', 'cuda:1' ... in this process, asked of its driver where the program has started CUDA.

Nothing is loaded and nothing is started: a process that has not used CUDA may still fork, and stays without a context on any card.
"""

from __future__ import annotations

import ctypes
import os
import uuid
from dataclasses import dataclass

_SUCCESS = 0


@dataclass(frozen=True, slots=True)
class CudaDevice:
    """One device in CUDA's order: the UUID of its card or MIG instance, and whether this process has a primary context on it."""

    uuid: str
    active: bool


def started_devices() -> list[CudaDevice] | None:
    """Return CUDA's devices in its order; None where this process has not started CUDA, or its driver does not say."""
    try:
        driver = ctypes.CDLL("libcuda.so.1", mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
        count = ctypes.c_int()
        if driver.cuDeviceGetCount(ctypes.byref(count)) != _SUCCESS:  # CUDA_ERROR_NOT_INITIALIZED, in a forked child too
            return None
        return [_read_device(driver, number) for number in range(count.value)]
    except (OSError, AttributeError, _DriverError):  # not loaded; a function that it lacks
        return None


class _DriverError(Exception):
    """A call of the driver failed."""


def _read_device(driver: ctypes.CDLL, number: int) -> CudaDevice:
    device, flags, active = ctypes.c_int(), ctypes.c_uint(), ctypes.c_int()
    name = (ctypes.c_ubyte * 16)()
    calls = (
        driver.cuDeviceGet(ctypes.byref(device), number),
        driver.cuDeviceGetUuid_v2(ctypes.byref(name), device),  # version 2 names the MIG instance, not its card
        driver.cuDevicePrimaryCtxGetState(device, ctypes.byref(flags), ctypes.byref(active)),
    )
    if any(call != _SUCCESS for call in calls):
        raise _DriverError
    return CudaDevice(str(uuid.UUID(bytes=bytes(name))), bool(active.value))
