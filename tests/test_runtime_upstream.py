"""The upstream of a GPU, over a double of CuPy's runtime: segments, events, devices, failures, and who keeps the streams."""

from __future__ import annotations

import gc
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from runtime_double import RuntimeDouble, RuntimeDoubleError, StreamDouble

import tensorcore as tc
from tensorcore import _cuda, _cupy
from tensorcore._runtime_upstream import KINDS, RuntimeUpstream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import RunPython

MIB = 1 << 20


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[RuntimeDouble]:
    """A machine with two GPUs, on whose default stream everything runs; it ends with no memory and no event left."""
    runtime = RuntimeDouble()
    default = StreamDouble(0)
    monkeypatch.setattr(_cupy, "runtime", lambda: runtime)
    monkeypatch.setattr(_cupy, "current_stream", lambda index: lambda: default)  # noqa: ARG005 - the same on each device
    _cuda._find_upstream.cache_clear()
    yield runtime
    _cuda._find_upstream.cache_clear()
    runtime.failing.clear()
    gc.collect()
    assert (runtime.memory, runtime.events) == ({}, {})


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "pinned"])
def test_each_kind_of_device_memory_is_taken_and_given_back_in_its_own_way(runtime: RuntimeDouble, kind: str) -> None:
    """On the pool's device, whatever device is the current one, which stays so."""
    runtime.setDevice(0)
    with tc.MemoryPool(device="cuda:1", upstream=kind) as pool:  # type: ignore[arg-type] # of KINDS
        assert pool.upstream.name == kind
        block = pool.allocate(3 * MIB)
        ((called, device, _),) = runtime.memory.values()
        assert (called, device) == ({"cuda": "malloc", "managed": "mallocManaged", "async": "mallocAsync"}[kind], 1)
        pool.deallocate(block)
        assert runtime.getDevice() == 0


def test_pinned_memory_is_taken_cleared_and_given_back(runtime: RuntimeDouble) -> None:
    """The driver does not promise zeros, the core counts on them."""
    with tc.MemoryPool(device="pinned") as pool:
        zeros = tc.zeros((1000, 1000), pool=pool)
        assert not zeros.numpy().any()
        assert [kind for kind, _, _ in runtime.memory.values()] == ["hostAlloc"]
        del zeros


def test_there_is_one_upstream_of_a_kind_on_a_device(runtime: RuntimeDouble) -> None:  # noqa: ARG001 - the machine
    """Pools share it; other kinds and devices have their own."""
    pools = [tc.MemoryPool(device=name) for name in ("cuda", "cuda:0", "cuda:1", "pinned")]
    assert pools[0].upstream is pools[1].upstream
    assert len({id(pool.upstream) for pool in pools}) == 3


def test_a_machine_s_devices_are_listed(runtime: RuntimeDouble) -> None:  # noqa: ARG001 - the machine
    """The CPU first; one that is not there is refused with the count."""
    assert [str(device) for device in tc.devices()] == ["cpu", "cuda:0", "cuda:1", "pinned", "pinned:1"]
    assert tc.is_available("cuda:1")
    with pytest.raises(tc.DeviceUnavailableError, match="there is no device cuda:2: cuda has 2, numbered from 0"):
        tc.MemoryPool(device="cuda:2")


def test_a_limit_can_be_a_fraction_of_the_card(runtime: RuntimeDouble) -> None:
    """Of all its memory, not of what is free."""
    runtime.capacity = 80 * MIB
    with tc.MemoryPool(device="cuda:0", limit=0.5) as pool:
        assert pool.limit == 40 * MIB


def test_the_driver_s_refusal_is_the_cause_of_the_error(runtime: RuntimeDouble) -> None:
    """Out of memory is out of memory, after the ladder; afterwards the pool works."""
    runtime.capacity = 8 * MIB
    with tc.MemoryPool(device="cuda:0") as pool:
        with pytest.raises(tc.OutOfMemoryError, match="the upstream has no more") as caught:
            pool.allocate(9 * MIB)
        assert isinstance(caught.value.__cause__, RuntimeDoubleError)
        pool.deallocate(pool.allocate(MIB))


