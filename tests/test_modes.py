"""Modes: what checked and hardened pools find, what their errors say, and how a mode is chosen."""

from __future__ import annotations

import ctypes
import os
import pickle
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import tensorcore as tc

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROUNDS = 1000  # more pairs than a quarantine has places


@pytest.fixture(params=["checked", "hardened"])
def pool(request: pytest.FixtureRequest) -> Iterator[tc.MemoryPool]:
    """A pool of each mode."""
    with tc.MemoryPool(mode=request.param, on_fault="raise", guard_every=0 if request.param == "hardened" else None) as pool:
        yield pool


@pytest.fixture
def unraisable(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """What went to sys.unraisablehook."""
    seen: list[BaseException] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda details: seen.append(details.exc_value))
    return seen


def flip(address: int) -> None:
    """Change one byte, whoever owns it."""
    byte = ctypes.c_ubyte.from_address(address)
    byte.value ^= 0xFF


def churn(pool: tc.MemoryPool, nbytes: int) -> None:
    """Allocate and deallocate until every block of the size was handed out again."""
    for _ in range(ROUNDS):
        pool.deallocate(pool.allocate(nbytes))


def line_of(site: tc.CallSite | None) -> int:
    """Return the line of a call site that lies in this file."""
    assert site is not None
    file, _, line = site.place.rpartition(":")
    assert file == __file__
    return int(line)


def here() -> int:
    """Return the caller's line."""
    return sys._getframe(1).f_lineno


def test_a_double_free_names_the_allocation_and_both_deallocations(pool: tc.MemoryPool) -> None:
    """By thread and line of Python."""
    address, allocated = pool.allocate(1000), here()
    worker = threading.Thread(target=pool.deallocate, args=(address,))
    worker.start()
    worker.join()
    with pytest.raises(tc.DoubleFreeError) as caught:
        pool.deallocate(address)
    error = caught.value
    assert (error.address, error.requested, error.origin) == (address, 1000, pool.name)
    assert line_of(error.allocated_by) == allocated
    assert line_of(error.found_by) == allocated + 5
    assert error.deallocated_by is not None
    assert error.deallocated_by.thread not in (0, threading.get_native_id())
    assert error.allocated_by is not None
    assert error.allocated_by.thread == threading.get_native_id()
    assert f"thread {error.deallocated_by.thread}" in str(error)


def test_a_wrong_size_and_a_foreign_pool_name_the_origin(pool: tc.MemoryPool) -> None:
    """The refused call changes nothing."""
    address, allocated = pool.allocate(100), here()
    with pytest.raises(tc.SizeMismatchError, match="it was allocated as 100 bytes") as mismatch:
        pool.deallocate(address, 99)
    assert (mismatch.value.requested, line_of(mismatch.value.allocated_by), mismatch.value.deallocated_by) == (100, allocated, None)
    with tc.MemoryPool(mode="fast") as other, pytest.raises(tc.InvalidFreeError) as foreign:
        other.deallocate(address)
    assert (foreign.value.origin, line_of(foreign.value.allocated_by)) == (pool.name, allocated)
    pool.deallocate(address, 100)


def test_an_overflow_is_raised_by_the_deallocation_which_takes_the_block_back(pool: tc.MemoryPool) -> None:
    """At each of the 16 bytes behind small and large requests."""
    for nbytes in (0, 1, 64, 100, 4096, 300_000):
        for behind in (0, 15):
            address = pool.allocate(nbytes)
            flip(address + nbytes + behind)
            with pytest.raises(tc.OverflowDetectedError, match=f"written {nbytes + behind} bytes from its start") as caught:
                pool.deallocate(address, nbytes)
            assert caught.value.requested == nbytes
            assert isinstance(caught.value, RuntimeError)
    assert pool.total_allocated == 0


