"""Tensors compute: operators, reductions, indices and NumPy's functions give what NumPy gives, in blocks of the operands' pool."""

from __future__ import annotations

import array
import gc
import operator
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import tensorcore as tc

if TYPE_CHECKING:
    from collections.abc import Callable

BINARY = [operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod, operator.pow]
INTEGER = [operator.and_, operator.or_, operator.xor, operator.lshift, operator.rshift]
COMPARISONS = [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne]
UNARY = [operator.neg, operator.pos, abs]
DTYPES = ["bool", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "g", "c8", "c16", "G", ">f8", ">i4"]


def tensor(pool: tc.MemoryPool, values: Any) -> tc.Tensor:
    """A tensor in a pool with the values, and the type, of an array."""
    return tc.asarray(np.asarray(values), pool=pool, copy=True)


def outcome(function: Callable[..., Any], *args: Any) -> Any:
    """What a call returns, or the type of what it raises."""
    try:
        with np.errstate(all="ignore"):
            return function(*args)
    except (TypeError, ValueError, OverflowError) as error:
        return type(error)


def same(found: Any, wanted: Any) -> bool:
    """Whether a tensor has the type, the shape and the elements of an array; whether both are the same kind of error."""
    if isinstance(wanted, type):
        return isinstance(found, type) and (issubclass(found, wanted) or issubclass(wanted, found))
    array = found.numpy()
    return (
        array.dtype == wanted.dtype
        and array.shape == wanted.shape
        and np.array_equal(array, wanted, equal_nan=wanted.dtype.kind in "fc")
    )


# ---- operators ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", [*BINARY, *INTEGER, *COMPARISONS], ids=lambda function: function.__name__)
def test_an_operator_gives_what_it_gives_for_arrays(pool: tc.MemoryPool, function: Any, dtype: str) -> None:
    """Between tensors, with Python's numbers on either side, in C order and not; type, shape, elements, and errors."""
    a, b = np.arange(6).reshape(2, 3).astype(dtype), np.array([[3, 1, 2], [1, 1, 0]]).astype(dtype)
    x, y = tensor(pool, a), tensor(pool, b)
    assert same(outcome(function, x, y), outcome(function, a, b))
    assert same(outcome(function, x.T, y.T), outcome(function, a.T, b.T))
    assert same(outcome(function, x[:, ::2], y[:, ::2]), outcome(function, a[:, ::2], b[:, ::2]))
    assert same(outcome(function, x, y[0]), outcome(function, a, b[0]))
    for number in (2, -1, 1.5, True, 1 + 2j, 300, 2**70):
        assert same(outcome(function, x, number), outcome(function, a, number))
        assert same(outcome(function, number, y), outcome(function, number, b))


@pytest.mark.parametrize("left", ["bool", "i1", "u8", "f4", "c8"])
@pytest.mark.parametrize("right", ["bool", "i4", "u2", "f2", "f8"])
def test_types_are_promoted_as_arrays_are(pool: tc.MemoryPool, left: str, right: str) -> None:
    """The standard's table, and NumPy's where kinds are mixed."""
    a, b = np.ones(3, left), np.ones((2, 3), right)
    assert same(tensor(pool, a) + tensor(pool, b), a + b)
    assert same(tensor(pool, a) * b, a * b)
    assert same(b * tensor(pool, a), b * a)


@pytest.mark.parametrize("function", [*UNARY, operator.invert], ids=lambda function: function.__name__)
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_operator_of_one_tensor_gives_what_it_gives_for_the_array(pool: tc.MemoryPool, function: Any, dtype: str) -> None:
    a = np.arange(6).reshape(2, 3).astype(dtype)
    assert same(outcome(function, tensor(pool, a)), outcome(function, a))


