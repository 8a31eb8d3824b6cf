"""The conformance suite that every backend passes: what its pools, arrays and upstream do, whatever the device.

A backend takes part with one entry in BACKENDS, and a device pool over made-up addresses (the fake upstream) with another.
"""

from __future__ import annotations

import contextlib
import itertools

import pytest

import tensorcore as tc
from tensorcore._backend import find_backend, parse_device, why_unavailable

BACKENDS = {
    "cpu": lambda: tc.MemoryPool(device="cpu"),
    "cpu over a fake with real memory": lambda: tc.MemoryPool(device="cpu", upstream=tc.FakeUpstream("os")),
    "cpu over made-up addresses": lambda: tc.MemoryPool(device="cpu", upstream=tc.FakeUpstream(None)),
    "cuda over a fake device (made-up addresses)": lambda: tc.MemoryPool(device="cuda:1", upstream="fake"),
    "cuda over a fake device of poor alignment (made-up addresses)": lambda: tc.MemoryPool(
        device="cuda", upstream=tc.FakeDeviceUpstream(alignment=512)
    ),
    "pinned over a fake device": lambda: tc.MemoryPool(device="pinned", upstream="fake"),
}
SIZES = [0, 1, 63, 64, 65, 1000, 4096, 80_000, 1 << 20, 5 << 20]

every_backend = pytest.mark.parametrize("name", BACKENDS)
with_host_memory = pytest.mark.parametrize("name", [name for name in BACKENDS if "made-up" not in name])


@every_backend
def test_blocks_are_aligned_distinct_and_do_not_overlap(name: str) -> None:
    """Of all sizes at once."""
    with BACKENDS[name]() as pool:
        blocks = sorted((pool.allocate(nbytes), nbytes) for nbytes in SIZES * 20)
        assert all(address % 64 == 0 for address, _ in blocks)
        assert all(first + max(1, nbytes) <= second for (first, nbytes), (second, _) in itertools.pairwise(blocks))
        pool.check()
        for address, nbytes in blocks:
            pool.deallocate(address, nbytes)
        pool.check()


@every_backend
def test_memory_is_reused(name: str) -> None:
    """A second round of the same sizes asks the upstream for nothing."""
    with BACKENDS[name]() as pool:
        for _ in range(500 if pool.mode == "hardened" else 2):  # first its quarantine fills
            reserved = pool.statistics.reserved.total_allocated
            for address in [pool.allocate(nbytes) for nbytes in SIZES]:
                pool.deallocate(address)
        assert pool.statistics.reserved.total_allocated == reserved


@every_backend
def test_refusals_change_nothing(name: str) -> None:
    """Wrong size, twice, wild."""
    with BACKENDS[name]() as pool:
        address = pool.allocate(100)
        with pytest.raises(tc.SizeMismatchError):
            pool.deallocate(address, 101)
        with pytest.raises(tc.InvalidFreeError):
            pool.deallocate(address + 64)
        pool.deallocate(address, 100)
        with pytest.raises(tc.DoubleFreeError):
            pool.deallocate(address)
        assert (pool.allocation_count, pool.deallocation_count) == (1, 1)


@every_backend
def test_the_limit_holds_and_the_pool_recovers(name: str) -> None:
    """After the refusal and a deallocation the same request succeeds."""
    with BACKENDS[name]() as pool:
        pool.limit = "8MiB"
        first = pool.allocate(5 << 20)
        with pytest.raises(tc.OutOfMemoryError):
            pool.allocate(5 << 20)
        pool.deallocate(first)
        pool.deallocate(pool.allocate(5 << 20))
        assert pool.statistics.reserved.peak <= 8 << 20


@every_backend
def test_everything_goes_back_upstream(name: str) -> None:
    """After trim nothing is held, after close nothing is left in a counting upstream."""
    with BACKENDS[name]() as pool:
        for address in [pool.allocate(nbytes) for nbytes in SIZES]:
            pool.deallocate(address)
        pool.trim()
        assert pool.total_capacity == 0
        upstream = pool.upstream
    if isinstance(upstream, (tc.FakeUpstream, tc.FakeDeviceUpstream)):
        assert (upstream.counts.live_bytes, upstream.counts.errors) == (0, 0)


@with_host_memory
def test_arrays_own_their_block(name: str) -> None:
    """Empty and zeroed, by tensors and allocations: the memory is usable and comes back with the last view."""
    with BACKENDS[name]() as pool:
        tensor = tc.Tensor((300, 300), pool=pool)
        tensor.fill(1)
        zeros = pool._make_zeros(pool, (300, 300), "f8")
        assert zeros is not None
        with tc.PooledAllocation(1000, pool=pool) as block:
            view = block.array("f4")
        view[:] = 2
        assert (tensor.numpy().sum(), zeros.sum(), view.sum()) == (90_000, 0, 500)
        del tensor, zeros, view
        assert pool.total_allocated == 0


