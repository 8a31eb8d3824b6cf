"""Operators and reductions of tensors by the kernels of `simd`: NumPy's bits, NumPy's warnings, sums as exact as `math.fsum`."""

from __future__ import annotations

import math
import operator
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simd_helpers import DTYPES, bits, numbers, sizes

import tensorcore as tc
from tensorcore import simd
from tensorcore._lib import lib, native

if TYPE_CHECKING:
    from collections.abc import Callable

    Array = np.ndarray[Any, np.dtype[Any]]

pytestmark = pytest.mark.usefixtures("simd_settings")

ARITHMETIC = [operator.add, operator.sub, operator.mul, operator.truediv]
IN_PLACE = [operator.iadd, operator.isub, operator.imul, operator.itruediv]
LARGE = 700_001  # elements: several threads
FLOATS = ("float32", "float64")


def refuse(*_: Any) -> None:
    """Stand for a ufunc that must not be called."""
    pytest.fail("NumPy was asked")


def plain(operand: Any) -> Any:
    """The array of a tensor; the operand itself where it is none."""
    return operand.numpy() if isinstance(operand, tc.Tensor) else operand


def same(found: Any, wanted: Any) -> bool:
    """Whether a tensor has the bits of an array."""
    return bits(found.numpy()) == bits(np.asarray(wanted))


# ---- which operands take the kernels --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_dense_operands_of_one_type_are_the_kernels_alone(pool: tc.MemoryPool, dtype: str) -> None:
    """Tensors, also over foreign memory; arrays; numbers; tensors of no dimensions: on either side."""
    a = np.arange(1, 7, dtype=dtype).reshape(2, 3)
    x, foreign, one = tc.asarray(a, pool=pool, copy=True), tc.asarray(a), tc.asarray(a[1, 1], pool=pool, copy=True)
    assert foreign.pool is None
    for left, right in ((x, x), (x, foreign), (x, a), (a, x), (x, 2), (2, x), (x, one), (one, x), (foreign, foreign), (one, one)):
        result = native.operate(refuse, native.MULTIPLY, left, right)
        assert same(result, plain(left) * plain(right))
        assert result.pool is (pool if left is not foreign or right is not foreign else tc.get_global_memory_pool())
    for rule, wanted in ((native.SUM, np.sum), (native.MIN, np.min), (native.MAX, np.max)):
        assert same(native.reduce_all(refuse, rule, foreign), wanted(a))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (np.ones((3, 4)), np.ones(4)),
        (np.ones((3, 4)), np.ones((3, 4), "f4")),
        (np.ones((4, 3)).T, np.ones((3, 4))),
        (np.ones(4, "i2"), np.ones(4, "i2")),
        (np.ones(4, ">f8"), np.ones(4, ">f8")),
        (np.ones(4, "f4"), 1e300),
        (np.ones(4), True),
        (np.ones(4, "i4"), 2.5),
        (np.ones(4), np.float64(2)),
        (np.ones(4), np.ones((), "f4")),
        (np.frombuffer(b"\0" * 33, "f8", 4, 1), 1),
    ],
    ids=["broadcast", "types", "strides", "int16", "bytes", "overflow", "bool", "float", "scalar", "one of a type", "unaligned"],
)
@pytest.mark.parametrize("function", ARITHMETIC, ids=lambda function: function.__name__)
def test_all_else_is_numpy_s_and_gives_the_same(pool: tc.MemoryPool, function: Any, left: Any, right: Any) -> None:
    x = tc.from_dlpack(left) if left.dtype.isnative and left.flags.aligned else tc.asarray(left, pool=pool)
    y = tc.asarray(right) if isinstance(right, np.ndarray) else right
    with np.errstate(all="ignore"):
        assert same(function(x, y), function(left, right))
        assert same(function(y, x), function(right, left))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(DTYPES), sizes, st.integers(0, 100), st.sampled_from(ARITHMETIC), st.sampled_from(IN_PLACE))