def test_a_write_after_free_is_raised_by_the_allocation_that_finds_it(pool: tc.MemoryPool) -> None:
    """And that allocation took nothing; the next one is served."""
    address = pool.allocate(1000)
    pool.deallocate(address)
    flip(address + 5)
    with pytest.raises(tc.WriteAfterFreeError, match="1000 bytes") as caught:
        churn(pool, 1000)
    assert caught.value.address == address + 5
    assert caught.value.deallocated_by is not None
    assert pool.total_allocated == 0
    pool.deallocate(pool.allocate(1000))


def test_check_finds_both_kinds_of_damage(pool: tc.MemoryPool) -> None:
    """Without an allocation or deallocation in between."""
    live, dead = pool.allocate(200), pool.allocate(500)
    pool.deallocate(dead)
    pool.check()
    flip(live + 200)
    with pytest.raises(tc.OverflowDetectedError):
        pool.check()
    flip(live + 200)
    flip(dead)
    with pytest.raises(tc.WriteAfterFreeError):
        pool.check()
    pool.deallocate(live)


def test_what_trim_and_close_find_is_unraisable(pool: tc.MemoryPool, unraisable: list[BaseException]) -> None:
    """They go on with their work."""
    live = pool.allocate(200)
    flip(live + 200)
    pool.trim()
    assert [type(error) for error in unraisable] == [tc.OverflowDetectedError]
    pool.close()
    assert len(unraisable) == 2


@pytest.mark.usefixtures("hook")
def test_an_overflow_of_a_numpy_array_is_unraisable(pool: tc.MemoryPool, unraisable: list[BaseException]) -> None:
    """Its deallocation has nobody to raise to; the site is the line that made the array."""
    with tc.installed(pool=pool):
        array, made = np.ones(1000), here()
        flip(array.ctypes.data + array.nbytes)
        del array
    (error,) = unraisable
    assert isinstance(error, tc.OverflowDetectedError)
    assert line_of(error.allocated_by) == made


def test_arrays_and_allocations_name_the_line_that_made_them(pool: tc.MemoryPool, unraisable: list[BaseException]) -> None:
    """Tensor and PooledAllocation are passed over."""
    tensor, made = tc.Tensor((100,), pool=pool), here()
    flip(tensor.numpy().ctypes.data + tensor.nbytes)
    del tensor
    with tc.PooledAllocation(50, pool=pool) as block:
        flip(block.ptr + 50)
    assert [line_of(error.allocated_by) for error in unraisable if isinstance(error, tc.BlockFaultError)] == [made, made + 3]


def test_errors_survive_pickling(pool: tc.MemoryPool) -> None:
    """With their sites."""
    address = pool.allocate(10)
    pool.deallocate(address)
    with pytest.raises(tc.DoubleFreeError) as caught:
        pool.deallocate(address)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.allocated_by, copy.requested) == (str(caught.value), caught.value.allocated_by, 10)


def test_zero_on_free_leaves_zeros(pool: tc.MemoryPool) -> None:
    """In the block's memory, as long as nobody has it."""
    with tc.MemoryPool(mode=pool.mode, zero_on_free=True, guard_every=0 if pool.mode == "hardened" else None) as zeroing:  # type: ignore[arg-type]
        address = zeroing.allocate(5000)
        ctypes.memset(address, 7, 5000)
        zeroing.deallocate(address)
        assert ctypes.string_at(address, 5000) == bytes(5000)


def test_a_pool_of_made_up_addresses_has_the_checks_out_of_band(pool: tc.MemoryPool) -> None:
    """Its memory is not touched, which would end the process."""
    with tc.MemoryPool(mode=pool.mode, upstream=tc.FakeUpstream(None)) as unreal:  # type: ignore[arg-type]
        addresses = [unreal.allocate(nbytes) for nbytes in (0, 100, 5000, 1 << 20)]
        for address in addresses:
            unreal.deallocate(address)
            with pytest.raises(tc.DoubleFreeError) as caught:
                unreal.deallocate(address)
            assert caught.value.deallocated_by is not None
        unreal.check()


