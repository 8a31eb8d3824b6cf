"""Out of memory and the watermark: the error's figures, the callbacks and their exceptions, the limit under threads."""

from __future__ import annotations

import contextlib
import gc
import pickle
import sys
import threading
import warnings
from typing import Any

import pytest

import tensorcore as tc

MIB = 1 << 20


# ---- out of memory --------------------------------------------------------------------------------------------------------------


def test_an_out_of_memory_error_carries_the_figures() -> None:
    """It is a MemoryError too, and its message names the pool, the figures and the fix."""
    with tc.MemoryPool(limit="8MiB", name="small") as pool:
        address = pool.allocate(5 * MIB)
        with pytest.raises(
            MemoryError, match=r"pool 'small' on cpu could not hand out 6\.00 MiB: .* limit 8\.00 MiB, .*raise pool.limit"
        ) as caught:
            pool.allocate(6 * MIB)
        error = caught.value
        assert isinstance(error, tc.OutOfMemoryError)
        assert (error.requested, error.limit, error.device) == (6 * MIB, 8 * MIB, "cpu")
        assert 5 * MIB <= error.allocated <= error.reserved <= 8 * MIB
        assert 0 <= error.largest_free_block < 6 * MIB
        pool.deallocate(address)


def test_an_array_that_finds_no_memory_raises_the_same_error() -> None:
    """Tensor, PooledAllocation and reserve name the bytes of their request; the pool is as before."""
    with tc.MemoryPool(limit="1MiB") as pool:
        with pytest.raises(tc.OutOfMemoryError) as tensor:
            tc.Tensor((1024, 1024), "float32", pool=pool)
        with pytest.raises(tc.OutOfMemoryError) as allocation:
            tc.PooledAllocation(4 * MIB, pool=pool)
        with pytest.raises(tc.OutOfMemoryError) as reserve:
            pool.reserve(4 * MIB)
        assert [caught.value.requested for caught in (tensor, allocation, reserve)] == [4 * MIB] * 3
        assert pool.total_allocated == 0


def test_callbacks_run_once_for_a_tensor_of_the_global_pool() -> None:
    """The constructor's short way in C climbs the ladder once and raises the same error."""
    calls: list[int] = []
    with tc.MemoryPool(limit="1MiB") as pool:
        old = tc.set_global_memory_pool(pool)
        try:
            pool.on_out_of_memory(lambda _, nbytes: calls.append(nbytes))
            with pytest.raises(tc.OutOfMemoryError) as caught:
                tc.Tensor((1024, 1024))
        finally:
            tc.set_global_memory_pool(old or tc.MemoryPool(name="cpu"))
    assert (calls, caught.value.requested) == ([8 * MIB], 8 * MIB)


def test_the_error_survives_pickling() -> None:
    """Workers of a process pool send their errors this way."""
    with tc.MemoryPool(limit="1MiB") as pool, pytest.raises(tc.OutOfMemoryError) as caught:
        pool.allocate(4 * MIB)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.requested, again.limit) == (str(caught.value), 4 * MIB, MIB)


def test_garbage_is_collected_before_a_pool_gives_up() -> None:
    """Memory that only a reference cycle holds is found."""

    class Cycle:
        def __init__(self, tensor: tc.Tensor) -> None:
            self.tensor, self.self = tensor, self

    with tc.MemoryPool(limit="8MiB") as pool:
        gc.disable()
        try:
            Cycle(tc.Tensor(5 * MIB, "u1", pool=pool))
            second = tc.Tensor(5 * MIB, "u1", pool=pool)
        finally:
            gc.enable()
        assert second.nbytes == 5 * MIB
        assert pool.statistics.out_of_memory_retries >= 1


def test_callbacks_run_in_order_until_one_frees_enough() -> None:
    """The pool's own come first; each runs once; those behind the one that helped do not run."""
    calls: list[tuple[str, tc.MemoryPool, int]] = []
    with tc.MemoryPool(limit="8MiB") as pool:
        held = [tc.Tensor(5 * MIB, "u1", pool=pool)]

        def free(pool: tc.MemoryPool, nbytes: int) -> None:
            calls.append(("free", pool, nbytes))
            held.clear()

        remove = [
            tc.on_out_of_memory(free),
            tc.on_out_of_memory(lambda pool, nbytes: calls.append(("last", pool, nbytes))),
            pool.on_out_of_memory(lambda pool, nbytes: calls.append(("own", pool, nbytes))),
        ]
        try:
            pool.deallocate(pool.allocate(6 * MIB))
        finally:
            for function in remove:
                function()
        assert calls == [("own", pool, 6 * MIB), ("free", pool, 6 * MIB)]
        held.append(tc.Tensor(5 * MIB, "u1", pool=pool))
        with pytest.raises(tc.OutOfMemoryError):
            pool.allocate(6 * MIB)
        assert len(calls) == 2
        remove[0]()
        held.clear()


