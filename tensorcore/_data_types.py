"""Data types and constants of the array API standard 2025.12, and its functions on them.

The types are NumPy's classes and not its dtypes, of which float64 is equal to None.
"""

from __future__ import annotations

import builtins
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ._tensor import Tensor

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from ._backend import Device

    Kind = DTypeLike | str | tuple[DTypeLike | str, ...]

__all__ = [
    "astype",
    "bool",
    "can_cast",
    "complex64",
    "complex128",
    "e",
    "finfo",
    "float32",
    "float64",
    "iinfo",
    "inf",
    "int8",
    "int16",
    "int32",
    "int64",
    "isdtype",
    "nan",
    "newaxis",
    "pi",
    "result_type",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
]

bool = np.bool_
int8, int16, int32, int64 = np.int8, np.int16, np.int32, np.int64
uint8, uint16, uint32, uint64 = np.uint8, np.uint16, np.uint32, np.uint64
float32, float64 = np.float32, np.float64
complex64, complex128 = np.complex64, np.complex128

e, pi, inf, nan = math.e, math.pi, math.inf, math.nan
newaxis = None


def astype(x: Tensor, dtype: DTypeLike, /, *, copy: builtins.bool = True, device: str | Device | None = None) -> Tensor:
    """Return the elements in another type, on another device; with copy=False the tensor itself where it is that already."""
    moved = x if device is None else x.to(device)
    return moved.astype(dtype, copy=copy and moved is x)


def can_cast(from_: Tensor | DTypeLike, to: DTypeLike, /) -> builtins.bool:
    """Return whether a type, or a tensor's, converts to another one by the rules of promotion."""
    return builtins.bool(np.can_cast(_type_of(from_), to))


@dataclass(frozen=True, slots=True)
class FloatLimits:
    """The limits of a floating type: bits of one real number, distance of 1 to the next, largest, smallest, smallest normal > 0."""

    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    dtype: np.dtype[Any]


def finfo(type: Tensor | DTypeLike, /) -> FloatLimits:
    """Return the limits of a floating type, or of the real numbers that a complex one is made of."""
    limits = np.finfo(_type_of(type))
    eps, largest, smallest = float(limits.eps), float(limits.max), float(limits.min)
    return FloatLimits(limits.bits, eps, largest, smallest, float(limits.smallest_normal), limits.dtype)


def iinfo(type: Tensor | DTypeLike, /) -> np.iinfo[Any]:
    """Return the limits of an integer type: bits, max, min, dtype."""
    return np.iinfo(_type_of(type))


def isdtype(dtype: DTypeLike, kind: Kind) -> builtins.bool:
    """Return whether a type is of a kind: a type, 'bool', 'integral', 'real floating' ..., or a tuple of such."""
    return builtins.bool(np.isdtype(np.dtype(dtype), kind))


def result_type(*arrays_and_dtypes: Tensor | DTypeLike | complex) -> np.dtype[Any]:
    """Return the type that tensors, types and Python numbers promote to."""
    return np.result_type(*map(_type_of, arrays_and_dtypes))


def _type_of(value: Any) -> Any:
    return value.dtype if isinstance(value, Tensor) else value
