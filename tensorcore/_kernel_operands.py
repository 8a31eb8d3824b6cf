"""Arrays as kernels see them: addresses, strides and dtypes; what goes together, and what lies upon what."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import numpy as np

from ._errors import DeviceMismatchError

Order = Literal["C", "F"]

SUFFIXES = {"float16": "f16", "bfloat16": "bf16", "float32": "f32", "float64": "f64"}
"""Of a kernel's name, by the name of the dtype it computes on."""


class Operand(NamedTuple):
    """An array in the memory of a device."""

    owner: Any  # keeps the memory; what a function that was given no `out` returns
    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # bytes
    dtype: np.dtype[Any]
    device: int

    @property
    def size(self) -> int:
        """How many elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The elements' bytes."""
        return self.size * self.dtype.itemsize


def dense_order(operands: list[Operand]) -> Order | None:
    """Return the order in which all operands hold their elements without gaps; None where they don't, or in different ones."""
    orders: tuple[Order, ...] = ("C", "F")
    return next((order for order in orders if all(_is_dense(operand, order) for operand in operands)), None)


def _is_dense(operand: Operand, order: Order) -> bool:
    expected = operand.dtype.itemsize
    dimensions = list(zip(operand.shape, operand.strides, strict=True))
    for extent, stride in reversed(dimensions) if order == "C" else dimensions:
        if extent != 1 and stride != expected and operand.size:
            return False
        expected *= extent
    return True


def require_alike(operands: list[Operand]) -> None:
    """Raise ValueError where shapes or dtypes differ, DeviceMismatchError where devices do."""
    first = operands[0]
    for operand in operands:
        if operand.shape != first.shape:
            raise ValueError(f"shapes differ: {first.shape} and {operand.shape}; nothing is broadcast here")
        if operand.dtype != first.dtype:
            raise ValueError(f"dtypes differ: {first.dtype} and {operand.dtype}; cast one with astype")
        if operand.device != first.device:
            raise DeviceMismatchError(f"arrays lie on devices {first.device} and {operand.device}; copy one over")


def require_number(alpha: Any) -> Any:
    """Return a factor as it is; TypeError where it is not one number."""
    if alpha is None or isinstance(alpha, str | bytes) or np.ndim(alpha) != 0:
        raise TypeError(
            f"alpha is one number for all elements, not {type(alpha).__name__}: multiply arrays with vectorized_multiply"
        )
    return alpha


def require_target(target: Operand) -> None:
    """Raise ValueError where several elements of an array that is to be written are one."""
    if any(stride == 0 and extent > 1 for stride, extent in zip(target.strides, target.shape, strict=True)):
        raise ValueError(
            f"an array of shape {target.shape} and strides {target.strides} can't be written: its elements share memory"
        )


def find_suffix(operands: list[Operand]) -> str:
    """Return the suffix of the kernels that compute on operands of one dtype.

    Raises
    ------
    TypeError
        There are none for the dtype.
    ValueError
        An element does not lie on a multiple of its size, which the hardware can't read.
    """
    dtype = operands[0].dtype
    suffix = SUFFIXES.get(dtype.name)
    if suffix is None or not dtype.isnative:
        raise TypeError(f"there is no kernel for {dtype}: cast to one of {', '.join(SUFFIXES)}")
    for operand in operands:
        if operand.size and math.gcd(operand.address, *operand.strides, dtype.itemsize) != dtype.itemsize:
            raise ValueError(
                f"an array of {dtype} at 0x{operand.address:x} is not aligned to {dtype.itemsize} bytes: copy it first"
            )
    return suffix


def may_overlap(one: Operand, other: Operand) -> bool:
    """Return whether the spans of memory from the first byte to the last have a byte in common."""
    (low, high), (other_low, other_high) = _span(one), _span(other)
    return low < other_high and other_low < high


def is_same_memory(one: Operand, other: Operand) -> bool:
    """Return whether every element of one lies upon the same element of the other."""
    return one.address == other.address and one.strides == other.strides


def _span(operand: Operand) -> tuple[int, int]:
    if not operand.size:
        return 0, 0
    reach = [stride * (extent - 1) for stride, extent in zip(operand.strides, operand.shape, strict=True)]
    low = operand.address + sum(step for step in reach if step < 0)
    return low, operand.address + sum(step for step in reach if step > 0) + operand.dtype.itemsize
