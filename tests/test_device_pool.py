"""Pools on devices, over the fake one: streams, limits, refusals, pinned memory and forks."""

from __future__ import annotations

import gc
import pickle
import sys
import types
from typing import TYPE_CHECKING, Any

import pytest

import tensorcore as tc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import RunPython

MIB = 1 << 20


@pytest.fixture
def device() -> tc.FakeDeviceUpstream:
    return tc.FakeDeviceUpstream()


@pytest.fixture
def device_pool(device: tc.FakeDeviceUpstream) -> Iterator[tc.MemoryPool]:
    """A pool on cuda:0 over a fake device, which is whole and gives everything back after the test."""
    pool = tc.MemoryPool(device="cuda:0", upstream=device, name="device")
    yield pool
    pool.check()
    pool.close()
    gc.collect()
    assert (device.counts.errors, device.counts.early) == (0, 0)


# ---- streams --------------------------------------------------------------------------------------------------------------------


def test_blocks_start_on_multiples_of_512_bytes(device_pool: tc.MemoryPool) -> None:
    """More can be asked for, on any stream."""
    for nbytes in (0, 1, 511, 513, 3 * MIB):
        assert device_pool.allocate(nbytes) % 512 == 0
    assert device_pool.allocate(100, alignment=4096, stream=7) % 4096 == 0


