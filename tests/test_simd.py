"""`tensorcore.simd` gives the bits of NumPy on every instruction set, size, offset, stride, dtype and overlap."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from simd_helpers import BINARY, DTYPES, bits, numbers, offsets, sizes

from tensorcore import simd
from tensorcore._lib import lib

if TYPE_CHECKING:
    from collections.abc import Callable

    Array = np.ndarray[Any, np.dtype[Any]]

pytestmark = pytest.mark.usefixtures("simd_settings")

# ---- the bits of NumPy ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("dtype", DTYPES)
@given(size=sizes, shift=offsets, seed=st.integers(0, 99), stream=st.booleans())
@np.errstate(all="ignore")
def test_two_operands_give_numpys_bits(name: str, dtype: str, size: int, shift: int, seed: int, stream: bool) -> None:
    """At every length and offset of each array, in the cache or past it, into a new tensor, an array or an operand."""
    function, ufunc = BINARY[name]
    lib.tc_simd_set_stream_from(1 if stream else 1 << 24)
    a, b = numbers(dtype, size, seed, shift), numbers(dtype, size, seed + 1, (shift * 3) % 16)
    expected = bits(ufunc(a, b))
    assert bits(function(a, b)) == expected
    out = numbers(expected[1].name, size, 0, (shift * 5) % 16)
    assert function(a, b, out=out) is out
    assert bits(out) == expected
    if expected[1] == a.dtype:
        function(a, b, out=b)
        assert bits(b) == expected


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("name", BINARY)
@given(
    dtype=st.sampled_from(DTYPES),
    number=st.one_of(st.integers(-(2**31), 2**31 - 1), st.floats(width=32)),
    size=sizes,
    swapped=st.booleans(),
)
@example("float32", 1e300, 5, False)
@np.errstate(all="ignore")
def test_a_python_number_is_an_operand_as_it_is_for_numpy(name: str, dtype: str, number: float, size: int, swapped: bool) -> None:
    """It takes the dtype of the array, or widens it, as NumPy has it."""
    function, ufunc = BINARY[name]
    a = numbers(dtype, size, 5)
    pair = (number, a) if swapped else (a, number)
    assert bits(function(*pair)) == bits(ufunc(*pair))


@given(first=st.integers(0, 40), second=st.integers(0, 40), third=st.integers(0, 40), name=st.sampled_from(list(BINARY)))
def test_an_output_may_overlap_its_inputs_anyhow(first: int, second: int, third: int, name: str) -> None:
    """As for NumPy, the result is as if all inputs had been read first."""
    function, ufunc = BINARY[name]
    room = np.linspace(1.0, 2.0, 1040)
    expected = ufunc(room[first : first + 1000].copy(), room[second : second + 1000].copy())
    function(room[first : first + 1000], room[second : second + 1000], out=room[third : third + 1000])
    assert bits(room[third : third + 1000]) == bits(expected)
    room = np.linspace(1.0, 2.0, 1040)
    a, b, c = (room[at : at + 1000] for at in (first, second, third))
    expected = simd.vectorized_fma(a.copy(), b.copy(), c.copy()).numpy()
    simd.vectorized_fma(a, b, c, out=c)
    assert bits(c) == bits(expected)


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x[::2],
        lambda x: x[::-1],
        lambda x: x.reshape(60, -1).T,
        lambda x: x.reshape(3, 4, 5, -1)[:, ::2],
        lambda x: np.broadcast_to(x[0], 7),
        lambda x: np.asfortranarray(x.reshape(60, -1)),
        lambda x: x.astype(x.dtype.newbyteorder(">")),
        lambda x: np.frombuffer(b"\0" + x.tobytes(), "u1")[1:].view(x.dtype),
    ],
    ids=["gaps", "backwards", "transposed", "sliced", "broadcast", "Fortran", "foreign byte order", "unaligned"],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_layout_gives_numpys_bits(make: Callable[[Array], Array], dtype: str) -> None:
    """Strides, orders and byte orders that have no quick way go another, in every function."""
    a, b = make(np.arange(1, 601).astype(dtype)), make(np.arange(601, 1, -1)[:600].astype(dtype))
    for function, ufunc in BINARY.values():
        assert bits(function(a, b)) == bits(ufunc(a, b))
        out = np.empty_like(ufunc(a, b))[..., ::-1]
        function(a, b, out=out)
        assert bits(out) == bits(ufunc(a, b))
    assert bits(simd.vectorized_fma(a, b, a)) == bits(a * b + a)  # small integers: exact either way
    assert bits(simd.vectorized_axpy(3, a, b)) == bits(3 * a + b)
    assert bits(simd.vectorized_copy(a)) == bits(a.copy())
    assert bits(simd.evaluate("a*b - a", a=a, b=b)) == bits(a * b - a)
    assert simd.vectorized_sum(a) == a.sum(dtype="f8" if a.dtype.kind == "f" else "i8")
    assert simd.vectorized_dot(a, b) == pytest.approx(np.sum(a * b), rel=1e-6)
    assert (simd.vectorized_min(a), simd.vectorized_max(a)) == (a.min(), a.max())


@pytest.mark.parametrize("dtype", ["float16", "complex64", "complex128", "uint8", "bool"])
def test_other_dtypes_are_numpys(dtype: str) -> None:
    """They have no quick way, and the same results."""
    a, b = np.arange(1, 6).astype(dtype), np.ones(5, dtype)
    assert bits(simd.vectorized_add(a, b)) == bits(a + b)
    assert bits(simd.vectorized_divide(a, b)) == bits(a / b)
    assert bits(simd.vectorized_copy(a)) == bits(a)
    assert bits(simd.vectorized_fill(a.copy(), 1)) == bits(np.ones_like(a))
    assert simd.vectorized_sum(a) == a.sum()
    assert simd.vectorized_dot(a, b) == a.dot(b)
    assert simd.vectorized_max(a) == a.max()
    with pytest.raises(TypeError, match="there is no fma of"):
        simd.vectorized_fma(a, a, a)


def test_mixed_dtypes_and_shapes_are_promoted_and_broadcast_as_numpys() -> None:
    a, b = np.arange(12, dtype="i4").reshape(3, 4), np.arange(4, dtype="f4")
    for function, ufunc in BINARY.values():
        with np.errstate(all="ignore"):
            assert bits(function(a, b)) == bits(ufunc(a, b))
    assert bits(simd.vectorized_fma(a, b, 1.0)) == bits(a * b + np.float64(1.0))
    assert simd.vectorized_dot(a[0], b) == np.dot(a[0], b)


# ---- fma, scale, axpy, copy, fill -----------------------------------------------------------------------------------------------


def exact_fma(a: float, b: float, c: float) -> float:
    """Return a * b + c rounded once, from fractions."""
    return float(Fraction(a) * Fraction(b) + Fraction(c))


@pytest.mark.usefixtures("instruction_set")
@given(st.lists(st.tuples(*[st.floats(-1e100, 1e100).filter(lambda x: x == 0 or abs(x) > 1e-100)] * 3), min_size=1, max_size=40))
def test_fma_rounds_once(triples: list[tuple[float, float, float]]) -> None:
    a, b, c = (np.array(column) for column in zip(*triples, strict=True))
    assert simd.vectorized_fma(a, b, c).numpy().tolist() == [exact_fma(*triple) for triple in triples]
    assert simd.vectorized_axpy(triples[0][0], b, c).numpy().tolist() == [exact_fma(triples[0][0], y, z) for _, y, z in triples]


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("dtype", DTYPES)
@given(size=sizes, shift=offsets)
@np.errstate(all="ignore")
def test_scale_copy_and_fill_give_numpys_bits(dtype: str, size: int, shift: int) -> None:
    x = numbers(dtype, size, 1, shift)
    assert bits(simd.vectorized_scale(3, x)) == bits(x * x.dtype.type(3))
    assert bits(simd.vectorized_copy(x)) == bits(x)
    out = numbers(dtype, size, 2, (shift * 7) % 16)
    assert simd.vectorized_fill(out, -7) is out
    assert bits(out) == bits(np.full(size, -7, dtype))
    assert bits(simd.vectorized_axpy(0, x, out)) == bits(np.where(np.isfinite(x), x.dtype.type(0) * x + out, x.dtype.type(0) * x))


def test_alpha_takes_the_dtype_of_the_array() -> None:
    x = np.ones(3, "f4")
    assert simd.vectorized_scale(0.1, x).numpy().tolist() == [float(np.float32(0.1))] * 3
    assert simd.vectorized_scale(np.float64(0.1), x).dtype == np.float32
    assert simd.vectorized_axpy(np.float64(0.1), x, x).dtype == np.float32
    assert np.isinf(simd.vectorized_scale(1e300, x).numpy()).all()
    with pytest.raises(TypeError, match="integer"):
        simd.vectorized_scale(np.float64(0.5), np.ones(3, "i4"))
    with pytest.raises(OverflowError):
        simd.vectorized_axpy(2**40, np.ones(3, "i4"), np.ones(3, "i4"))


def test_fill_takes_one_value_that_the_dtype_can_hold() -> None:
    with pytest.raises(ValueError, match=r"one value, not with an array of shape \(2,\)"):
        simd.vectorized_fill(np.empty(2), [1, 2])
    with pytest.raises(OverflowError):
        simd.vectorized_fill(np.empty(2, "i4"), 2**40)
    with pytest.raises(TypeError, match="out is the array to write to"):
        simd.vectorized_fill(None, 1)
    assert simd.vectorized_fill(np.empty(2, "U3"), "abc").tolist() == ["abc", "abc"]
    assert simd.vectorized_fill(np.empty((2, 2))[:, ::2], 2.5).tolist() == [[2.5], [2.5]]