def test_a_device_pool_names_who_allocated_and_deallocated(pool: tc.MemoryPool) -> None:
    """Of its memory, which nobody here can touch."""
    with tc.MemoryPool(device="cuda", upstream=tc.FakeDeviceUpstream(), mode=pool.mode) as device:  # type: ignore[arg-type]
        address, allocated = device.allocate(5000), here()
        device.deallocate(address)
        with pytest.raises(tc.DoubleFreeError) as caught:
            device.deallocate(address)
        assert caught.value.requested == 5000
        assert (line_of(caught.value.allocated_by), line_of(caught.value.deallocated_by)) == (allocated, allocated + 1)


def test_memory_that_the_cpu_cannot_write_is_not_zeroed() -> None:
    """So the pool says at once that it can't."""
    with pytest.raises(ValueError, match="zero_on_free needs memory that the CPU writes"):
        tc.MemoryPool(mode="checked", zero_on_free=True, upstream=tc.FakeUpstream(None))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "paranoid"}, "mode is 'fast' or 'checked' or 'hardened', not 'paranoid'"),
        ({"mode": "checked", "on_fault": "ignore"}, "on_fault is 'raise' or 'abort', not 'ignore'"),
        ({"mode": "fast", "zero_on_free": True}, "need mode='checked' or 'hardened'"),
        ({"mode": "fast", "on_fault": "abort"}, "need mode='checked' or 'hardened'"),
        ({"mode": "checked", "guard_every": 1}, "guard_every needs mode='hardened'"),
        ({"mode": "hardened", "guard_every": -1}, "guard_every is at least 0"),
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    """With a sentence that names the choices."""
    with pytest.raises(ValueError, match=message):
        tc.MemoryPool(**options)


def test_the_environment_chooses_the_mode_of_pools_that_name_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown value is refused by name."""
    monkeypatch.setenv("TENSORCORE_MODE", "checked")
    assert (tc.MemoryPool().mode, tc.MemoryPool(mode="fast").mode) == ("checked", "fast")
    monkeypatch.setenv("TENSORCORE_MODE", "quick")
    with pytest.raises(ValueError, match=r"environment variable TENSORCORE_MODE is .* not 'quick'"):
        tc.MemoryPool()
    monkeypatch.delenv("TENSORCORE_MODE")
    assert tc.MemoryPool().mode == "fast"


@pytest.mark.parametrize("mode", ["fast", "checked", "hardened"])
def test_run_gives_every_pool_of_the_program_its_mode(mode: str, tmp_path: Path) -> None:
    """The one under NumPy too."""
    script = tmp_path / "script.py"
    script.write_text(
        "import numpy as np, tensorcore as tc\nprint(tc.installed_pool().mode, tc.MemoryPool().mode, np.ones(10**6).sum())\n"
    )
    command = [sys.executable, "-m", "tensorcore", "run", "--quiet", "--mode", mode, str(script)]
    result = subprocess.run(command, text=True, capture_output=True, timeout=60, check=True)
    assert result.stdout.split() == [mode, mode, "1000000.0"]


def run_and_die(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program that does not end well."""
    environment = {**os.environ, "TENSORCORE_MODE": "hardened", "TENSORCORE_ON_FAULT": "abort"}
    command = [sys.executable, "-c", f"import ctypes, tensorcore as tc\n{program}"]
    return subprocess.run(command, text=True, capture_output=True, timeout=60, check=False, env=environment)


def test_abort_prints_a_report_first() -> None:
    """With the sites, to stderr."""
    result = run_and_die("pool = tc.MemoryPool()\naddress = pool.allocate(99)\npool.deallocate(address)\npool.deallocate(address)")
    assert result.returncode == -6
    assert "the block is not in use" in result.stderr
    assert "free block of 99 bytes" in result.stderr
    assert "<string>:5" in result.stderr


def test_a_read_of_a_freed_guarded_block_ends_the_process() -> None:
    """By SIGSEGV, at the access."""
    result = run_and_die(
        "pool = tc.MemoryPool(guard_every=1)\naddress = pool.allocate(99)\n"
        "ctypes.string_at(address, 99)\npool.deallocate(address)\n"
        "print('alive', flush=True)\nctypes.string_at(address, 1)\n"
    )
    assert (result.returncode, result.stdout) == (-11, "alive\n")
