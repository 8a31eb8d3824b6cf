"""The memory manager for Numba, over a fake device; Numba itself is real, and needs no GPU for this."""

from __future__ import annotations

import gc
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

import tensorcore as tc

pytest.importorskip("numba.cuda", reason="numba-cuda is not installed: pip install numba-cuda")

if TYPE_CHECKING:
    from collections.abc import Callable


class Context:
    """What a memory manager asks of Numba's context."""

    device = SimpleNamespace(id=0)


@pytest.fixture
def manager() -> Any:
    from tensorcore.numba_plugin import _numba_memory_manager

    context = Context()
    manager = _numba_memory_manager(context=context)
    manager.initialize()
    return manager


def test_numba_finds_and_accepts_the_manager(run_python: Callable[..., str]) -> None:
    """By the environment variable's name; the interface's version is the one that Numba supports."""
    output = run_python("""
        import os
        os.environ["NUMBA_CUDA_MEMORY_MANAGER"] = "tensorcore.numba_plugin"
        from numba.cuda.cudadrv import driver
        driver._ensure_memory_manager()
        print(driver._memory_manager.__name__)
    """)
    assert output == "TensorCoreMemoryManager\n"


def test_device_memory_is_a_block_of_the_scopes_pool(manager: Any, device_pool: tc.MemoryPool) -> None:
    """It goes back with the pointer, or when freed by hand."""
    with device_pool.use():
        pointer = manager.memalloc(1000)
        assert (int(pointer.handle) % 512, pointer.size, device_pool.total_allocated) == (0, 1000, 1024)
        del pointer
        gc.collect()
        assert device_pool.total_allocated == 0
        pointer = manager.memalloc(1000)
        pointer.free()
        assert device_pool.total_allocated == 0


def test_a_freed_block_waits_for_all_that_the_default_stream_waits_for(
    manager: Any, device_pool: tc.MemoryPool, fake: tc.FakeDeviceUpstream
) -> None:
    """Numba names no streams: until an event on the default stream has passed, nobody gets the block."""
    with device_pool.use():
        pointer = manager.memalloc(1000)
        address = int(pointer.handle)
        fake.enqueue(0, 7, address, 1000)
        pointer.free()
        assert device_pool.statistics.pending.current == 1024
        assert int(manager.memalloc(1000).handle) != address
        fake.advance(7)
        assert device_pool.drain() >= 1024


def test_a_refusal_is_typed(manager: Any, device_pool: tc.MemoryPool) -> None:
    """With the figures."""
    device_pool.limit = 4 << 20
    with device_pool.use(), pytest.raises(tc.OutOfMemoryError, match=r"1\.00 GiB"):
        manager.memalloc(1 << 30)


def test_memory_info_is_the_devices(manager: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the CUDA runtime tells it."""
    from tensorcore import _cupy

    monkeypatch.setattr(_cupy, "runtime", lambda: SimpleNamespace(memGetInfo=lambda: (5, 10)))
    assert manager.get_memory_info() == (5, 10)
    assert "tensorcore.numba_plugin" in sys.modules
