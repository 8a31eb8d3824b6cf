"""Every public name, imported from the module that has it; `tensorcore` hands them on at first use."""

from ._allocation import PooledAllocation
from ._backend import Backend, Device, device, devices, is_available, register_backend
from ._callbacks import on_out_of_memory
from ._errors import (
    BlockFaultError,
    CallSite,
    CorruptionError,
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
from ._global import get_global_memory_pool, set_global_memory_pool
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
from ._upstream import FakeCounts, FakeUpstream, Upstream

__all__ = [
    "Backend",
    "BlockFaultError",
    "ByteStatistic",
    "CallSite",
    "CorruptionError",
    "Device",
    "DeviceUnavailableError",
    "DoubleFreeError",
    "FakeCounts",
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
    "device",
    "devices",
    "get_global_memory_pool",
    "get_include",
    "hook_mode",
    "install",
    "installed",
    "installed_pool",
    "is_available",
    "on_out_of_memory",
    "register_backend",
    "scope",
    "set_global_memory_pool",
    "statistics",
    "uninstall",
]
