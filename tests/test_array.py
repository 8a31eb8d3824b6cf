"""What tensors compute lies in blocks of the operands' pool: one block a result, none elsewhere, and none lost."""

from __future__ import annotations

import gc
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from array_helpers import outcome, same, tensor

import tensorcore as tc

if TYPE_CHECKING:
    from collections.abc import Callable

OPERATIONS: dict[str, Callable[[Any, Any, Any, Any], Any]] = {
    "a + b": lambda a, b, _i, _m: a + b,
    "a + 1.5": lambda a, _b, _i, _m: a + 1.5,
    "a ** 2": lambda a, _b, _i, _m: a**2,
    "2 ** a": lambda a, _b, _i, _m: 2**a,
    "a < b": lambda a, b, _i, _m: a < b,
    "a @ b": lambda a, b, _i, _m: a @ b,
    "-a": lambda a, _b, _i, _m: -a,
    "a.T + b": lambda a, b, _i, _m: a.T + b,
    "a + b[0]": lambda a, b, _i, _m: a + b[0],
    "a.astype": lambda a, _b, _i, _m: a.astype("f4"),
    "a.sum(axis=0)": lambda a, _b, _i, _m: a.sum(axis=0),
    "a.mean(axis=1)": lambda a, _b, _i, _m: a.mean(axis=1),
    "a.T.reshape(-1)": lambda a, _b, _i, _m: a.T.reshape(-1),
    "a.copy()": lambda a, _b, _i, _m: a.copy(),
    "a[integers]": lambda a, _b, i, _m: a[i],
    "tc.sin": lambda a, _b, _i, _m: tc.sin(a),
    "np.sin": lambda a, _b, _i, _m: np.sin(a),
    "abs": lambda a, _b, _i, _m: abs(a),
    "np.exp": lambda a, _b, _i, _m: np.exp(a),
    "np.concatenate": lambda a, b, _i, _m: np.concatenate([a, b]),
    "tc.concat": lambda a, b, _i, _m: tc.concat([a, b]),
    "tc.stack": lambda a, b, _i, _m: tc.stack((a, b)),
    "tc.where": lambda a, b, _i, m: tc.where(m, a, b),
    "tc.take": lambda a, _b, i, _m: tc.take(a, i, axis=0),
    "tc.linalg.inv": lambda a, _b, _i, _m: tc.linalg.inv(a),
    "tc.fft.rfft": lambda a, _b, _i, _m: tc.fft.rfft(a),
    "tc.cumulative_sum": lambda a, _b, _i, _m: tc.cumulative_sum(a, axis=0),
    "tc.zeros_like": lambda a, _b, _i, _m: tc.zeros_like(a),
    "tc.asarray": lambda a, _b, _i, _m: tc.asarray(a, dtype="f4"),
}
EXACT = (
    "a + b",
    "a < b",
    "-a",
    "a @ b",
    "a.T + b",
    "a.astype",
    "a.copy()",
    "np.exp",
    "tc.concat",
    "tc.take",
    "tc.where",
    "np.sin",
    "abs",
)
NOTHING = 1024  # bytes: what NumPy makes of a Python number, a count or a factor on the way is less


def totals(*pools: tc.MemoryPool) -> list[int]:
    """The bytes that pools were ever asked for."""
    return [pool.statistics.requested.total_allocated for pool in pools]


@pytest.mark.parametrize("label", OPERATIONS)
@pytest.mark.parametrize("hooked", [False, True], ids=["without the hook", "with the hook"])
@pytest.mark.usefixtures("hook")
def test_an_operation_takes_one_block_for_its_result(pool: tc.MemoryPool, label: str, hooked: bool) -> None:
    """No hidden copy: the result's bytes and no more, of the operands' pool and not of the one that is installed."""
    elsewhere, operation = tc.MemoryPool(), OPERATIONS[label]
    a, b = tensor(pool, np.arange(1.0, 40001.0).reshape(200, 200) ** 0.5), tensor(pool, np.eye(200))
    operands = (a, b, tensor(pool, np.arange(0, 200, 2)), a > 3)
    operation(*operands)  # what is imported or cached at the first use
    if hooked:
        tc.install(pool=elsewhere)
    before, count = totals(pool, elsewhere), pool.allocation_count
    result = operation(*operands)
    after = totals(pool, elsewhere)
    assert result.nbytes <= after[0] - before[0] < result.nbytes + NOTHING
    assert after[1] - before[1] < NOTHING
    assert label not in EXACT or pool.allocation_count == count + 1
    assert (result.pool, type(result)) == (pool, tc.Tensor)
    live = pool.statistics.requested.current
    size = result.nbytes
    del result
    assert live - pool.statistics.requested.current == size