@pytest.mark.parametrize(
    "name", ["iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow", "iand", "ior", "ixor", "ilshift", "irshift"]
)
@pytest.mark.parametrize("dtype", ["bool", "i1", "i8", "u1", "f4", "f8", "c16"])
@pytest.mark.parametrize("other", [2, 1.5, "same", "row"], ids=str)
def test_an_operator_in_place_writes_where_the_tensor_lies(pool: tc.MemoryPool, name: str, dtype: str, other: Any) -> None:
    """No block is taken; what NumPy refuses is refused, and leaves the tensor as it was."""
    a = np.arange(1, 7).reshape(2, 3).astype(dtype)
    x = tensor(pool, a)
    array_operand: Any = a.copy() if other == "same" else a[0].copy() if other == "row" else other
    tensor_operand: Any = tensor(pool, array_operand) if isinstance(other, str) else other
    before, address = pool.allocation_count, x.ptr
    found = outcome(getattr(operator, name), x, tensor_operand)
    wanted = outcome(getattr(operator, name), a, array_operand)
    assert same(found, wanted)
    assert (x.ptr, pool.allocation_count) == (address, before)
    assert same(x, a)
    assert isinstance(wanted, type) or found is x


def test_matrix_products_follow_arrays(pool: tc.MemoryPool) -> None:
    """In place too, with stacks, and with arrays on either side."""
    a, b = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(3, 4)
    x, y = tensor(pool, a), tensor(pool, b)
    assert same(x @ y, a @ b)
    assert same(a @ y, a @ b)
    assert same(x @ b, a @ b)
    assert same(x @ y[:, 0], a @ b[:, 0])
    square = tensor(pool, np.eye(3))
    square @= tensor(pool, 2 * np.eye(3))
    assert same(square, 2 * np.eye(3))
    assert outcome(operator.matmul, x, 2.0) is ValueError


class Foreign:
    """An operand that knows better."""

    __array_ufunc__ = None

    def __radd__(self, other: object) -> str:
        return f"mine: {type(other).__name__}"

    def __gt__(self, other: object) -> Any:
        return "mine"


def test_operands_of_other_libraries_decide_themselves(pool: tc.MemoryPool) -> None:
    """A stranger's reflected operator is asked; without one it is Python's TypeError, and equality is False."""
    x: Any = tensor(pool, [1.0, 2.0])
    assert x + Foreign() == "mine: Tensor"
    assert (x < Foreign()) == "mine"
    assert (x == {}) is False
    assert (x != None) is True  # noqa: E711 - the operator is what is tested
    for stranger in (None, object(), {}):
        with pytest.raises(TypeError, match="unsupported operand"):
            x + stranger
        for operate in (operator.iadd, operator.imul, operator.imatmul, operator.ipow, divmod):
            with pytest.raises(TypeError, match="unsupported operand"):
                operate(x, stranger)
    assert same(x, np.array([1.0, 2.0]))


def test_division_with_remainder_gives_both(pool: tc.MemoryPool) -> None:
    a = np.arange(-4.0, 5.0)
    x = tensor(pool, a)
    for found, wanted in ((divmod(x, 3), divmod(a, 3)), (divmod(7, x[5:]), divmod(7, a[5:]))):
        assert all(map(same, found, wanted))
        assert [part.pool for part in found] == [pool, pool]


def test_a_power_has_no_modulus(pool: tc.MemoryPool) -> None:
    with pytest.raises(TypeError, match="unsupported operand"):
        pow(tensor(pool, [1.0, 2.0]), 2, 3)  # type: ignore[call-overload]


def test_sequences_of_numbers_are_operands_as_for_arrays(pool: tc.MemoryPool) -> None:
    x = tensor(pool, [1.0, 2.0])
    numbers: Any = [1, 2]
    assert same(x + numbers, np.array([2.0, 4.0]))
    assert same(numbers * x, np.array([1.0, 4.0]))


