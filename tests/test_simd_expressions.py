"""`simd.evaluate` gives the bits of the same expression in NumPy, in one pass, and refuses what is no expression."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simd_helpers import bits, numbers

from tensorcore import simd
from tensorcore._lib import lib

pytestmark = pytest.mark.usefixtures("simd_settings")

names = st.sampled_from("abcde")
leaves = st.one_of(names, st.integers(1, 9).map(str), st.sampled_from(["0.5", "1.25e3", "2."]))
expressions = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda x: f"({x[0]} {x[1]} {x[2]})"), inner.map(lambda x: f"(-{x})")
    ),
    max_leaves=30,
).filter(lambda text: any(name in text for name in "abcd"))


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(text=expressions, size=st.integers(0, 1500), stream=st.booleans(), into=st.booleans())
@np.errstate(all="ignore")
def test_an_expression_gives_the_bits_of_numpys(dtype: str, text: str, size: int, stream: bool, into: bool) -> None:
    """Whatever its shape, however many intermediate results it needs."""
    lib.tc_simd_set_stream_from(1 if stream else 1 << 24)
    arrays: dict[str, Any] = {name: numbers(dtype, size, ord(name)) for name in "abcde" if name in text.replace("e3", "")}
    try:
        expected = eval(text, dict(arrays))
    except ZeroDivisionError:
        with pytest.raises(ValueError, match="division by zero"):
            simd.evaluate(text, **arrays)
        return
    out = np.empty(size, dtype) if into else None
    found = simd.evaluate(text, out=out, **arrays)
    assert bits(found) == bits(expected)
    assert found is out or not into


@pytest.mark.parametrize(
    "text", ["a", "-a", "+a", "a*2", "3/a", "1/2*a", "(a)", "a - -0.0", "0 - a", " a+1 ", "a*0 + a*0.0 - a*-0.0"]
)
def test_short_expressions(text: str) -> None:
    """One step, signs, and numbers among themselves; 0, 0.0 and -0.0 are three numbers."""
    a = np.array([0.0, -0.0, 1.5, -2.0, np.inf])
    with np.errstate(all="ignore"):
        assert bits(simd.evaluate(text, a=a)) == bits(eval(text))


def test_an_expression_beyond_the_small_machine_is_computed_all_the_same() -> None:
    """More names than it has inputs, more steps, and more intermediate results at a time than it has room for."""
    a = np.linspace(1, 2, 100)
    many = {f"x{i}": a + i for i in range(40)}
    assert bits(simd.evaluate(" + ".join(many), **many)) == bits(sum(list(many.values())[1:], many["x0"]))
    steps = " + ".join(["a*2"] * 200)
    assert bits(simd.evaluate(steps, a=a)) == bits(eval(steps))
    deep = "(a*2)"
    for _ in range(9):
        deep = f"(({deep}) - ({deep[::1]})*3)" if len(deep) < 2000 else f"((a+1)*(a-1) + {deep})"
    assert bits(simd.evaluate(deep, a=a)) == bits(eval(deep))


def test_an_expressions_operands_may_be_integers_numbers_strided_or_of_several_dtypes() -> None:
    i, x = np.arange(1, 9), np.linspace(0, 1, 8)
    cases: list[tuple[str, dict[str, Any]]] = [
        ("i*2 + i", {"i": i}),
        ("i/2 + i", {"i": i}),
        ("i*2.5", {"i": i}),
        ("i*x - 1", {"i": i, "x": x}),
        ("x*k", {"x": x, "k": 3}),
        ("x*y", {"x": x.reshape(8, 1), "y": x}),
        ("x*y + 1", {"x": x[::2], "y": x[1::2]}),
        ("y", {"y": x[::2]}),
        ("-i", {"i": i.astype("u1")}),
    ]
    for text, arrays in cases:
        assert bits(simd.evaluate(text, **arrays)) == bits(eval(text, dict(arrays)))


def test_an_expression_may_write_over_its_operands() -> None:
    a = np.linspace(0, 1, 5000)
    expected = a[1:] * 2 - a[:-1]
    simd.evaluate("x*2 - y", x=a[1:], y=a[:-1], out=a[1:])
    assert bits(a[1:]) == bits(expected)
    b = a.copy()
    assert simd.evaluate("x*x + x", x=b, out=b) is b
    assert bits(b) == bits(a * a + a)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a +", "is none"),
        ("", "is none"),
        ("a; b", "is none"),
        ("a ** 2", r"has 'a \*\* 2'"),
        ("f(a)", r"has 'f\(a\)'"),
        ("a.b", r"has 'a\.b'"),
        ("a if b else c", "has"),
        ("a == b", "has"),
        ("a + 1j", "has '1j'"),
        ("a + True", "has 'True'"),
        ("~a", "has '~a'"),
        ("1 + 2", "names no array"),
        ("a*(1/0)", "division by zero"),
        ("a*\0", "is none"),
        ("(" * 5000 + "a" + ")" * 5000, "is"),
        ("-" * 100_000 + "a", "is"),
    ],
)
def test_what_is_no_such_expression_is_refused(text: str, message: str) -> None:
    """Nothing of it is run."""
    with pytest.raises(ValueError, match=message):
        simd.evaluate(text, a=np.ones(3))


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("(k - j)*a", {"k": 16777217, "j": 16777216}),
        ("b*c*a", {"b": 0.1, "c": 0.1}),
        ("-b*a", {"b": 0.1}),
        ("2*b*a - b/3", {"b": 0.7}),
        ("a*b + c", {"b": 0.1, "c": 3}),
        ("(b/c)*a", {"b": 1e50, "c": 1e49}),
        ("a + z*z", {"z": -0.0}),
        ("a*(z + n)", {"z": -0.0, "n": -0.0}),
        ("a*(z + n)", {"z": 0.0, "n": -0.0}),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numbers_by_name_are_pythons_until_they_meet_an_array(text: str, numbers: dict[str, Any], dtype: str) -> None:
    """As for NumPy, whose arrays take a number of Python's into their own type: dense or not, and whatever the number was."""
    a = np.arange(-8.0, 8.0).astype(dtype)
    for operand in (a, a[::2]):
        wanted = eval(text, {"a": operand, **numbers})
        found = simd.evaluate(text, a=operand, **numbers)
        assert (found.dtype, bits(found)) == (wanted.dtype, bits(wanted))


def test_integers_by_name_are_refused_where_numpy_refuses_them() -> None:
    for a in (np.arange(4, dtype="i4"), np.arange(8, dtype="i4")[::2]):
        with pytest.raises(OverflowError, match="4294967296 out of bounds for int32"):
            simd.evaluate("k*j*a", a=a, k=65536, j=65536)


def test_what_is_no_text_or_has_no_array_is_refused() -> None:
    with pytest.raises(TypeError, match=r"an expression is a text such as .*, not int"):
        simd.evaluate(123, a=np.ones(3))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="of numbers alone has no shape"):
        simd.evaluate("k + j", k=1, j=2)
    with pytest.raises(ValueError, match=r"expression 'a\+a.*\.\.\.' is nested too deeply"):
        simd.evaluate("+".join(["a"] * 5000), a=np.ones(3))


def test_names_and_arrays_must_match() -> None:
    with pytest.raises(TypeError, match="no array for b: pass"):
        simd.evaluate("a + b", a=np.ones(3))
    with pytest.raises(TypeError, match="c, which it does not name"):
        simd.evaluate("a", a=np.ones(3), c=1)