@pytest.fixture
def unraisable(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What sys.unraisablehook was given."""
    seen: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", lambda details: seen.append((details.exc_type, str(details.exc_value))))
    return seen


def test_an_exception_in_a_callback_is_reported_and_the_next_one_runs(unraisable: list[Any]) -> None:
    """It can't cross the core; it goes where exceptions in finalisers go."""
    with tc.MemoryPool(limit="8MiB") as pool:
        held = [tc.Tensor(5 * MIB, "u1", pool=pool)]

        def fail(*_: object) -> None:
            raise LookupError("lost")

        pool.on_out_of_memory(fail)
        pool.on_out_of_memory(lambda *_: held.clear())
        pool.deallocate(pool.allocate(6 * MIB))
    assert unraisable == [(LookupError, "lost")]


def test_the_interpreters_own_hook_prints_the_callbacks_exception(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its traceback and the callback's name, on stderr."""
    monkeypatch.setattr("sys.unraisablehook", sys.__unraisablehook__)

    def forgetful(*_: object) -> None:
        raise LookupError("lost")

    with tc.MemoryPool(limit="1MiB") as pool:
        pool.on_out_of_memory(forgetful)
        with pytest.raises(tc.OutOfMemoryError):
            pool.allocate(2 * MIB)
    printed = capfd.readouterr().err
    assert "LookupError: lost" in printed
    assert "forgetful" in printed


def test_a_callback_that_allocates_from_the_full_pool_is_refused_and_does_not_recurse() -> None:
    """The inner refusal is an ordinary error inside the callback."""
    inner: list[BaseException] = []
    with tc.MemoryPool(limit="8MiB") as pool:
        held = tc.Tensor(5 * MIB, "u1", pool=pool)

        def allocate(pool: tc.MemoryPool, nbytes: int) -> None:
            with pytest.raises(tc.OutOfMemoryError) as caught:
                pool.allocate(nbytes)
            inner.append(caught.value)

        pool.on_out_of_memory(allocate)
        with pytest.raises(tc.OutOfMemoryError):
            pool.allocate(6 * MIB)
        assert len(inner) == 1
        del held


def test_the_limit_holds_when_threads_reach_it_together() -> None:
    """Four threads allocate until refused: reserved never passes the limit, and every block goes back."""
    with tc.MemoryPool(limit="16MiB") as pool:
        blocks: list[int] = []

        def fill() -> None:
            with contextlib.suppress(tc.OutOfMemoryError):
                while True:
                    blocks.append(pool.allocate(100_000))

        threads = [threading.Thread(target=fill) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert pool.statistics.reserved.peak <= 16 * MIB
        assert len(blocks) * 100_000 >= 8 * MIB
        for address in blocks:
            pool.deallocate(address, 100_000)
        assert pool.total_allocated == 0


# ---- watermark ------------------------------------------------------------------------------------------------------------------


def test_a_warning_comes_when_utilization_rises_to_the_ratio() -> None:
    """Once for each rise; below the ratio there is none."""
    with tc.MemoryPool("16MiB") as pool:
        pool.warn_at(0.8)
        blocks = [pool.allocate(MIB) for _ in range(10)]
        with pytest.warns(tc.UtilizationWarning, match=r"uses 8\d\.\d% of its 16,777,216 reserved bytes"):
            blocks += [pool.allocate(MIB) for _ in range(4)]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            pool.deallocate(pool.allocate(1024))
        for address in blocks:
            pool.deallocate(address)


def test_a_watermark_callback_gets_the_pool_and_the_ratio(unraisable: list[Any]) -> None:
    """Instead of the warning; an exception in it is reported and the allocation succeeds."""
    seen: list[tuple[tc.MemoryPool, float]] = []

    def callback(pool: tc.MemoryPool, utilization: float) -> None:
        seen.append((pool, utilization))
        raise LookupError("lost")

    with tc.MemoryPool("16MiB") as pool:
        pool.warn_at(0.5, callback)
        block = pool.allocate(12 * MIB)
        assert [found for found, _ in seen] == [pool]
        assert 0.5 <= seen[0][1] <= 1
        assert unraisable == [(LookupError, "lost")]
        pool.deallocate(block)


@pytest.mark.parametrize("ratio", [0, -0.1, 1.1, float("nan")])
def test_a_watermark_outside_0_to_1_is_refused(pool: tc.MemoryPool, ratio: float) -> None:
    """The value is named."""
    with pytest.raises(ValueError, match=f"not {ratio}"):
        pool.warn_at(ratio)