class Convertible:
    """Of a library that knows NumPy alone."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.array([3.0, 4.0], dtype)


class Preferred(Convertible):
    """Of one that asks to be asked first."""

    __array_priority__ = 10.0

    def __radd__(self, other: object) -> str:
        return "mine"


def test_whatever_numpy_makes_an_array_of_is_an_operand(pool: tc.MemoryPool) -> None:
    x: Any = tensor(pool, [1.0, 2.0])
    for other in (Convertible(), range(3, 5), array.array("d", [3.0, 4.0])):
        assert same(x + other, np.array([4.0, 6.0]))
        assert same(other - x, np.array([2.0, 2.0]))
        assert same(np.multiply(x, other), np.array([3.0, 8.0]))
    assert x + Preferred() == "mine"


def test_text_dates_and_records_are_compared_as_in_arrays(pool: tc.MemoryPool) -> None:
    words, days = np.array(["ab", "c"]), np.array(["2026-11-28", "2026-11-29"], "M8[D]")
    records = np.array([(1, 2.0), (3, 4.0)], [("a", "i4"), ("b", "f8")])
    for a, other in (
        (words, "ab"),
        (words, words[::-1]),
        (days, np.datetime64("2026-11-28")),
        (records, records),
        (np.ones(2), "ab"),
    ):
        x = tensor(pool, a)
        assert same(x == other, a == other)
        assert same(x != other, a != other)
        assert same(x == tensor(pool, other), a == other)
    assert same(tensor(pool, words) < "b", words < "b")


def test_what_is_given_for_the_result_is_the_result(pool: tc.MemoryPool) -> None:
    """By keyword and by place, a tensor of another pool and an array, of ufuncs, methods of theirs and functions."""
    x: Any = tensor(pool, [1.0, 5.0])
    elsewhere: Any = tensor(tc.MemoryPool(), [0.0, 0.0])
    for out in (elsewhere, np.zeros(2)):
        assert np.add(x, x, out=out) is out
        assert np.sin(x, out) is out
        assert np.clip(x, 2, 3, out) is out
        assert np.clip(x, 2, 3, out=out) is out
        assert np.cumsum(x, None, None, out) is out
        assert np.add.accumulate(x, out=out) is out
        assert out[0] == 1
    assert elsewhere.pool is not pool
    quotient, remainder = np.zeros(2), elsewhere
    found = np.divmod(x, 2, out=(quotient, remainder))
    assert found[0] is quotient
    assert found[1] is remainder


def test_in_place_an_array_stays_the_array_that_it_was(pool: tc.MemoryPool) -> None:
    a = b = np.zeros(2)
    a += tensor(pool, [1.0, 2.0])
    assert a is b
    assert b.tolist() == [1.0, 2.0]


def test_in_place_the_operators_are_those_of_arrays(pool: tc.MemoryPool) -> None:
    """Also where NumPy's operator is not its ufunc: a product of vectors is no vector, squares and roots are not powers."""
    a = np.array([1 + 2j, 0.3 - 1j] * 50)
    for exponent in (2, 0.5, -1):
        x, b = tensor(pool, a), a.copy()
        x **= exponent
        b **= exponent
        assert x.numpy().tobytes() == b.tobytes()
    vector = tensor(pool, [1.0, 2.0])
    with pytest.raises(ValueError, match="inplace matrix multiplication"):
        vector @= vector
    with pytest.raises(TypeError, match=r"requires a .* object"):
        tc.Tensor.__iadd__(np.ones(3), 1)  # type: ignore[type-var, operator, arg-type, unused-ignore]


def test_tensors_have_no_hash() -> None:
    """As everything whose equality is by element."""
    with pytest.raises(TypeError, match="unhashable"):
        hash(tc.ones(1))


def test_an_array_of_objects_gives_an_array_of_objects(pool: tc.MemoryPool) -> None:
    """Pool memory could hold it, but a tensor has plain data only."""
    found: Any = tensor(pool, [1, 2]) + np.array([10**30, 1], object)
    assert type(found) is np.ndarray
    assert found.tolist() == [10**30 + 1, 3]


# ---- where results lie ----------------------------------------------------------------------------------------------------------

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
        for operation in operations:
            with pytest.raises(tc.OutOfMemoryError, match="could not hand out") as caught:
                operation()
            assert caught.value.limit == 1 << 20
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
