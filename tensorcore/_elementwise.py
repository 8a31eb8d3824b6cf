"""Functions of the array API standard 2025.12 for each element; results in the pool of the first tensor.

Shapes are broadcast and types promoted by the standard's rules. They are carried out by NumPy or CuPy through array-api-compat;
on the CPU that costs about 0.3 µs besides theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import array_api_compat.numpy as xp

from ._lib import native

if TYPE_CHECKING:
    from ._tensor import Operand, Tensor

__all__ = [
    "abs",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atanh",
    "bitwise_invert",
    "ceil",
    "conj",
    "cos",
    "cosh",
    "exp",
    "expm1",
    "floor",
    "imag",
    "isfinite",
    "isinf",
    "isnan",
    "log",
    "log1p",
    "log2",
    "log10",
    "logical_not",
    "negative",
    "positive",
    "real",
    "reciprocal",
    "round",
    "sign",
    "signbit",
    "sin",
    "sinh",
    "sqrt",
    "square",
    "tan",
    "tanh",
    "trunc",
]

call, operate_one = native.call, native.operate_one


# ---- of one tensor --------------------------------------------------------------------------------------------------------------


def abs(x: Operand, /) -> Tensor:
    """Return the absolute value (of complex numbers the magnitude)."""
    return operate_one(xp.abs, native.REAL, x)


def acos(x: Operand, /) -> Tensor:
    """Return the arc cosine, in radians."""
    return operate_one(xp.acos, native.INEXACT, x)


def acosh(x: Operand, /) -> Tensor:
    """Return the inverse hyperbolic cosine."""
    return operate_one(xp.acosh, native.INEXACT, x)


def asin(x: Operand, /) -> Tensor:
    """Return the arc sine, in radians."""
    return operate_one(xp.asin, native.INEXACT, x)


def asinh(x: Operand, /) -> Tensor:
    """Return the inverse hyperbolic sine."""
    return operate_one(xp.asinh, native.INEXACT, x)


def atan(x: Operand, /) -> Tensor:
    """Return the arc tangent, in radians."""
    return operate_one(xp.atan, native.INEXACT, x)


def atanh(x: Operand, /) -> Tensor:
    """Return the inverse hyperbolic tangent."""
    return operate_one(xp.atanh, native.INEXACT, x)


def bitwise_invert(x: Operand, /) -> Tensor:
    """Return the complement of the bits; of bool the negation."""
    return call(xp.bitwise_invert, x)


def ceil(x: Operand, /) -> Tensor:
    """Return the smallest integer that is not less, in the same type."""
    return call(xp.ceil, x)


def conj(x: Operand, /) -> Tensor:
    """Return the complex conjugate."""
    return call(xp.conj, x)


def cos(x: Operand, /) -> Tensor:
    """Return the cosine of angles in radians."""
    return operate_one(xp.cos, native.INEXACT, x)


def cosh(x: Operand, /) -> Tensor:
    """Return the hyperbolic cosine."""
    return operate_one(xp.cosh, native.INEXACT, x)


def exp(x: Operand, /) -> Tensor:
    """Return the power of e."""
    return operate_one(xp.exp, native.INEXACT, x)


def expm1(x: Operand, /) -> Tensor:
    """Return the power of e less 1, exact near 0 too."""
    return operate_one(xp.expm1, native.INEXACT, x)


def floor(x: Operand, /) -> Tensor:
    """Return the largest integer that is not greater, in the same type."""
    return call(xp.floor, x)


def imag(x: Operand, /) -> Tensor:
    """Return the imaginary part."""
    return call(xp.imag, x)


def log(x: Operand, /) -> Tensor:
    """Return the natural logarithm."""
    return operate_one(xp.log, native.INEXACT, x)


def log10(x: Operand, /) -> Tensor:
    """Return the logarithm to base 10."""
    return operate_one(xp.log10, native.INEXACT, x)


def log1p(x: Operand, /) -> Tensor:
    """Return the natural logarithm of 1 + x, exact near 0 too."""
    return operate_one(xp.log1p, native.INEXACT, x)


def log2(x: Operand, /) -> Tensor:
    """Return the logarithm to base 2."""
    return operate_one(xp.log2, native.INEXACT, x)


def negative(x: Operand, /) -> Tensor:
    """Return the negation."""
    return operate_one(xp.negative, native.NEGATE, x)


def positive(x: Operand, /) -> Tensor:
    """Return the the same values, copied."""
    return operate_one(xp.positive, native.NUMERIC, x)


def real(x: Operand, /) -> Tensor:
    """Return the real part."""
    return call(xp.real, x)


def reciprocal(x: Operand, /) -> Tensor:
    """Return the reciprocal."""
    return call(xp.reciprocal, x)


def round(x: Operand, /) -> Tensor:
    """Return the nearest integer, halves to the even one, in the same type."""
    return call(xp.round, x)


def sign(x: Operand, /) -> Tensor:
    """Return the sign: -1, 0 or 1; of complex numbers x / abs(x)."""
    return call(xp.sign, x)


def sin(x: Operand, /) -> Tensor:
    """Return the sine of angles in radians."""
    return operate_one(xp.sin, native.INEXACT, x)


def sinh(x: Operand, /) -> Tensor:
    """Return the hyperbolic sine."""
    return operate_one(xp.sinh, native.INEXACT, x)


def sqrt(x: Operand, /) -> Tensor:
    """Return the square root."""
    return operate_one(xp.sqrt, native.INEXACT, x)


def square(x: Operand, /) -> Tensor:
    """Return the square."""
    return operate_one(xp.square, native.NUMERIC, x)


def tan(x: Operand, /) -> Tensor:
    """Return the tangent of angles in radians."""
    return operate_one(xp.tan, native.INEXACT, x)


def tanh(x: Operand, /) -> Tensor:
    """Return the hyperbolic tangent."""
    return operate_one(xp.tanh, native.INEXACT, x)


def trunc(x: Operand, /) -> Tensor:
    """Return the integer part, in the same type."""
    return call(xp.trunc, x)


def isfinite(x: Operand, /) -> Tensor:
    """Return, as bool, whether each is neither infinite nor NaN."""
    return operate_one(xp.isfinite, native.BOOL, x)


def isinf(x: Operand, /) -> Tensor:
    """Return, as bool, whether each is infinite."""
    return operate_one(xp.isinf, native.BOOL, x)


def isnan(x: Operand, /) -> Tensor:
    """Return, as bool, whether each is NaN."""
    return operate_one(xp.isnan, native.BOOL, x)


def logical_not(x: Operand, /) -> Tensor:
    """Return, as bool, whether each is false."""
    return operate_one(xp.logical_not, native.BOOL, x)


def signbit(x: Operand, /) -> Tensor:
    """Return, as bool, whether each has its sign bit set, as -0.0 has."""
    return call(xp.signbit, x)