def test_any_other_failure_of_the_driver_is_not_called_out_of_memory(runtime: RuntimeDouble) -> None:
    """A kernel that wrote outside breaks every later call: the message is the driver's."""
    runtime.failing["malloc"] = RuntimeDoubleError(700, "cudaErrorIllegalAddress: an illegal memory access was encountered")
    with tc.MemoryPool(device="cuda:0", name="p") as pool:
        with pytest.raises(tc.DeviceUnavailableError, match=r"pool 'p': cuda:0 failed.*cudaErrorIllegalAddress"):
            pool.allocate(100)
        del runtime.failing["malloc"]
        pool.deallocate(pool.allocate(100))


def test_a_failure_does_not_outlive_the_request_that_met_it(runtime: RuntimeDouble) -> None:
    """A limit that refuses later has no cause."""
    with tc.MemoryPool(device="cuda:0", limit="8MiB") as pool:
        runtime.failing["malloc"] = RuntimeDoubleError(2)
        with pytest.raises(tc.OutOfMemoryError):
            pool.allocate(100)
        del runtime.failing["malloc"]
        pool.deallocate(pool.allocate(100))
        with pytest.raises(tc.OutOfMemoryError) as caught:
            pool.allocate(9 * MIB)
        assert caught.value.__cause__ is None


@pytest.mark.parametrize(("status", "reported"), [(1, True), (4, False), (709, False)])
def test_a_deallocation_that_fails_is_reported_unless_the_driver_is_gone(
    runtime: RuntimeDouble, monkeypatch: pytest.MonkeyPatch, status: int, reported: bool
) -> None:
    """At the end of a process the driver may go first, and that is nobody's fault."""
    seen: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", seen.append)
    pool = tc.MemoryPool(device="cuda:0")
    pool.deallocate(pool.allocate(100))
    runtime.failing["free"] = RuntimeDoubleError(status)
    pool.close()
    assert [type(entry.exc_value) for entry in seen] == [RuntimeDoubleError] * reported
    runtime.memory.clear()


@pytest.mark.parametrize("call", ["eventRecord", "eventQuery", "eventCreateWithFlags", "streamWaitEvent", "deviceSynchronize"])
def test_a_stream_that_can_not_be_asked_is_never_taken_for_done(runtime: RuntimeDouble, call: str) -> None:
    """Its block stays its own, and comes back to it."""
    pool = tc.MemoryPool(device="cuda:0", limit="4MiB")
    block = pool.allocate(3 * MIB, stream=5)
    pool.upstream.clear(block, 3 * MIB, 5)
    pool.deallocate(block)
    runtime.failing[call] = RuntimeDoubleError(999)
    try:
        other = pool.allocate(3 * MIB, stream=6)
    except (tc.OutOfMemoryError, tc.DeviceUnavailableError):
        assert pool.allocate(3 * MIB, stream=5) == block
        pool.deallocate(block)
    else:
        queue = runtime.queues[0, 5]
        runtime.queues[0, 6].run()
        assert queue.done == len(queue.work)
        pool.deallocate(other)
    runtime.failing.clear()
    pool.check()
    pool.close()


def test_work_on_another_stream_waits_on_the_device_and_not_on_the_host(runtime: RuntimeDouble) -> None:
    """Under a limit the second stream gets the first one's block, behind its work."""
    pool = tc.MemoryPool(device="cuda:0", limit="4MiB")
    first = pool.allocate(3 * MIB, stream=5)
    pool.upstream.clear(first, 3 * MIB, 5)
    pool.deallocate(first)
    second = pool.allocate(3 * MIB, stream=6)
    assert second == first
    pool.upstream.clear(second, MIB, 6)
    runtime.queues[0, 6].run()
    assert runtime.queues[0, 5].done >= 1
    pool.deallocate(second)
    pool.close()


