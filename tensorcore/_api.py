"""Every public name, imported from the module that has it; `tensorcore` hands them on at first use."""

from . import simd
from ._allocation import PooledAllocation
from ._backend import Backend, Device, device, devices, is_available, register_backend
from ._callbacks import on_out_of_memory
from ._creation import arange, asarray, empty, from_dlpack, full, ones, zeros
from ._cupy_pools import CupyMemoryPool, CupyPinnedMemoryPool
from ._defaults import default_device, get_default_device, set_default_device
from ._errors import (
    BlockFaultError,
    CallSite,
    CorruptionError,
    DeviceMismatchError,
    DeviceUnavailableError,
    DoubleFreeError,
    HookWarning,
    InvalidFreeError,
    OutOfMemoryError,
    OverflowDetectedError,
    PoolClosedError,
    ReleasedError,
    SizeMismatchError,
    TensorCoreError,
    TensorCoreWarning,
    UtilizationWarning,
    WriteAfterFreeError,
)
from ._fake_device import FakeDeviceCounts, FakeDeviceUpstream
from ._global import current_pool, get_global_memory_pool, set_global_memory_pool
from ._gpus import GpuMemory, GpuStatistics
from ._hook import hook_mode, install, installed, installed_pool, uninstall
from ._host import HostStatistics
from ._lib import __version__, get_include
from ._pool import MemoryPool
from ._scope import Scope, scope
from ._scope_statistics import ScopeDeviceStatistics, ScopeStatistics
from ._snapshot import Statistics, statistics
from ._statistics import ByteStatistic, MemoryStatistics, PoolStatistics, SizeClassStatistics
from ._tensor import Tensor
from ._torch import torch_allocator
from ._upstream import FakeCounts, FakeUpstream, Upstream

__all__ = [
    "Backend",
    "BlockFaultError",
    "ByteStatistic",
    "CallSite",
    "CorruptionError",
    "CupyMemoryPool",
    "CupyPinnedMemoryPool",
    "Device",
    "DeviceMismatchError",
    "DeviceUnavailableError",
    "DoubleFreeError",
    "FakeCounts",
    "FakeDeviceCounts",
    "FakeDeviceUpstream",
    "FakeUpstream",
    "GpuMemory",
    "GpuStatistics",
    "HookWarning",
    "HostStatistics",
    "InvalidFreeError",
    "MemoryPool",
    "MemoryStatistics",
    "OutOfMemoryError",
    "OverflowDetectedError",
    "PoolClosedError",
    "PoolStatistics",
    "PooledAllocation",
    "ReleasedError",
    "Scope",
    "ScopeDeviceStatistics",
    "ScopeStatistics",
    "SizeClassStatistics",
    "SizeMismatchError",
    "Statistics",
    "Tensor",
    "TensorCoreError",
    "TensorCoreWarning",
    "Upstream",
    "UtilizationWarning",
    "WriteAfterFreeError",
    "__version__",
    "arange",
    "asarray",
    "current_pool",
    "default_device",
    "device",
    "devices",
    "empty",
    "from_dlpack",
    "full",
    "get_default_device",
    "get_global_memory_pool",
    "get_include",
    "hook_mode",
    "install",
    "installed",
    "installed_pool",
    "is_available",
    "on_out_of_memory",
    "ones",
    "register_backend",
    "scope",
    "set_default_device",
    "set_global_memory_pool",
    "simd",
    "statistics",
    "torch_allocator",
    "uninstall",
    "zeros",
]
