"""Fixtures of the Python tests: a pool that must end whole, the hook taken away again, and Python in a process of its own."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import cupy_double
import numpy as np
import pytest
from host_launcher import HostLauncher
from runtime_double import RuntimeDouble, StreamDouble

import tensorcore as tc
from tensorcore import _cuda, _cupy, _cupy_hook, _kernels, kernels
from tensorcore._lib import lib

if TYPE_CHECKING:
    from pathlib import Path

RunPython = Callable[..., str]


@pytest.fixture
def pool() -> Iterator[tc.MemoryPool]:
    """A pool of its own, whose metadata is walked after the test; the global pool stays the default."""
    pool = tc.MemoryPool()
    yield pool
    if not pool.closed:
        pool.check()
    pool.close()


@pytest.fixture
def hook(pool: tc.MemoryPool) -> Iterator[None]:  # noqa: ARG001 - the hook goes before the pool that it may have installed
    """Leave NumPy as it was, whatever the test installs."""
    assert tc.installed_pool() is None
    yield
    tc.uninstall()
    tc.uninstall(scope="context")


@pytest.fixture
def run_python(tmp_path: Path) -> RunPython:
    """Run a program in a process of its own and return what it prints; it must end with status 0 and write nothing to stderr."""

    def run(program: str, *options: str) -> str:
        command = [sys.executable, *options, "-c", textwrap.dedent(program)]
        result = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, timeout=120, check=False)
        assert (result.returncode, result.stderr) == (0, "")
        return result.stdout

    return run


@pytest.fixture
def simd_settings() -> Iterator[None]:
    """Leave the process-wide settings of `tensorcore.simd` as they were."""
    threads, name, stream = tc.simd.get_num_threads(), tc.simd.get_instruction_set(), lib.tc_simd_stream_from()
    yield
    tc.simd.set_num_threads(threads)
    tc.simd.set_instruction_set(name)
    lib.tc_simd_set_stream_from(stream)


@pytest.fixture(params=tc.simd.available_instruction_sets())
def instruction_set(request: pytest.FixtureRequest, simd_settings: None) -> str:  # noqa: ARG001 - the settings go back afterwards
    """Each instruction set that this machine can run."""
    name: str = request.param
    tc.simd.set_instruction_set(name)
    return name


# ---- a GPU without a GPU ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def launcher(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[HostLauncher]:
    """Let `tensorcore.kernels` find a launcher on the CPU; UBSan must have nothing to say afterwards."""
    launcher = HostLauncher()
    monkeypatch.setattr(kernels, "find_launcher", lambda: launcher)
    yield launcher
    assert "runtime error" not in capfd.readouterr().err


@pytest.fixture
def gpu_double(monkeypatch: pytest.MonkeyPatch) -> Iterator[tc.MemoryPool]:
    """The global pool of a GPU whose memory is the host's, with doubles of CuPy and its runtime; no block is left in it."""
    runtime, default = RuntimeDouble(), StreamDouble(0)
    cupy = cupy_double.CupyDouble(runtime)
    monkeypatch.setattr(cupy_double, "double", cupy)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setitem(sys.modules, "array_api_compat.cupy", cupy.compat)
    monkeypatch.setattr(_cupy, "runtime", lambda: runtime)
    monkeypatch.setattr(_cupy, "current_stream", lambda index: lambda: default)  # noqa: ARG005 - the same on each device
    _forget_cupy()
    pool = tc.get_global_memory_pool("cuda:0")
    yield pool
    gc.collect()
    runtime.run()
    left = pool.total_allocated
    pool.check()
    pool.close()
    tc.get_global_memory_pool("cpu").check()
    assert left == 0
    _forget_cupy()


def _forget_cupy() -> None:
    _cuda._find_upstream.cache_clear()
    _kernels._cupy_launcher.cache_clear()


# ---- CuPy without a GPU: its wheel works without a driver, but for the current device and the current stream ---------------------


def cupy_module() -> Any:
    """Return `cupy`, or skip."""
    return pytest.importorskip("cupy", reason="CuPy is not installed: pip install cupy-cuda13x")


class FakeGpus(tc.CupyMemoryPool):
    """The face of pools on fake devices; `device` is the current one, streams are those of each fake."""

    def __init__(self, *pools: tc.MemoryPool) -> None:
        self.device = 0
        super().__init__(pools)

    def _current_device(self) -> int:
        return self.device

    def _current_stream_function(self) -> Callable[[], int]:
        return lambda: self.pool().upstream.current_stream()

    def _make_malloc(self) -> Callable[[int], Any]:
        """Do what CuPy's CFunctionAllocator.malloc does, with this device as the current one."""
        port, memory = self._port, cupy_module().cuda.memory

        def malloc(nbytes: int) -> Any:
            owned = memory.CFunctionAllocatorMemory(nbytes, port.param, port.malloc, port.free, self.device)
            return memory.MemoryPointer(owned, 0)

        return malloc


class FakePinned(tc.CupyPinnedMemoryPool):
    """The face of a pinned pool over a fake device."""

    def _current_device(self) -> int:
        return 0


@pytest.fixture
def fake() -> tc.FakeDeviceUpstream:
    """A device whose clock stands still."""
    return tc.FakeDeviceUpstream()


@pytest.fixture
def device_pool(fake: tc.FakeDeviceUpstream) -> Iterator[tc.MemoryPool]:
    """A pool on it; no block may have been handed over too early."""
    with tc.MemoryPool(device="cuda", upstream=fake) as pool:
        yield pool
        if not pool.closed:
            pool.check()
        assert (fake.counts.early, fake.counts.errors) == (0, 0)


@pytest.fixture
def face(device_pool: tc.MemoryPool) -> FakeGpus:
    """The face over one fake device; skips without CuPy."""
    cupy_module()
    return FakeGpus(device_pool)


@pytest.fixture
def pinned() -> Iterator[FakePinned]:
    """The face of a pinned pool; skips without CuPy."""
    cupy_module()
    with tc.MemoryPool(device="pinned", upstream="fake") as pool:
        yield FakePinned([pool])
        pool.check()


@pytest.fixture
def installed(face: FakeGpus, pinned: FakePinned) -> Iterator[FakeGpus]:
    """The faces under CuPy, and CuPy as it was afterwards."""
    cupy = cupy_module()
    before = (cupy.cuda.get_allocator(), cupy.get_default_memory_pool(), cupy.get_default_pinned_memory_pool())
    _cupy_hook.put_in(_cupy_hook.Faces(face, pinned))
    yield face
    tc.uninstall()
    assert (cupy.cuda.get_allocator(), cupy.get_default_memory_pool(), cupy.get_default_pinned_memory_pool()) == before


@pytest.fixture
def grid(pool: tc.MemoryPool) -> tc.Tensor:
    """A tensor of shape (3, 4) that holds 0 ... 11."""
    tensor = tc.Tensor((3, 4), pool=pool)
    tensor[...] = np.arange(12.0).reshape(3, 4)
    return tensor
