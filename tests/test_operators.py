"""Operators and ufuncs of tensors: what they give is what they give for arrays, whatever the operands."""

from __future__ import annotations

import array
import gc
import operator
import weakref
from typing import Any

import numpy as np
import pytest
from array_helpers import outcome, same, tensor

import tensorcore as tc

BINARY = [operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod, operator.pow]
INTEGER = [operator.and_, operator.or_, operator.xor, operator.lshift, operator.rshift]
COMPARISONS = [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne]
UNARY = [operator.neg, operator.pos, abs]
DTYPES = ["bool", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "g", "c8", "c16", "G", ">f8", ">i4"]


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


class Failing:
    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        raise RuntimeError("no array today")


def test_an_error_of_a_conversion_is_shown(pool: tc.MemoryPool) -> None:
    x: Any = tensor(pool, [1.0, 2.0])
    with pytest.raises(RuntimeError, match="no array today"):
        x + Failing()


class Asked(tc.Tensor):
    """Decides for itself what ufuncs do."""

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if ufunc is np.multiply:  # hands it on
            return super().__array_ufunc__(ufunc, method, *inputs, **kwargs)
        return f"asked for {ufunc.__name__}"


class Refusing(tc.Tensor):
    __array_ufunc__ = None  # type: ignore[assignment]


class Counting(int):
    """A number with operators of its own."""

    __array_ufunc__ = None

    def __radd__(self, other: object) -> Any:
        return "mine"


def test_a_subclass_decides_by_its_array_ufunc() -> None:
    """As subclasses of arrays do: for operators on either side, in place and of one operand."""
    x: Any = tc.ones(2)
    y: Any = Asked((2,))
    y.fill(3.0)
    assert x + y == y + x == y + 1 == np.ones(2) + y == np.add(x, y) == "asked for add"
    assert (-y, y < x, y**2) == ("asked for negative", "asked for less", "asked for power")
    z = y
    z += x
    assert z == "asked for add"
    assert (x * y).tolist() == [3.0, 3.0]
    refusing: Any = Refusing((2,))
    for left, right in ((x, refusing), (refusing, x)):
        with pytest.raises(TypeError, match="unsupported operand"):
            left - right
    assert x + Counting(3) == "mine"


def test_a_class_of_tensors_can_be_collected() -> None:
    class Passing(tc.Tensor):
        pass

    assert np.sum(Passing((2,)) * 0).item() == 0
    kind = weakref.ref(Passing)
    del Passing
    tc.ones(1) + tc.ones(1)  # no longer the class that was seen last
    gc.collect()
    assert kind() is None


def test_a_ufunc_with_too_few_operands_is_refused() -> None:
    with pytest.raises(TypeError, match="takes from 2 to 3 positional arguments"):
        tc.ones(2).__array_ufunc__(np.add, "__call__", tc.ones(2))
    with pytest.raises(TypeError, match="__array_ufunc__ takes a ufunc"):
        tc.ones(2).__array_ufunc__(np.add, "__call__")


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