def test_results_have_numpy_s_bits(dtype: str, count: int, seed: int, function: Any, into: Any) -> None:
    """All kinds of elements, at every length; NaN, infinities and wrapped integers included."""
    a, b = numbers(dtype, count, seed), numbers(dtype, count, seed + 1)
    x, y = tc.asarray(a, copy=True), tc.asarray(b, copy=True)
    with np.errstate(all="ignore"):
        assert same(function(x, y), function(a, b))
        assert same(function(x, 3), function(a, 3))
        assert same(function(3, x), function(3, a))
        assert same(-x, -a)
        if dtype in FLOATS or into is not operator.itruediv:
            assert same(into(x, y), into(a, b))
        if count:
            assert same(function(x, y[count // 2]), function(a, b[count // 2]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("past_cache", [False, True], ids=["cache", "past the cache"])
@pytest.mark.parametrize("threads", [1, 3])
def test_large_operands_have_numpy_s_bits(dtype: str, threads: int, past_cache: bool) -> None:
    simd.set_num_threads(threads)
    if past_cache:
        lib.tc_simd_set_stream_from(1)
    a, b = numbers(dtype, LARGE, 1), numbers(dtype, LARGE, 2)
    x, y = tc.asarray(a), tc.asarray(b)
    with np.errstate(all="ignore"):
        for function in ARITHMETIC:
            assert same(function(x, y), function(a, b))
        assert same(x.min(), a.min())
        assert same(x.max(), a.max())


def test_in_place_the_operand_is_read_before_it_is_written(pool: tc.MemoryPool) -> None:
    """An element of the tensor itself, a part of it that is shifted, the tensor itself: as for arrays."""
    a = np.arange(1.0, 101.0)
    x = tc.asarray(a, pool=pool, copy=True)
    x += x[3]
    a += a[3].copy()
    assert same(x, a)
    x[1:] -= x[:-1]
    a[1:] -= a[:-1].copy()
    assert same(x, a)
    x *= x
    a *= a
    assert same(x, a)
    x[::2] += 1
    a[::2] += 1
    assert same(x, a)
    count = pool.allocation_count
    y = x
    y /= 3
    assert (y is x, pool.allocation_count) == (True, count)


def test_in_place_what_does_not_fit_is_refused_and_changes_nothing(pool: tc.MemoryPool) -> None:
    x, whole = tc.ones((2, 3), pool=pool), tc.ones(3, dtype="i4", pool=pool)
    frozen = np.ones(3)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="broadcast"):
        x += tc.ones((4, 2, 3))
    with pytest.raises(TypeError, match="cast"):
        whole /= 2
    with pytest.raises(TypeError, match="cast"):
        whole += 1.5
    read_only = tc.asarray(frozen)
    with pytest.raises(ValueError, match="read-only"):
        read_only += 1
    assert (x.tolist(), whole.tolist(), frozen.tolist()) == ([[1.0] * 3] * 2, [1] * 3, [1.0] * 3)


# ---- warnings -------------------------------------------------------------------------------------------------------------------

MOST, LEAST = np.finfo("f8").max, np.finfo("f8").tiny
HARD = [
    (MOST, MOST),
    (MOST, -MOST),
    (np.inf, np.inf),
    (np.inf, -np.inf),
    (0.0, np.inf),
    (1.0, 0.0),
    (0.0, 0.0),
    (LEAST, LEAST),
    (MOST, LEAST),
    (LEAST, MOST),
    (np.nan, 1.0),
    (1.0, 3.0),
]


def reported(function: Callable[..., Any], *args: Any, **state: Any) -> list[str]:
    """What NumPy says of a call, in its order, under an errstate."""
    with warnings.catch_warnings(record=True) as caught, np.errstate(**state):
        warnings.simplefilter("always")
        try:
            function(*args)
        except FloatingPointError as error:
            return [f"raised: {error}"]
    return [f"{entry.category.__name__}: {entry.message}" for entry in caught]


@pytest.mark.parametrize("state", ["warn", "raise", "ignore"])
@pytest.mark.parametrize("count", [1, 1000, LARGE])
def test_warnings_are_numpy_s(state: str, count: int) -> None:
    """The same ones, of an element in any thread's part, and errors where errstate asks for them."""
    simd.set_num_threads(3)
    for function in (*ARITHMETIC, *IN_PLACE):
        a, b = np.ones(count), np.ones(count)
        for p, q in HARD:
            for at in {0, count // 2, count - 1}:
                a[at], b[at] = p, q
                x, y = tc.asarray(a, copy=True), tc.asarray(b, copy=True)
                assert reported(function, x, y, all=state) == reported(function, a.copy(), b, all=state)
                a[at] = b[at] = 1.0


def test_a_warning_names_the_line_that_computes() -> None:
    """Python shows a warning once per line: were it a line of this package's, a program would see only its first."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tc.ones(3) / 0
        tc.ones(3) // tc.zeros(3)
        np.log(tc.zeros(3))
        tc.ones(3) / np.float64(0)
        tc.ones(2) / [0, 1]
    assert [entry.filename for entry in caught] == [__file__] * 5


def test_warnings_of_the_past_are_not_reported_again() -> None:
    x, zero = tc.ones(10), tc.zeros(10)
    with np.errstate(all="ignore"):
        x / zero
    assert reported(operator.add, x, x, all="raise") == []


def test_an_error_of_errstate_loses_no_memory(pool: tc.MemoryPool) -> None:
    x = tc.ones(10, pool=pool)
    live = pool.statistics.requested.current
    with np.errstate(all="raise"), pytest.raises(FloatingPointError, match="divide by zero encountered in divide"):
        x / 0
    calls: list[str] = []
    with np.errstate(all="call", call=lambda what, _: calls.append(what)):
        x / 0
    assert calls == ["divide by zero"]
    flags: list[tuple[str, int]] = []
    wanted: list[tuple[str, int]] = []
    a, b = np.array([1.0, 0.0]), np.zeros(2)
    for operand, seen in ((tc.asarray(a), flags), (a, wanted)):
        with np.errstate(all="call", call=lambda what, flag, seen=seen: seen.append((what, flag))):
            operand / b
    assert flags == wanted
    assert len(flags) == 2
    assert pool.statistics.requested.current == live


# ---- reductions -----------------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(FLOATS), st.integers(1, 5000), st.integers(0, 100))
def test_sums_are_at_least_as_exact_as_numpy_s(dtype: str, count: int, seed: int) -> None:
    """Beside `math.fsum`, which rounds once: within a unit of the last place."""
    random = np.random.default_rng(seed)
    a = (random.standard_normal(count) * 10.0 ** random.integers(-6, 6, count)).astype(dtype)
    exact = math.fsum(a)
    x = tc.asarray(a)
    unit = float(np.spacing(abs(a.dtype.type(exact))))
    assert abs(float(x.sum()) - exact) <= 1.01 * unit
    assert abs(float(x.sum()) - exact) <= abs(float(a.sum()) - exact) + 1.01 * unit
    assert float(x.mean()) == pytest.approx(exact / count, rel=1e-6 if dtype == "float32" else 1e-15)


def test_a_sum_has_the_same_bits_whoever_is_asked_and_on_any_number_of_threads() -> None:
    a = numbers("float64", LARGE, 3)
    a[~np.isfinite(a)] = 1.0
    x = tc.asarray(a)
    found = set()
    for threads in (1, 2, 5):
        simd.set_num_threads(threads)
        found |= {float(y) for y in (x.sum(), np.sum(x), tc.sum(x), x.sum(keepdims=True)[0], simd.vectorized_sum(x))}
        assert float(x.mean()) == float(np.mean(x)) == float(tc.mean(x))
    assert len(found) == 1


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    "values",
    [
        [0.0, -0.0, 1.0],
        [-0.0, 0.0, 1.0],
        [0.0, 1.0],
        [-0.0, 1.0],
        [-0.0, -1.0, 0.0],
        [-0.0, -1.0],
        [0.0, -1.0],
        [-0.0],
        [np.nan, 1.0],
        [1.0, -np.nan],
        [np.inf, -np.inf],
        [np.inf, 1.0],
        [np.finfo("f4").max] * 2,
        [np.finfo("f8").max] * 2,
    ],
    ids=str,
)
@pytest.mark.parametrize("reduce", ["sum", "mean", "min", "max"])
def test_special_values_reduce_to_numpy_s_bits_and_warnings(reduce: str, values: list[float], dtype: str) -> None:
    """Zeros of both signs, NaN, infinities, and sums that overflow."""
    with np.errstate(all="ignore"):
        a = np.array(values * 41, dtype)
        x = tc.asarray(a)
        found, wanted = getattr(x, reduce)(), getattr(a, reduce)()
    if np.isfinite(wanted) and reduce in ("sum", "mean"):  # NumPy's may be less exact
        assert float(found) == pytest.approx(float(wanted), rel=1e-5)
        assert np.signbit(found.numpy()) == np.signbit(wanted)
    else:
        assert same(found, wanted)
    assert reported(getattr(x, reduce)) == reported(getattr(a, reduce))


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", "u4", "u8", "q", "bool", "f2", "c16", ">f8", ">i4"])
def test_the_types_of_results_are_numpy_s(dtype: str) -> None:
    a = (np.arange(40) % 7).astype(dtype)
    x = tc.asarray(a)
    for reduce in ("sum", "mean", "min", "max"):
        found, wanted = getattr(x, reduce)(), np.asarray(getattr(a, reduce)())
        assert (found.dtype, found.shape) == (wanted.dtype, ())
        assert same(found, wanted)


def test_integer_sums_wrap_as_numpy_s() -> None:
    a = np.full(5000, np.iinfo("i8").max)
    assert int(tc.asarray(a).sum()) == int(a.sum())


def test_reductions_of_nothing_are_numpy_s(pool: tc.MemoryPool) -> None:
    empty = tc.empty((0, 3), pool=pool)
    assert (float(empty.sum()), empty.sum(keepdims=True).shape) == (0.0, (1, 1))
    for reduce in (empty.min, empty.max):
        with pytest.raises(ValueError, match="zero-size"):
            reduce()
    with pytest.warns(RuntimeWarning, match="invalid value|Mean of empty"):
        assert math.isnan(float(empty.mean()))


def test_dimensions_are_kept_where_asked(pool: tc.MemoryPool) -> None:
    x = tc.asarray(np.arange(1.0, 7.0).reshape(2, 3), pool=pool, copy=True)
    for name in ("sum", "mean", "min", "max"):
        found = getattr(x, name)(keepdims=True)
        assert (found.shape, found.pool) == ((1, 1), pool)
        assert found.tolist() == [[getattr(x, name)().item()]]
    assert x.sum(dtype="f4").dtype == np.float32


# ---- NumPy's and the standard's functions ---------------------------------------------------------------------------------------


def test_functions_of_the_same_meaning_take_the_kernels(pool: tc.MemoryPool, monkeypatch: pytest.MonkeyPatch) -> None:
    x = tc.asarray(np.arange(1.0, 7.0), pool=pool, copy=True)
    taken: list[int] = []
    real = native.operate

    def operate(ufunc: Any, rule: int, left: object, right: object, /) -> Any:
        taken.append(rule)
        return real(ufunc, rule, left, right)

    monkeypatch.setattr(native, "operate", operate)
    for function in (tc.add, tc.subtract, tc.multiply, tc.divide):
        assert same(function(x, 2.0), getattr(np, function.__name__)(x.numpy(), 2.0))
    assert taken == [native.ADD, native.SUBTRACT, native.MULTIPLY, native.DIVIDE]


@pytest.mark.parametrize("function", [np.add, np.subtract, np.multiply, np.divide], ids=lambda function: function.__name__)
def test_ufuncs_give_the_same_as_the_operators(pool: tc.MemoryPool, function: np.ufunc) -> None:
    """In a new block and in the one that is given, with numbers and arrays on either side."""
    a, b = numbers("float64", 1000, 1), numbers("float64", 1000, 2)
    x, y, out = (tc.asarray(array, pool=pool, copy=True) for array in (a, b, a))
    with np.errstate(all="ignore"):
        for left, right in ((x, y), (x, b), (a, y), (x, 3.0), (3.0, x)):
            count = pool.allocation_count
            found = function(left, right)
            assert same(found, function(plain(left), plain(right)))
            assert (found.pool, pool.allocation_count) == (pool, count + 1)
            assert function(left, right, out=out) is out
            assert same(out, found)
            assert pool.allocation_count == count + 1
        assert function(x, y, x) is x
        assert same(x, function(a, b))


def test_a_stranger_among_a_function_s_operands_is_refused_as_by_numpy() -> None:
    with pytest.raises(TypeError):
        tc.add(tc.ones(3), object())  # type: ignore[arg-type]
