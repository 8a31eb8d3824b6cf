"""The C symbols for PyTorch over a fake device, called as PyTorch calls them: from C++, from threads, without the GIL."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import tensorcore as tc
from tensorcore import _torch
from tensorcore._lib import LIBRARY

if TYPE_CHECKING:
    from collections.abc import Callable

COMPILER = shutil.which(os.environ.get("CXX", "c++"))

PREPARE = """
import ctypes, sys, threading
import tensorcore as tc
from tensorcore import _torch
from tensorcore._lib import LIBRARY
fake = tc.FakeDeviceUpstream()
pool = tc.MemoryPool(device="cuda", upstream=fake, name="torch")
_torch.connect([pool])
library = ctypes.CDLL(LIBRARY)  # releases the GIL, as PyTorch does
malloc, free, record = (getattr(library, f"tensorcore_torch_{name}") for name in ("malloc", "free", "record_stream"))
malloc.argtypes, malloc.restype = [ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
free.argtypes, free.restype = [ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p], None
record.argtypes, record.restype = [ctypes.c_void_p, ctypes.c_void_p], None
"""

CALLER = """
#include <new>
typedef void *(*torch_malloc)(long, int, void *);
extern "C" int is_refused(torch_malloc malloc, long nbytes, int device) {
  try {
    malloc(nbytes, device, nullptr);
  } catch (const std::bad_alloc &) {
    return 1;
  }
  return 0;
}
"""


def test_blocks_are_taken_and_given_back_on_the_stream_that_pytorch_names(run_python: Callable[..., str]) -> None:
    """A freed block is reusable on its stream, and on a recorded one's account pending."""
    output = run_python(
        PREPARE
        + """
first = malloc(1000, 0, 16)
print(first % 512, pool.total_allocated)
free(first, 1000, 0, 16)
print(malloc(1000, 0, 16) == first, pool.statistics.requested.current)
record(first, 32)
fake.enqueue(32, 5)
free(first, 1000, 0, 16)
print(pool.statistics.pending.current, pool.total_allocated)
fake.advance(5)
print(pool.drain(), fake.counts.early)
"""
    )
    assert output.split("\n") == ["0 1024", "True 1000", "1024 0", "1024 0", ""]


def test_threads_without_the_gil_allocate_at_once(run_python: Callable[..., str]) -> None:
    """The first call of each asks Python for the pool."""
    output = run_python(
        PREPARE
        + """
def work(stream):
    for i in range(2000):
        free(malloc(1 + i % 5000, 0, stream), 1 + i % 5000, 0, stream)
threads = [threading.Thread(target=work, args=(16 * (i + 1),)) for i in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
pool.check()
print(pool.allocation_count, pool.total_allocated)
"""
    )
    assert output == "8000 0\n"


@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler: nobody could catch the exception")
def test_a_refusal_is_a_cpp_exception_and_says_why(run_python: Callable[..., str], tmp_path: Path) -> None:
    """std::bad_alloc for the caller; our error, with its figures, for sys.unraisablehook. A device without a GPU is refused too."""
    source, library = tmp_path / "caller.cpp", tmp_path / "caller.so"
    source.write_text(CALLER)
    assert COMPILER is not None
    subprocess.run([COMPILER, "-shared", "-fPIC", source, "-o", library], check=True)
    output = run_python(
        PREPARE
        + f"""
sys.unraisablehook = lambda what: print(type(what.exc_value).__name__, what.exc_value)
caller = ctypes.CDLL({str(library)!r})
caller.is_refused.argtypes = [ctypes.c_void_p, ctypes.c_long, ctypes.c_int]
address = ctypes.cast(malloc, ctypes.c_void_p)
pool.limit = "4MiB"
print(caller.is_refused(address, 1000, 0), caller.is_refused(address, 1 << 30, 0), caller.is_refused(address, -1, 0))
print(caller.is_refused(address, 1000, 63))
"""
    )
    lines = output.splitlines()
    assert lines[0].startswith("OutOfMemoryError pool 'torch' on cuda:0 could not hand out 1.00 GiB")
    assert "0 1 1" in lines
    if not tc.is_available("cuda"):
        assert lines[-2].startswith("DeviceUnavailableError")
        assert lines[-1] == "1"


def test_a_pool_under_pytorch_can_not_be_closed_or_exchanged(run_python: Callable[..., str]) -> None:
    """PyTorch may hold its memory for ever."""
    output = run_python(
        PREPARE
        + """
for wrong in (
    pool.close,
    lambda: _torch.connect([tc.MemoryPool(device="cuda", upstream="fake")]),
    lambda: _torch.connect([tc.MemoryPool()]),
):
    try:
        wrong()
    except ValueError as error:
        print(type(error).__name__, error)
_torch.connect([pool])
"""
    )
    first, second, third = output.splitlines()
    assert "'torch' is installed under PyTorch" in first
    assert "PyTorch has <MemoryPool 'torch' on cuda:0> on that device already" in second
    assert third.startswith("DeviceMismatchError")


# ---- the helpers, with a stand-in for PyTorch ------------------------------------------------------------------------------------


class StandIn:
    """torch.cuda.memory as far as the helpers use it."""

    def __init__(self, *, allocated: bool = False) -> None:
        self.allocated = allocated
        self.current: Any = None
        self.record_stream = 0

    def CUDAPluggableAllocator(self, path: str, malloc: str, free: str) -> Any:  # noqa: N802 - PyTorch's name
        """Make an allocator of the functions' names."""

        def set_record_stream_fn(address: int) -> None:
            self.record_stream = address

        inner = types.SimpleNamespace(set_record_stream_fn=set_record_stream_fn)
        return types.SimpleNamespace(names=(path, malloc, free), allocator=lambda: inner)

    def change_current_allocator(self, allocator: Any) -> None:
        """Refuse after the first CUDA tensor."""
        if self.allocated:
            raise RuntimeError("Can't swap an already initialized allocator")
        self.current = allocator


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> Callable[[StandIn], StandIn]:
    def put(stand_in: StandIn) -> StandIn:
        monkeypatch.setitem(sys.modules, "torch", types.ModuleType("torch"))
        monkeypatch.setitem(sys.modules, "torch.cuda", types.ModuleType("torch.cuda"))
        monkeypatch.setitem(sys.modules, "torch.cuda.memory", stand_in)
        monkeypatch.setitem(sys.modules, "torch._C", types.SimpleNamespace(_cuda_customAllocator=None))
        return stand_in

    return put


def test_the_allocator_names_symbols_that_the_shared_object_exports(torch: Callable[[StandIn], StandIn]) -> None:
    """And tells PyTorch where to record further streams."""
    stand_in = torch(StandIn())
    path, malloc, free = tc.torch_allocator().names
    assert (path, Path(path).exists()) == (LIBRARY, True)
    symbols = Path(path).read_bytes()
    assert malloc.encode() in symbols
    assert free.encode() in symbols
    assert stand_in.record_stream != 0


def test_installing_makes_it_pytorchs_allocator_or_says_that_it_is_too_late(torch: Callable[[StandIn], StandIn]) -> None:
    """PyTorch can't exchange an allocator that was used."""
    stand_in = torch(StandIn())
    _torch.install_torch()
    assert stand_in.current.names[0] == LIBRARY
    torch(StandIn(allocated=True))
    with pytest.raises(tc.TensorCoreError, match="before its first CUDA tensor"):
        _torch.install_torch()


def test_without_pytorch_or_its_cuda_build_the_error_says_so(
    monkeypatch: pytest.MonkeyPatch, torch: Callable[[StandIn], StandIn]
) -> None:
    """With the command that mends it."""
    torch(StandIn())
    monkeypatch.setitem(sys.modules, "torch._C", types.SimpleNamespace())
    with pytest.raises(tc.DeviceUnavailableError, match="built without CUDA"):
        tc.torch_allocator()
    monkeypatch.setitem(sys.modules, "torch.cuda.memory", None)
    with pytest.raises(tc.DeviceUnavailableError, match="pip install torch"):
        tc.torch_allocator()