def test_pools_are_used_by_several_threads_on_several_devices(runtime: RuntimeDouble) -> None:
    """Each with its own current device, which the callbacks leave as it is."""
    pools = [tc.MemoryPool(device=f"cuda:{index}") for index in (0, 1)]
    wrong: list[object] = []

    def work(index: int) -> None:
        runtime.setDevice(index)
        for _ in range(50):
            for pool in pools:
                pool.deallocate(pool.allocate(3 * MIB, stream=index + 1))
                pool.trim()
            if runtime.getDevice() != index:
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(index % 2,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for pool in pools:
        pool.check()
        pool.close()
    assert wrong == []


def test_an_exception_on_its_way_survives_a_block_that_it_drops(runtime: RuntimeDouble) -> None:
    """The deallocation records an event, which is Python code, while the error is set."""
    pool = tc.MemoryPool(device="cuda:0")

    def recorded() -> tc.Tensor:
        tensor = tc.Tensor(1000, pool=pool)
        tensor.record_stream(9)
        pool.upstream.clear(tensor.ptr, 8000, 9)
        return tensor

    before = runtime.calls.count("eventRecord")
    with pytest.raises(KeyError, match="'on its way'"):
        print(recorded(), dict[str, int]()["on its way"])
    assert (runtime.calls.count("eventRecord"), pool.statistics.pending.current) == (before + 1, 8192)
    runtime.run()
    pool.close()


@pytest.mark.parametrize("leave", ["nothing", "the pool closed"])
def test_the_end_of_a_program_calls_no_driver(run_python: RunPython, leave: str) -> None:
    """Which may be gone by then: pools, tensors, recorded streams and garbage are left as they are, in silence."""
    tests = str(Path(__file__).parent)
    run_python(
        f"""
        import sys
        sys.path.insert(0, {tests!r})
        import tensorcore as tc
        from runtime_double import RuntimeDouble, StreamDouble
        tc.__version__
        from tensorcore._runtime_upstream import RuntimeUpstream

        class Strict(RuntimeDouble):
            def _call(self, name):
                if gone:
                    raise SystemError(name)

        gone, default = False, StreamDouble(0)
        runtime = Strict()
        upstream = RuntimeUpstream(runtime, 0, "cuda", lambda: default)
        pool = tc.MemoryPool(device="cuda:0", upstream=upstream)
        kept = [tc.Tensor(1000, pool=pool) for _ in range(3)]
        kept[0].record_stream(7)
        upstream.clear(kept[0].ptr, 8000, 7)
        knot = [tc.Tensor(1000, pool=pool)]
        knot[0].record_stream(7)
        knot.append(knot)
        if {leave == "the pool closed"}:
            pool.close()
        gone = True
        """
    )


# ---- streams that are objects ---------------------------------------------------------------------------------------------------


class Streams:
    """CuPy's streams of a device: one is current, and each is destroyed with its last reference."""

    def __init__(self) -> None:
        self.destroyed: list[int] = []
        self.current: Any = None

    def make(self, ptr: int) -> Any:
        streams = self

        class Stream(StreamDouble):
            def __del__(self) -> None:
                streams.destroyed.append(self.ptr)

        return Stream(ptr)


def test_a_stream_lives_as_long_as_a_pool_may_record_an_event_on_it(runtime: RuntimeDouble) -> None:
    """It is let go when the next one comes, and the pools are told first."""
    streams = Streams()
    upstream = RuntimeUpstream(runtime, 0, "cuda", lambda: streams.current)
    pool = tc.MemoryPool(device="cuda:0", upstream=upstream)
    streams.current = streams.make(16)
    pool.deallocate(pool.allocate(3 * MIB))
    streams.current = streams.make(32)
    assert streams.destroyed == []
    pool.deallocate(pool.allocate(3 * MIB))
    assert streams.destroyed == [16]
    held = streams.make(48)
    pool.deallocate(pool.allocate(3 * MIB, stream=held))
    pool.deallocate(pool.allocate(3 * MIB, stream=streams.make(64)))
    assert streams.destroyed == [16]
    pool.check()
    pool.close()
