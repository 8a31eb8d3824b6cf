"""Device pools under PyTorch: the C symbols of csrc/python/torch_port.c as an allocator of its own kind."""

from __future__ import annotations

import ctypes
import threading
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._errors import DeviceMismatchError, DeviceUnavailableError, TensorCoreError
from ._global import get_global_memory_pool
from ._lib import LIBRARY, native
from ._registry import users

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._pool import MemoryPool

_lock = threading.Lock()
_pools: dict[int, MemoryPool] = {}  # by the number of the device; PyTorch may hold memory of each for ever
_connected = False


def torch_allocator(pools: Iterable[MemoryPool] = ()) -> Any:
    """Return a `torch.cuda.memory.CUDAPluggableAllocator` over device pools.

    It is for `torch.cuda.memory.change_current_allocator`, before PyTorch's first CUDA tensor, or, at any time, for a
    `torch.cuda.MemPool` in a `torch.cuda.use_mem_pool` block. Each call means the same pools: there is one for each device.

    Parameters
    ----------
    pools
        `MemoryPool` objects, at most one for each GPU. A GPU without one uses its global pool.

    Raises
    ------
    DeviceUnavailableError
        PyTorch is not installed, or was built without CUDA.
    DeviceMismatchError
        A pool is not of a device ``"cuda"``.
    ValueError
        A device has another pool under PyTorch already.

    Notes
    -----
    A request that fails raises RuntimeError in PyTorch, from std::bad_alloc; our OutOfMemoryError goes to `sys.unraisablehook`.
    """
    memory = _torch_memory()
    connect(pools)
    allocator = memory.CUDAPluggableAllocator(LIBRARY, "tensorcore_torch_malloc", "tensorcore_torch_free")
    set_record_stream = getattr(allocator.allocator(), "set_record_stream_fn", None)
    if set_record_stream is not None:  # from PyTorch 2.2 on: else Tensor.record_stream is lost
        set_record_stream(ctypes.cast(ctypes.CDLL(LIBRARY).tensorcore_torch_record_stream, ctypes.c_void_p).value)
    return allocator


def install_torch(pools: Iterable[MemoryPool] = ()) -> None:
    """Make device pools PyTorch's allocator for the rest of the process; errors as `torch_allocator`.

    Raises
    ------
    TensorCoreError
        PyTorch has allocated CUDA memory already, and can't change its allocator any more.
    """
    memory, allocator = _torch_memory(), torch_allocator(pools)
    try:
        memory.change_current_allocator(allocator)
    except RuntimeError as error:
        raise TensorCoreError(
            f"PyTorch keeps the allocator that it has ({error}): call tensorcore.install(torch=True) before its first CUDA tensor"
        ) from error


def _torch_memory() -> Any:
    try:
        memory = import_module("torch.cuda.memory")
        import_module("torch._C")._cuda_customAllocator  # noqa: B018 - builds without CUDA lack it
    except ImportError as error:
        raise DeviceUnavailableError(f"PyTorch can't be imported ({error}): pip install torch") from error
    except AttributeError:
        raise DeviceUnavailableError("this PyTorch was built without CUDA: install a CUDA build, as pytorch.org tells") from None
    return memory


def connect(pools: Iterable[MemoryPool] = ()) -> None:
    """Let the C symbols allocate from pools."""
    global _connected
    with _lock:
        for pool in pools:
            if pool.device.kind != "cuda":
                raise DeviceMismatchError(f"{pool!r} is not of a device 'cuda'")
            if _pools.setdefault(pool.device.index, pool) is not pool:
                raise ValueError(f"PyTorch has {_pools[pool.device.index]!r} on that device already, and may hold its memory")
        if not _connected:
            native.torch_connect(find_pool)
            _connected = True


def find_pool(device: int, nbytes: int) -> MemoryPool:
    """Return the pool of a device; where a size is given, it was refused: raise what that means."""
    pool = _pools.get(device)
    if pool is None:
        pool = _pools.setdefault(device, get_global_memory_pool(f"cuda:{device}"))
    if nbytes >= 0:
        pool._refuse(nbytes)
    return pool


def _user_of(pool: MemoryPool) -> str | None:
    return "PyTorch" if pool in _pools.values() else None


users.append(_user_of)