@pytest.mark.parametrize("reduce", ["sum", "prod", "min", "max", "mean", "std", "var", "any", "all", "argmin", "argmax"])
def test_a_reduction_gives_what_it_gives_for_the_array(pool: tc.MemoryPool, reduce: str) -> None:
    """Over everything as a tensor of no dimensions, along axes, with dimensions kept; one block stays."""
    a = (np.arange(24.0).reshape(2, 3, 4) * 7) % 5
    x = tensor(pool, a)
    live = pool.allocation_count - pool.deallocation_count
    found = getattr(x, reduce)()
    assert same(found, np.asarray(getattr(a, reduce)()))
    assert (found.shape, found.pool) == ((), pool)
    assert pool.allocation_count - pool.deallocation_count == live + 1
    for axis in (0, -1, (0, 2)) if not reduce.startswith("arg") else (0, -1):
        assert same(getattr(x, reduce)(axis=axis), np.asarray(getattr(a, reduce)(axis=axis)))
        assert same(getattr(x, reduce)(axis=axis, keepdims=True), getattr(a, reduce)(axis=axis, keepdims=True))
    with pytest.raises(ValueError, match="axis 3 is out of bounds"):  # AxisError is one
        getattr(x, reduce)(axis=3)


def test_spread_is_corrected_as_asked(pool: tc.MemoryPool) -> None:
    x = tensor(pool, [1.0, 2.0, 4.0])
    assert float(x.var(correction=1)) == pytest.approx(np.var([1, 2, 4], ddof=1))
    assert float(tc.std(x, correction=1)) == pytest.approx(np.std([1, 2, 4], ddof=1))


def test_results_come_from_the_first_tensor_s_pool(pool: tc.MemoryPool) -> None:
    """Foreign memory has none, so the next one counts; without any it is the current pool."""
    other, foreign = tc.MemoryPool(), tc.Tensor.from_numpy(np.ones(3))
    x, y = tensor(pool, np.ones(3)), tensor(other, np.ones(3))
    assert (x + y).pool is pool
    assert (y + x).pool is other
    assert (foreign + x).pool is pool
    assert (foreign + foreign).pool is tc.get_global_memory_pool()
    assert tc.concat([foreign, y]).pool is other
    with other.use():
        assert (foreign * 2).pool is other
        assert tc.sin(np.ones(3)).pool is other


def test_views_of_foreign_memory_stay_foreign() -> None:
    """A result that shares memory with another library's array is not said to be of a pool."""
    foreign = tc.Tensor.from_numpy(np.arange(6.0))
    views: Any = (
        foreign[1:],
        foreign.reshape(2, 3),
        tc.expand_dims(foreign, 0),
        tc.broadcast_to(foreign, (2, 6)),
        np.split(foreign, 2)[0],
    )
    for view in views:
        assert view.pool is None
        assert np.shares_memory(view.numpy(), foreign.numpy())


def test_without_room_the_pool_says_so_and_nothing_is_lost() -> None:
    """From an operator, a ufunc, a function and a reduction alike: the pool's error with its figures."""
    with tc.MemoryPool(limit="1MiB") as pool:
        x = tc.Tensor(100_000, pool=pool)
        x.fill(1)
        operations: list[Any] = [
            lambda: x + x,
            lambda: np.sin(x),
            lambda: tc.exp(x),
            lambda: x * x[::-1],
            lambda: tc.concat([x, x]),
        ]
        refused: list[tuple[Any, int]] = [(lambda: x + x, 800_000), (lambda: x / 3, 800_000), (lambda: -x, 800_000)]
        for operation in operations:
            with pytest.raises(tc.OutOfMemoryError, match="could not hand out") as caught:
                operation()
            assert caught.value.limit == 1 << 20
        for operation, nbytes in refused:
            with pytest.raises(tc.OutOfMemoryError) as caught:
                operation()
            assert caught.value.requested == nbytes
        assert float(x.sum()) == 100_000
        pool.check()