@pytest.mark.parametrize("name", ["cpu", "pinned", "pinned:1", "cuda:0", "cuda:1"])
def test_a_device_equals_its_name(name: str) -> None:
    """With the same hash, so that libraries can compare it with the device of NumPy's arrays; another spelling is not its name."""
    where = parse_device(name)
    assert where == name
    assert name == where
    assert {where, name} == {name}
    assert where not in ("tpu", name + "0", name.partition(":")[0] + ":7", None, 0)
    assert parse_device("cuda") != "cuda"


def test_arrays_are_refused_over_addresses_that_the_cpu_can_not_use() -> None:
    """Both kinds of object name the pool."""
    with tc.MemoryPool(upstream=tc.FakeUpstream(None), name="made-up") as pool:
        for make in (tc.Tensor, tc.PooledAllocation):
            with pytest.raises(ValueError, match="'made-up' on cpu> hands out addresses that the CPU can't use"):
                make(10, pool=pool)


@pytest.mark.parametrize("backing", ["os", None])
def test_every_failure_of_the_upstream_is_survived(backing: None) -> None:
    """The k-th call fails, for k = 1, 2, ...: an error or success, then a pool that checks out and gives everything back."""
    for k in range(1, 100):
        upstream = tc.FakeUpstream(backing, fail_at=k)
        blocks = []
        with tc.MemoryPool(upstream=upstream, decay=None) as pool:
            for nbytes in (100, 80_000, 3 << 20, 3 << 20, 40 << 20):
                with contextlib.suppress(tc.OutOfMemoryError):
                    blocks.append(pool.allocate(nbytes))
                pool.check()
            for address in blocks:
                pool.deallocate(address)
            pool.trim()
            pool.check()
        assert (upstream.counts.live_bytes, upstream.counts.errors) == (0, 0)
        if upstream.counts.failures == 0:
            break
    assert k > 3


def test_the_fake_upstream_has_a_capacity_and_counts() -> None:
    """The capacity can be changed while a pool uses it."""
    upstream = tc.FakeUpstream("os", capacity=4 << 20)
    assert (upstream.name, upstream.host_memory) == ("fake", True)
    with tc.MemoryPool(upstream=upstream) as pool:
        with pytest.raises(tc.OutOfMemoryError, match="the upstream has no more"):
            pool.allocate(8 << 20)
        upstream.set(capacity=64 << 20)
        address = pool.allocate(8 << 20)
        assert upstream.counts.live_bytes >= 8 << 20
        assert upstream.counts.peak_bytes <= 64 << 20
        pool.deallocate(address)
    assert (upstream.counts.live_bytes, upstream.counts.deallocate_calls, upstream.counts.errors) == (0, 1, 0)


def test_an_upstream_that_still_backs_blocks_is_kept() -> None:
    """Pool and upstream objects are gone; the block is valid."""
    tensor = tc.Tensor(1000, pool=tc.MemoryPool(upstream="fake")).numpy()
    tensor[:] = 3
    assert tensor.sum() == 3000


# ---- registry and names ---------------------------------------------------------------------------------------------------------


def test_the_cpu_is_a_device_and_the_first() -> None:
    """It is always there, once, with memory."""
    assert tc.devices()[0] == tc.Device("cpu", 0) == tc.device("cpu") == tc.device(tc.Device("cpu"))
    assert str(tc.device("cpu:0")) == "cpu"
    assert str(tc.Device("cuda", 1)) == "cuda:1"
    assert tc.is_available("cpu")
    assert find_backend("cpu").memory(0) > 1 << 20


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tpu:3", "no device kind 'tpu'; known here: cpu, cuda, pinned"),
        ("cpu:1", "cpu has 1, numbered from 0"),
    ],
)
def test_a_device_that_is_not_there_is_refused_with_the_reason(name: str, message: str) -> None:
    """is_available says the same without an error; pools are refused too."""
    assert not tc.is_available(name)
    for use in (tc.device, lambda name: tc.MemoryPool(device=name), tc.get_global_memory_pool):
        with pytest.raises(tc.DeviceUnavailableError, match=message):
            use(name)


def test_a_backend_can_be_added() -> None:
    """It is found by its kind, and what it lacks is its own message."""

    class Away(tc.Backend):
        kind = "away"

        def why_unavailable(self) -> str | None:
            return "device 'away' is switched off: switch it on"

        def device_count(self) -> int:
            raise AssertionError("asked though unavailable")

        memory = upstream = array_maker = device_count  # type: ignore[assignment]

    from tensorcore import _backend

    tc.register_backend(Away())
    try:
        assert why_unavailable("away") == "device 'away' is switched off: switch it on"
        assert tc.devices() == (tc.Device("cpu"),)
        with pytest.raises(tc.DeviceUnavailableError, match="switch it on"):
            tc.device("away")
    finally:
        del _backend._backends["away"]