def test_a_block_is_reused_at_once_on_its_stream_and_elsewhere_only_after_the_work(
    device: tc.FakeDeviceUpstream, device_pool: tc.MemoryPool
) -> None:
    """The fake counts a hand-over before the work is done as early; there is none."""
    device.set(capacity=2 * MIB)
    first = device_pool.allocate(MIB + MIB // 2, stream=1)
    device.enqueue(1, 100, first, MIB)
    device_pool.deallocate(first)
    again = device_pool.allocate(MIB + MIB // 2, stream=1)
    assert (again, device.claim(1, again, MIB)) == (first, False)
    device_pool.deallocate(again)
    other = device_pool.allocate(MIB + MIB // 2, stream=9)
    assert not device.claim(9, other, MIB)


def test_a_recorded_stream_keeps_a_freed_block_pending(device: tc.FakeDeviceUpstream, device_pool: tc.MemoryPool) -> None:
    """Until the work that it had at the free is done."""
    block = device_pool.allocate(MIB, stream=3)
    device_pool.record_stream(block, 4)
    device.enqueue(4, 10, block, MIB)
    device_pool.deallocate(block)
    assert device_pool.statistics.pending.current >= MIB
    assert device_pool.drain() == 0
    device.advance(10)
    assert device_pool.drain() >= MIB
    assert device_pool.statistics.pending.current == 0


def test_the_current_stream_is_meant_where_none_is_named(device: tc.FakeDeviceUpstream, device_pool: tc.MemoryPool) -> None:
    """A block of stream 5 is handed out again on stream 5, and not on the busy default stream's account."""
    with device.using_stream(5) as handle:
        block = device_pool.allocate(1000)
        assert handle == device.current_stream() == 5
    assert device.current_stream() == 0
    device.enqueue(5, 1000, block, 1000)
    device_pool.deallocate(block)
    assert device_pool.allocate(1000, stream=5) == block
    device_pool.deallocate(block, stream=5)
    assert device_pool.allocate(1000) != block


def test_trim_of_one_stream_waits_for_nothing(device: tc.FakeDeviceUpstream, device_pool: tc.MemoryPool) -> None:
    """Its segment goes back, another stream's stays; `keep` and `stream` exclude each other."""
    for block in [device_pool.allocate(4 * MIB, stream=stream) for stream in (1, 2)]:
        device_pool.deallocate(block)
    assert device_pool.trim(stream=1) >= 4 * MIB
    assert device.counts.synchronize_calls == 0
    assert device_pool.total_capacity >= 4 * MIB
    with pytest.raises(ValueError, match="give stream or keep=5, not both"):
        device_pool.trim(5, stream=1)
    device_pool.trim()
    assert device_pool.total_capacity == 0


class ByProtocol:
    def __cuda_stream__(self) -> tuple[int, int]:
        return (0, 77)


STREAMS = [
    77,
    ByProtocol(),
    types.SimpleNamespace(__cuda_stream__=(0, 77)),
    types.SimpleNamespace(ptr=77),
    types.SimpleNamespace(cuda_stream=77),
    types.SimpleNamespace(handle=types.SimpleNamespace(value=77)),
]


@pytest.mark.parametrize("stream", STREAMS, ids=["int", "method", "value", "CuPy", "PyTorch", "Numba"])
def test_every_library_s_stream_is_understood(device_pool: tc.MemoryPool, stream: object) -> None:
    """The block that was freed there is handed out there again."""
    block = device_pool.allocate(5000, stream=stream)
    device_pool.deallocate(block, 5000, stream=stream)
    assert device_pool.allocate(5000, stream=77) == block


@pytest.mark.parametrize(
    ("stream", "error"), [("s", TypeError), (True, TypeError), (1.0, TypeError), (-1, ValueError), ((1 << 64) - 1, ValueError)]
)
def test_what_is_no_stream_is_refused(device_pool: tc.MemoryPool, stream: object, error: type[Exception]) -> None:
    """By every call that takes one, and nothing is allocated or freed."""
    block = device_pool.allocate(1)
    calls: list[Callable[[], object]] = [
        lambda: device_pool.allocate(1, stream=stream),
        lambda: device_pool.deallocate(block, stream=stream),
        lambda: device_pool.record_stream(block, stream),
        lambda: device_pool.trim(stream=stream),
        lambda: device_pool.forget_stream(stream),
    ]
    for call in calls:
        with pytest.raises(error, match="a stream"):
            call()
    assert (device_pool.allocation_count, device_pool.deallocation_count) == (1, 0)


def test_a_pool_without_streams_says_so(pool: tc.MemoryPool) -> None:
    """On the CPU, for every call that takes a stream."""
    block = pool.allocate(10)
    for call in (
        lambda: pool.allocate(10, stream=1),
        lambda: pool.deallocate(block, stream=1),
        lambda: pool.record_stream(block, 1),
        lambda: pool.record_stream(block),
        lambda: pool.trim(stream=1),
        lambda: pool.forget_stream(1),
    ):
        with pytest.raises(ValueError, match="device cpu has no streams"):
            call()
    pool.deallocate(block)


def test_a_stream_that_was_forgotten_may_be_destroyed(device: tc.FakeDeviceUpstream, device_pool: tc.MemoryPool) -> None:
    """No event is recorded on it afterwards, and its memory is found by others."""
    device.set(capacity=4 * MIB)
    block = device_pool.allocate(3 * MIB, stream=6)
    device.enqueue(6, 5, block, MIB)
    device_pool.deallocate(block)
    device_pool.forget_stream(6)
    device.destroy_stream(6)
    device.advance(5)
    other = device_pool.allocate(3 * MIB, stream=8)
    assert not device.claim(8, other, MIB)


def test_recording_a_stream_for_no_live_block_is_refused(device_pool: tc.MemoryPool) -> None:
    """A wild address, and one that was freed."""
    with pytest.raises(tc.InvalidFreeError, match="no TensorCore pool handed out this address"):
        device_pool.record_stream(4096, 1)
    block = device_pool.allocate(10)
    device_pool.deallocate(block)
    with pytest.raises(tc.DoubleFreeError):
        device_pool.record_stream(block, 1)


# ---- limits and refusals --------------------------------------------------------------------------------------------------------


def test_a_limit_can_be_a_fraction_of_the_device() -> None:
    """Of the fake's capacity; bytes and strings as on the CPU."""
    device = tc.FakeDeviceUpstream(capacity=64 * MIB)
    with tc.MemoryPool(device="cuda:0", upstream=device, limit=0.25) as pool:
        assert pool.limit == 16 * MIB
        pool.limit = 0.5
        assert pool.limit == 32 * MIB
        pool.limit = "8MiB"
        assert pool.limit == 8 * MIB
    with pytest.raises(ValueError, match="needs a fake device with a capacity"):
        tc.MemoryPool(device="cuda:0", upstream="fake", limit=0.5)
    with tc.MemoryPool(device="pinned", upstream="fake", limit=0.5) as pool, tc.MemoryPool(limit=0.5) as host:
        assert pool.limit == host.limit


def test_out_of_memory_climbs_the_ladder_and_then_says_what_there_was(device: tc.FakeDeviceUpstream) -> None:
    """Garbage is collected, callbacks are asked, and the error has the largest free block."""
    device.set(capacity=8 * MIB)
    with tc.MemoryPool(device="cuda:1", upstream=device, name="full") as pool:
        knot: list[Any] = [tc.Tensor(6 * MIB, "u1", pool=pool)]
        knot.append(knot)
        del knot
        held = [tc.Tensor(6 * MIB, "u1", pool=pool)]  # the garbage made room
        pool.on_out_of_memory(lambda *_: held.clear())
        block = pool.allocate(7 * MIB)
        with pytest.raises(tc.OutOfMemoryError) as caught:
            pool.allocate(7 * MIB)
        pool.deallocate(block)
        error = caught.value
        assert (error.requested, error.device, error.limit) == (7 * MIB, "cuda:1", None)
        assert error.largest_free_block <= MIB
        assert isinstance(error, MemoryError)
        pool.deallocate(pool.allocate(7 * MIB))


def test_the_error_is_cupy_s_too_where_cupy_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that catches `cupy.cuda.memory.OutOfMemoryError` catches it; it can be pickled; the CPU's stays as it is."""

    class OutOfMemoryError(MemoryError):
        def __init__(self, size: int, total: int, limit: int = 0) -> None:
            raise AssertionError(f"the figures of TensorCore's error are others: {size, total, limit}")

    monkeypatch.setitem(sys.modules, "cupy.cuda.memory", types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError))
    with tc.MemoryPool(device="cuda:0", upstream=tc.FakeDeviceUpstream(), limit="4MiB") as pool:
        with pytest.raises(OutOfMemoryError) as caught:
            pool.allocate(5 * MIB)
        assert isinstance(caught.value, tc.OutOfMemoryError)
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
        with pytest.raises(OutOfMemoryError):
            tc.MemoryPool(5 * MIB, device="cuda:0", upstream="fake", limit="4MiB")
    with tc.MemoryPool(limit="4MiB") as pool, pytest.raises(tc.OutOfMemoryError) as caught_on_cpu:
        pool.allocate(5 * MIB)
    assert not isinstance(caught_on_cpu.value, OutOfMemoryError)


def test_the_error_is_that_of_the_cupy_that_is_installed() -> None:
    """The real class, whose constructor takes other arguments."""
    memory = pytest.importorskip("cupy.cuda.memory", reason="CuPy is not installed", exc_type=ImportError)
    with (
        tc.MemoryPool(device="cuda:0", upstream="fake", limit="4MiB") as pool,
        pytest.raises(memory.OutOfMemoryError, match="on cuda:0 could not hand out"),
    ):
        pool.allocate(5 * MIB)


def test_a_block_of_another_device_is_refused() -> None:
    """The message names the pool that it belongs to; nothing changes."""
    with (
        tc.MemoryPool(device="cuda:0", upstream="fake", name="zero") as zero,
        tc.MemoryPool(device="cuda:1", upstream="fake", name="one") as one,
    ):
        block = one.allocate(100)
        refusals: list[Callable[[], object]] = [
            lambda: zero.deallocate(block),
            lambda: zero.deallocate(block, stream=1),
            lambda: zero.record_stream(block, 1),
        ]
        for refused in refusals:
            with pytest.raises(tc.InvalidFreeError, match="it is a block of pool 'one'"):
                refused()
        one.deallocate(block)


@pytest.mark.parametrize("k", range(1, 6))
def test_a_device_that_fails_once_leaves_the_pool_whole(k: int) -> None:
    """The k-th call of whatever kind: an error or success, and everything goes back."""
    device = tc.FakeDeviceUpstream(failing=("allocate", "record", "query", "wait", "synchronize"), fail_at=k)
    with tc.MemoryPool(device="cuda:0", upstream=device, limit="16MiB") as pool:
        blocks = []
        for i in range(8):
            try:
                blocks.append(pool.allocate(3 * MIB, stream=i % 3))
                pool.record_stream(blocks[-1], 5)
            except tc.OutOfMemoryError:
                while blocks:
                    pool.deallocate(blocks.pop())
            pool.check()
        while blocks:
            pool.deallocate(blocks.pop())
        pool.trim()
        pool.check()
    assert device.counts.failures <= 1
    assert (device.counts.live_bytes, device.counts.errors, device.counts.early) == (0, 0, 0)


def test_an_upstream_has_to_suit_its_device() -> None:
    """By name and by what it can do."""
    wrong: list[tuple[str, Any, str]] = [
        ("cuda:0", "os", "upstream on cuda:0 is None, 'cuda', 'managed', 'async', 'fake' or an Upstream, not 'os'"),
        ("pinned", "managed", "upstream on pinned is None, 'cuda', 'fake' or an Upstream, not 'managed'"),
        ("cpu", "cuda", "upstream on cpu is None, 'os', 'fake' or an Upstream, not 'cuda'"),
        ("cuda:0", tc.FakeUpstream(), "is not an upstream for cuda:0: it needs streams"),
        ("cuda:0", tc.FakeDeviceUpstream(pinned=True), "is not an upstream for cuda:0"),
        ("pinned", tc.FakeDeviceUpstream(), "is not an upstream for pinned: it needs streams, and memory that the CPU can use"),
        ("cpu", tc.FakeDeviceUpstream(), "is not an upstream for cpu: the CPU has no streams"),
        ("cuda:0", 3, "upstream is None, a name or an Upstream, not 3"),
    ]
    for device, upstream, message in wrong:
        with pytest.raises(ValueError, match=message):
            tc.MemoryPool(device=device, upstream=upstream)


def test_a_fake_device_refuses_what_can_not_be() -> None:
    """An alignment that is no power of two, a call that there is not, work on a destroyed stream."""
    with pytest.raises(ValueError, match="no power of two: 3"):
        tc.FakeDeviceUpstream(alignment=3)
    with pytest.raises(ValueError, match="not 'launch'"):
        tc.FakeDeviceUpstream(failing=("launch",))  # type: ignore[arg-type] # wrong on purpose
    device = tc.FakeDeviceUpstream(missing=("wait", "synchronize"))
    device.destroy_stream(3)
    with pytest.raises(ValueError, match="it was destroyed"):
        device.enqueue(3, 1)
    device.create_stream(3)
    device.enqueue(3, 1)
    with pytest.raises(tc.DeviceUnavailableError, match="could not make stream 0x4 wait for stream 0x3"):
        device.order(3, device, 4)


# ---- pinned ---------------------------------------------------------------------------------------------------------------------


def test_pinned_memory_is_host_memory_of_exact_sizes() -> None:
    """Arrays live in it; a limit holds; half a block more than a power of two does not cost the next one."""
    with tc.MemoryPool(device="pinned", upstream="fake", limit="64MiB", name="staging") as pool:
        tensor = tc.Tensor((3, 5), pool=pool)
        tensor.fill(2)
        assert (str(tensor.device), tensor.numpy().sum()) == ("pinned", 30)
        block = pool.allocate(33 * MIB)
        assert pool.total_allocated < 35 * MIB
        with pytest.raises(tc.OutOfMemoryError, match="on pinned"):
            pool.allocate(33 * MIB)
        pool.deallocate(block)


def test_a_pinned_block_waits_for_its_copy() -> None:
    """Freed while a stream still reads it, it is pending; the host gets it back afterwards."""
    device = tc.FakeDeviceUpstream(pinned=True)
    with tc.MemoryPool(device="pinned", upstream=device) as pool:
        block = pool.allocate(1000)
        device.enqueue(4, 10, block, 1000)
        pool.record_stream(block, 4)
        pool.deallocate(block)
        other = pool.allocate(1000)
        assert (other != block, pool.statistics.pending.current) == (True, 1024)
        assert not device.claim(None, other, 1000)
        pool.deallocate(other)
        device.advance(10)
        assert pool.drain() == 1024
    assert (device.counts.early, device.counts.errors) == (0, 0)


# ---- processes ------------------------------------------------------------------------------------------------------------------


def test_a_device_pool_in_a_forked_child_says_so(run_python: RunPython) -> None:
    """Allocating and freeing raise; dropping a tensor of the parent does not; a new pool, and the CPU's, work."""
    printed = run_python(
        """
        import os, sys
        import tensorcore as tc

        pool = tc.MemoryPool(device="cuda:0", upstream="fake", name="parent's")
        block, tensor = pool.allocate(100), tc.Tensor(10, pool=pool)
        child = os.fork()
        if child == 0:
            for call in (lambda: pool.allocate(5), lambda: pool.deallocate(block), lambda: tc.Tensor(3, pool=pool),
                         lambda: pool.reserve(1 << 20), lambda: pool.record_stream(block, 1), lambda: pool.allocate(5, stream=2)):
                try:
                    call()
                    print("no error")
                except tc.DeviceUnavailableError as error:
                    assert "forked" in str(error) and "spawn" in str(error) and "parent's" in str(error), error
            del tensor
            new = tc.MemoryPool(device="cuda:0", upstream="fake")
            new.deallocate(new.allocate(100))
            print(tc.Tensor(3).device)
            sys.exit()
        os.waitpid(child, 0)
        pool.deallocate(block)
        """
    )
    assert printed == "cpu\n"


def test_the_end_of_a_program_with_live_device_memory_is_silent(run_python: RunPython) -> None:
    """Pools, tensors and blocks are left as they are."""
    run_python(
        """
        import tensorcore as tc

        pool = tc.MemoryPool(device="cuda:0", upstream="fake")
        tc.set_global_memory_pool(tc.MemoryPool(device="cuda:1", upstream="fake"))
        kept = tc.Tensor(10, pool=pool), tc.Tensor(10, device="cuda:1"), pool.allocate(10)
        knot = [tc.Tensor(5, pool=pool)]
        knot.append(knot)
        """
    )
