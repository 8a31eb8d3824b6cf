"""Functions of the array API standard 2025.12 for each pair of elements; results in the pool of the first tensor.

Shapes are broadcast and types promoted by the standard's rules. They are carried out by NumPy or CuPy through array-api-compat, the
four of arithmetic as by the operators; on the CPU that costs about 0.3 µs besides theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import array_api_compat.numpy as xp
import numpy as np

from ._lib import native

if TYPE_CHECKING:
    from ._tensor import Operand, Tensor

__all__ = [
    "add",
    "atan2",
    "bitwise_and",
    "bitwise_left_shift",
    "bitwise_or",
    "bitwise_right_shift",
    "bitwise_xor",
    "clip",
    "copysign",
    "divide",
    "equal",
    "floor_divide",
    "greater",
    "greater_equal",
    "hypot",
    "less",
    "less_equal",
    "logaddexp",
    "logical_and",
    "logical_or",
    "logical_xor",
    "maximum",
    "minimum",
    "multiply",
    "nextafter",
    "not_equal",
    "pow",
    "remainder",
    "subtract",
]

call = native.call


def _operate(ufunc: np.ufunc, rule: int, x1: Operand, x2: Operand) -> Tensor:
    """Return what the operator does; of an operand that would decide itself there, what the function does."""
    result = native.operate(ufunc, rule, x1, x2)
    return call(ufunc, x1, x2) if result is NotImplemented else result


# ---- of two ---------------------------------------------------------------------------------------------------------------------


def add(x1: Operand, x2: Operand, /) -> Tensor:
    """Return x1 + x2."""
    return _operate(np.add, native.ADD, x1, x2)


def atan2(x1: Operand, x2: Operand, /) -> Tensor:
    """Return the angle of the point (x2, x1), in radians."""
    return call(xp.atan2, x1, x2)


def bitwise_and(x1: Operand, x2: Operand, /) -> Tensor:
    """Return x1 & x2, bit by bit."""
    return call(xp.bitwise_and, x1, x2)


def bitwise_left_shift(x1: Operand, x2: Operand, /) -> Tensor:
    """Return x1 << x2."""
    return call(xp.bitwise_left_shift, x1, x2)


def bitwise_or(x1: Operand, x2: Operand, /) -> Tensor:
    """Return x1 | x2, bit by bit."""
    return call(xp.bitwise_or, x1, x2)


def bitwise_right_shift(x1: Operand, x2: Operand, /) -> Tensor:
    """Return x1 >> x2, with the sign kept."""
    return call(xp.bitwise_right_shift, x1, x2)


def bitwise_xor(x1: Operand, x2: Operand, /) -> Tensor:
    """Return x1 ^ x2, bit by bit."""
    return call(xp.bitwise_xor, x1, x2)


def copysign(x1: Operand, x2: Operand, /) -> Tensor:
    """Return the magnitude of x1 with the sign of x2."""
    return call(xp.copysign, x1, x2)


def divide(x1: Operand, x2: Operand, /) -> Tensor:
    """Return x1 / x2, in a floating type."""
    return _operate(np.divide, native.DIVIDE, x1, x2)


def floor_divide(x1: Operand, x2: Operand, /) -> Tensor:
    """Return x1 // x2, rounded down."""
    return call(xp.floor_divide, x1, x2)


def hypot(x1: Operand, x2: Operand, /) -> Tensor:
    """Return the root of x1² + x2², without overflow on the way."""
    return call(xp.hypot, x1, x2)


def logaddexp(x1: Operand, x2: Operand, /) -> Tensor:
    """Return log(exp(x1) + exp(x2)), without overflow on the way."""
    return call(xp.logaddexp, x1, x2)


def maximum(x1: Operand, x2: Operand, /) -> Tensor:
    """Return the larger of the two; NaN where one is."""
    return call(xp.maximum, x1, x2)


def minimum(x1: Operand, x2: Operand, /) -> Tensor:
    """Return the smaller of the two; NaN where one is."""
    return call(xp.minimum, x1, x2)


def multiply(x1: Operand, x2: Operand, /) -> Tensor:
    """Return x1 * x2."""
    return _operate(np.multiply, native.MULTIPLY, x1, x2)


def nextafter(x1: Operand, x2: Operand, /) -> Tensor:
    """Return the next number after x1 in the direction of x2."""
    return call(xp.nextafter, x1, x2)


def pow(x1: Operand, x2: Operand, /) -> Tensor:
    """Return x1 ** x2."""
    return call(xp.pow, x1, x2)


def remainder(x1: Operand, x2: Operand, /) -> Tensor:
    """Return x1 % x2, with the sign of x2."""
    return call(xp.remainder, x1, x2)


def subtract(x1: Operand, x2: Operand, /) -> Tensor:
    """Return x1 - x2."""
    return _operate(np.subtract, native.SUBTRACT, x1, x2)


def equal(x1: Operand, x2: Operand, /) -> Tensor:
    """Return, as bool, whether x1 == x2."""
    return call(xp.equal, x1, x2)


def greater(x1: Operand, x2: Operand, /) -> Tensor:
    """Return, as bool, whether x1 > x2."""
    return call(xp.greater, x1, x2)


def greater_equal(x1: Operand, x2: Operand, /) -> Tensor:
    """Return, as bool, whether x1 >= x2."""
    return call(xp.greater_equal, x1, x2)


def less(x1: Operand, x2: Operand, /) -> Tensor:
    """Return, as bool, whether x1 < x2."""
    return call(xp.less, x1, x2)


def less_equal(x1: Operand, x2: Operand, /) -> Tensor:
    """Return, as bool, whether x1 <= x2."""
    return call(xp.less_equal, x1, x2)


def logical_and(x1: Operand, x2: Operand, /) -> Tensor:
    """Return, as bool, whether both are true."""
    return call(xp.logical_and, x1, x2)


def logical_or(x1: Operand, x2: Operand, /) -> Tensor:
    """Return, as bool, whether one of them is true."""
    return call(xp.logical_or, x1, x2)


def logical_xor(x1: Operand, x2: Operand, /) -> Tensor:
    """Return, as bool, whether exactly one of them is true."""
    return call(xp.logical_xor, x1, x2)


def not_equal(x1: Operand, x2: Operand, /) -> Tensor:
    """Return, as bool, whether x1 != x2."""
    return call(xp.not_equal, x1, x2)


def clip(x: Operand, /, min: Operand | None = None, max: Operand | None = None) -> Tensor:
    """Return the elements, those below `min` and above `max` replaced by them; None: no bound."""
    return call(xp.clip, x, min, max)
