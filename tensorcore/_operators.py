"""Operators: arithmetic and comparison of tensors.

A result lies in the pool of the first tensor among the operands; `x += y` writes where x lies. Types are promoted
as the array API standard and NumPy do. + - * / and the sign of dense tensors of float32, float64, int32 and int64 are computed by
the kernels of `simd`, on its threads, with NumPy's bits and warnings; all else by NumPy. Cost beside NumPy's own operators:
``tensorcore bench array``.
"""

from __future__ import annotations

import operator
from typing import Any, Self

from numpy import (
    absolute,
    add,
    bitwise_and,
    bitwise_or,
    bitwise_xor,
    equal,
    floor_divide,
    greater,
    greater_equal,
    invert,
    left_shift,
    less,
    less_equal,
    matmul,
    multiply,
    negative,
    not_equal,
    positive,
    power,
    remainder,
    right_shift,
    subtract,
    true_divide,
)

from ._dlpack import DLPack
from ._lib import lib, native

_operate, _operate_one, _into = native.operate, native.operate_one, native.operate_into
OTHER, NUMERIC, INEXACT, SAME, BOOL, REAL, SUM = -1, 0, 1, 2, 3, 4, 5
"""How a result's type follows from the operands' (csrc/python/operate.c)."""


def with_kernel(rule: int, kernel: int) -> int:
    """Return a rule for what a kernel of `simd` does, too."""
    return rule | (kernel + 1) << 8


ADD, SUBTRACT, MULTIPLY, NEGATE = (
    with_kernel(NUMERIC, kernel) for kernel in (lib.TC_SIMD_ADD, lib.TC_SIMD_SUBTRACT, lib.TC_SIMD_MULTIPLY, lib.TC_SIMD_NEGATE)
)
DIVIDE = with_kernel(INEXACT, lib.TC_SIMD_DIVIDE)


class Operators(DLPack):
    """The part of a tensor that computes."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment] # as everything whose == is by element

    # ---- arithmetic -----------------------------------------------------------------------------------------------------------

    def __add__(self, other: Any, /) -> Self:
        return _operate(add, ADD, self, other)

    def __radd__(self, other: Any, /) -> Self:
        return _operate(add, ADD, other, self)

    def __iadd__(self, other: Any, /) -> Self:
        return _into(add, ADD, self, other)

    def __sub__(self, other: Any, /) -> Self:
        return _operate(subtract, SUBTRACT, self, other)

    def __rsub__(self, other: Any, /) -> Self:
        return _operate(subtract, SUBTRACT, other, self)

    def __isub__(self, other: Any, /) -> Self:
        return _into(subtract, SUBTRACT, self, other)

    def __mul__(self, other: Any, /) -> Self:
        return _operate(multiply, MULTIPLY, self, other)

    def __rmul__(self, other: Any, /) -> Self:
        return _operate(multiply, MULTIPLY, other, self)

    def __imul__(self, other: Any, /) -> Self:
        return _into(multiply, MULTIPLY, self, other)

    def __truediv__(self, other: Any, /) -> Self:
        return _operate(true_divide, DIVIDE, self, other)

    def __rtruediv__(self, other: Any, /) -> Self:
        return _operate(true_divide, DIVIDE, other, self)

    def __itruediv__(self, other: Any, /) -> Self:
        return _into(true_divide, DIVIDE, self, other)

    def __floordiv__(self, other: Any, /) -> Self:
        return _operate(floor_divide, NUMERIC, self, other)

    def __rfloordiv__(self, other: Any, /) -> Self:
        return _operate(floor_divide, NUMERIC, other, self)

    def __ifloordiv__(self, other: Any, /) -> Self:
        return _into(floor_divide, OTHER, self, other)

    def __mod__(self, other: Any, /) -> Self:
        return _operate(remainder, NUMERIC, self, other)

    def __rmod__(self, other: Any, /) -> Self:
        return _operate(remainder, NUMERIC, other, self)

    def __imod__(self, other: Any, /) -> Self:
        return _into(remainder, OTHER, self, other)

    def __pow__(self, other: Any, /) -> Self:
        return _operate(operator.pow, OTHER, self, other)  # squares and roots have ways of their own there

    def __rpow__(self, other: Any, /) -> Self:
        return _operate(operator.pow, OTHER, other, self)

    def __ipow__(self, other: Any, /) -> Self:
        return _into(power, OTHER, self, other)

    def __matmul__(self, other: Any, /) -> Self:
        return _operate(matmul, OTHER, self, other)

    def __rmatmul__(self, other: Any, /) -> Self:
        return _operate(matmul, OTHER, other, self)

    def __imatmul__(self, other: Any, /) -> Self:
        return _into(matmul, OTHER, self, other)

    def __and__(self, other: Any, /) -> Self:
        return _operate(bitwise_and, SAME, self, other)

    def __rand__(self, other: Any, /) -> Self:
        return _operate(bitwise_and, SAME, other, self)

    def __iand__(self, other: Any, /) -> Self:
        return _into(bitwise_and, OTHER, self, other)

    def __or__(self, other: Any, /) -> Self:
        return _operate(bitwise_or, SAME, self, other)

    def __ror__(self, other: Any, /) -> Self:
        return _operate(bitwise_or, SAME, other, self)

    def __ior__(self, other: Any, /) -> Self:
        return _into(bitwise_or, OTHER, self, other)

    def __xor__(self, other: Any, /) -> Self:
        return _operate(bitwise_xor, SAME, self, other)

    def __rxor__(self, other: Any, /) -> Self:
        return _operate(bitwise_xor, SAME, other, self)

    def __ixor__(self, other: Any, /) -> Self:
        return _into(bitwise_xor, OTHER, self, other)

    def __lshift__(self, other: Any, /) -> Self:
        return _operate(left_shift, NUMERIC, self, other)

    def __rlshift__(self, other: Any, /) -> Self:
        return _operate(left_shift, NUMERIC, other, self)

    def __ilshift__(self, other: Any, /) -> Self:
        return _into(left_shift, OTHER, self, other)

    def __rshift__(self, other: Any, /) -> Self:
        return _operate(right_shift, NUMERIC, self, other)

    def __rrshift__(self, other: Any, /) -> Self:
        return _operate(right_shift, NUMERIC, other, self)

    def __irshift__(self, other: Any, /) -> Self:
        return _into(right_shift, OTHER, self, other)

    def __neg__(self, /) -> Self:
        return _operate_one(negative, NEGATE, self)

    def __pos__(self, /) -> Self:
        return _operate_one(positive, NUMERIC, self)

    def __abs__(self, /) -> Self:
        return _operate_one(absolute, REAL, self)

    def __invert__(self, /) -> Self:
        return _operate_one(invert, SAME, self)

    # ---- comparison -----------------------------------------------------------------------------------------------------------

    def __lt__(self, other: Any, /) -> Self:
        return _operate(less, BOOL, self, other)

    def __le__(self, other: Any, /) -> Self:
        return _operate(less_equal, BOOL, self, other)

    def __gt__(self, other: Any, /) -> Self:
        return _operate(greater, BOOL, self, other)

    def __ge__(self, other: Any, /) -> Self:
        return _operate(greater_equal, BOOL, self, other)

    def __eq__(self, other: object, /) -> Self:  # type: ignore[override] # by element
        return _operate(equal, BOOL, self, other)

    def __ne__(self, other: object, /) -> Self:  # type: ignore[override] # by element
        return _operate(not_equal, BOOL, self, other)