def test_a_closed_pool_computes_no_more_but_its_tensors_are_whole(pool: tc.MemoryPool) -> None:
    x = tensor(pool, [1.0, 2.0])
    pool.close()
    operations: list[Any] = [lambda: x + x, lambda: np.sin(x), lambda: x.sum()]
    for operation in operations:
        with pytest.raises(tc.PoolClosedError):
            operation()
    x += 1
    assert x.tolist() == [2.0, 3.0]


def test_numpy_s_own_arrays_stay_out_of_the_pool(pool: tc.MemoryPool) -> None:
    """After an operation, and after one that failed, this thread's NumPy allocates as before."""
    x = tensor(pool, np.ones(3))
    tc.exp(x)
    with pytest.raises(ValueError, match="broadcast"):
        x + tensor(pool, np.ones(4))
    before = pool.allocation_count
    np.ones(1000) + 1
    assert pool.allocation_count == before


def test_threads_compute_in_pools_of_their_own() -> None:
    """Each thread's results come from its operands' pool, though the operations overlap."""
    failures: list[str] = []

    def work() -> None:
        with tc.MemoryPool() as mine:
            x = tc.asarray(np.ones((50, 50)), pool=mine)
            for _ in range(200):
                y = tc.exp(x @ x) + x.sum(axis=0)
                if y.pool is not mine or not mine.statistics.requested.current >= 2 * x.nbytes:
                    failures.append(repr(y.pool))
            del x, y

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_computing_inside_a_computation_keeps_both_pools_apart(pool: tc.MemoryPool) -> None:
    """A function that NumPy calls back computes with other tensors; what NumPy makes afterwards comes from the outer pool again."""
    inner = tc.MemoryPool()
    small = tensor(inner, np.ones(3))

    def called_back(row: Any) -> Any:
        assert (tc.exp(small)).pool is inner
        return row * 2

    x = tensor(pool, np.arange(6.0).reshape(2, 3))
    found: Any = np.apply_along_axis(called_back, 1, x)
    assert same(found, np.arange(6.0).reshape(2, 3) * 2)
    assert found.pool is pool
    assert small.pool is inner


def test_no_reference_is_lost_or_kept(pool: tc.MemoryPool) -> None:
    """A thousand operations, also such that fail, leave the references of their operands as they were."""
    x, y, array = tensor(pool, np.ones(3)), tensor(pool, np.ones(4)), np.ones(3)
    wrong: Any = "text"
    subjects = [x, y, array, x._array, pool, np.add, np.sin, tc.Tensor]

    def operate() -> None:
        operations: list[Any] = [
            lambda: x + x, lambda: x + 1.5, lambda: x < x, lambda: x + y, lambda: x + "text", lambda: x + array, lambda: np.sin(x),
            lambda: tc.concat([x, y]), lambda: tc.concat([x, wrong]), lambda: x.sum(), lambda: tc.sum(x, axis=7), lambda: x[x > 0],
            lambda: tc.unique_all(x), lambda: x.__iadd__(0), lambda: x.__iadd__(y), lambda: tc.broadcast_arrays(x, x),
        ]  # fmt: skip
        for operation in operations:
            outcome(operation)

    operate()
    gc.collect()
    before = [sys.getrefcount(subject) for subject in subjects]
    for _ in range(1000):
        operate()
    gc.collect()
    after = [sys.getrefcount(subject) for subject in subjects]
    assert [b - a for a, b in zip(before, after, strict=True)] == [0] * len(subjects)
    assert pool.allocation_count - pool.deallocation_count == 2
