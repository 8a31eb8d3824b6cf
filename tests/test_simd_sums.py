"""Reductions of `tensorcore.simd`: sums that are nearly exact, NaN as the least and the greatest, integers that wrap."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simd_helpers import DTYPES, bits, numbers, offsets, sizes

from tensorcore import simd

Array = np.ndarray[Any, np.dtype[Any]]

pytestmark = pytest.mark.usefixtures("simd_settings")


@pytest.mark.usefixtures("instruction_set")
@given(st.lists(st.floats(-1e150, 1e150), max_size=300))
def test_a_sum_is_the_exact_one_rounded_or_next_to_it(values: list[float]) -> None:
    """Against math.fsum: within a rounding of the result, and of what twice the precision can lose."""
    found, exact = float(simd.vectorized_sum(np.array(values))), math.fsum(values)
    slack = len(values) ** 2 * 2.0**-105 * math.fsum(map(abs, values))
    assert abs(found - exact) <= math.ulp(exact) + slack


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sums_and_dot_products_are_more_accurate_than_numpys(dtype: str) -> None:
    """Of thirty random arrays none is farther from the exact sum than NumPy's, and NumPy's is off in most."""
    worse = better = 0
    for seed in range(30):
        x, y = np.random.default_rng(seed).standard_normal((2, 2000)).astype(dtype)
        for found, numpys, exact in (
            (simd.vectorized_sum(x), x.sum(), math.fsum(x.tolist())),
            (simd.vectorized_dot(x, y), x.dot(y), exact_dot(x, y)),
        ):
            ours, theirs = abs(float(found) - exact), abs(float(numpys) - exact)
            worse += ours > theirs
            better += ours < theirs
            assert ours <= abs(exact) * np.finfo(dtype).eps / 2 + np.finfo(dtype).tiny
    assert worse == 0
    assert better > 30


def exact_dot(x: Array, y: Array) -> float:
    """Return the sum of products, rounded once, from fractions."""
    return float(sum(Fraction(float(a)) * Fraction(float(b)) for a, b in zip(x, y, strict=True)))


def test_a_sum_has_the_same_bits_on_every_instruction_set_and_any_number_of_threads() -> None:
    x = np.random.default_rng(1).standard_normal(1_500_001)
    found = set()
    for name in simd.available_instruction_sets():
        simd.set_instruction_set(name)
        for threads in (1, 2, 3):
            simd.set_num_threads(threads)
            found.add((float(simd.vectorized_sum(x)), float(simd.vectorized_dot(x[:-1], x[1:]))))
    assert len(found) == 1


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("dtype", DTYPES)
@given(size=sizes, shift=offsets, seed=st.integers(0, 9))
@np.errstate(all="ignore")
def test_the_least_and_the_greatest_are_numpys(dtype: str, size: int, shift: int, seed: int) -> None:
    """With NaN as the answer where there is one; the sign of a zero is left open."""
    x = numbers(dtype, size, seed, shift)
    if size == 0:
        for function in (simd.vectorized_min, simd.vectorized_max):
            with pytest.raises(ValueError, match="zero-size array"):
                function(x)
        return
    for function, theirs in ((simd.vectorized_min, x.min()), (simd.vectorized_max, x.max())):
        found = function(x)
        assert type(found) is type(theirs)
        np.testing.assert_equal(found + found.dtype.type(0), theirs + theirs.dtype.type(0))


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("dtype", ["int32", "int64"])
@given(size=sizes, seed=st.integers(0, 9))
def test_integers_add_up_to_numpys_bits(dtype: str, size: int, seed: int) -> None:
    """A sum in 64 bits, a dot product in the dtype; both wrap."""
    x, y = numbers(dtype, size, seed, 1), numbers(dtype, size, seed + 1)
    assert bits(simd.vectorized_sum(x)) == bits(x.sum())
    assert bits(simd.vectorized_dot(x, y)) == bits(x.dot(y))


def test_reductions_of_any_shape_run_over_all_elements() -> None:
    x = np.arange(24.0).reshape(2, 3, 4)
    assert simd.vectorized_sum(x) == 276
    assert simd.vectorized_dot(x, x) == (x * x).sum()
    assert simd.vectorized_sum(np.empty(0)) == 0
    assert type(simd.vectorized_sum(np.ones(3, "f4"))) is np.float32
    with pytest.raises(ValueError, match=r"shapes differ: \(2,\) and \(3,\)"):
        simd.vectorized_dot(np.ones(2), np.ones(3))
