"""Functions of the array API standard 2025.12 that reduce, search, sort and compare as sets; results in the pool.

They are carried out by NumPy or CuPy through array-api-compat, `sum`, `mean`, `min` and `max` of tensors as by the methods.
Cost: about 0.5 µs besides theirs on the CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import array_api_compat.numpy as xp

from ._lib import native
from ._reductions import Reductions

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from ._tensor import Operand, Tensor

    Axis = int | tuple[int, ...] | None

__all__ = [
    "all",
    "any",
    "argmax",
    "argmin",
    "argsort",
    "count_nonzero",
    "cumulative_prod",
    "cumulative_sum",
    "diff",
    "isin",
    "max",
    "mean",
    "min",
    "nonzero",
    "prod",
    "searchsorted",
    "sort",
    "std",
    "sum",
    "unique_all",
    "unique_counts",
    "unique_inverse",
    "unique_values",
    "var",
    "where",
]

call = native.call


# ---- sums and extremes ----------------------------------------------------------------------------------------------------------


def sum(x: Operand, /, *, axis: Axis = None, dtype: DTypeLike | None = None, keepdims: bool = False) -> Tensor:
    """Return the sum along axes, over everything with None; small integers are summed as 64-bit ones unless `dtype` says else."""
    if isinstance(x, Reductions):
        return x.sum(axis, dtype, keepdims=keepdims)
    return call(xp.sum, x, axis=axis, dtype=dtype, keepdims=keepdims)


def prod(x: Operand, /, *, axis: Axis = None, dtype: DTypeLike | None = None, keepdims: bool = False) -> Tensor:
    """Return the product along axes, over everything with None; types as of `sum`."""
    return call(xp.prod, x, axis=axis, dtype=dtype, keepdims=keepdims)


def mean(x: Operand, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Return the mean along axes, over everything with None."""
    if isinstance(x, Reductions):
        return x.mean(axis, keepdims=keepdims)
    return call(xp.mean, x, axis=axis, keepdims=keepdims)


def var(x: Operand, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """Return the variance; the sum of squares is divided by the number of elements less `correction`."""
    return call(xp.var, x, axis=axis, correction=correction, keepdims=keepdims)


def std(x: Operand, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """Return the standard deviation: the root of `var`."""
    return call(xp.std, x, axis=axis, correction=correction, keepdims=keepdims)


def min(x: Operand, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Return the smallest element along axes, of everything with None."""
    if isinstance(x, Reductions):
        return x.min(axis, keepdims=keepdims)
    return call(xp.min, x, axis=axis, keepdims=keepdims)


def max(x: Operand, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Return the largest element along axes, of everything with None."""
    if isinstance(x, Reductions):
        return x.max(axis, keepdims=keepdims)
    return call(xp.max, x, axis=axis, keepdims=keepdims)


def all(x: Operand, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Return whether all elements along axes are true, of everything with None."""
    return call(xp.all, x, axis=axis, keepdims=keepdims)


def any(x: Operand, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Return whether any element along axes is true, of everything with None."""
    return call(xp.any, x, axis=axis, keepdims=keepdims)


def count_nonzero(x: Operand, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Return the number of elements that are not zero, along axes or of everything with None."""
    return call(xp.count_nonzero, x, axis=axis, keepdims=keepdims)


def cumulative_sum(
    x: Operand, /, *, axis: int | None = None, dtype: DTypeLike | None = None, include_initial: bool = False
) -> Tensor:
    """Return the sums of all elements up to each along an axis; `include_initial`: with a 0 in front."""
    return call(xp.cumulative_sum, x, axis=axis, dtype=dtype, include_initial=include_initial)


def cumulative_prod(
    x: Operand, /, *, axis: int | None = None, dtype: DTypeLike | None = None, include_initial: bool = False
) -> Tensor:
    """Return the products of all elements up to each along an axis; `include_initial`: with a 1 in front."""
    return call(xp.cumulative_prod, x, axis=axis, dtype=dtype, include_initial=include_initial)


def diff(x: Operand, /, *, axis: int = -1, n: int = 1, prepend: Operand | None = None, append: Operand | None = None) -> Tensor:
    """Return the differences of neighbours along an axis, `n` times over."""
    # NumPy tells an omitted `prepend` from None
    ends = {name: end for name, end in (("prepend", prepend), ("append", append)) if end is not None}
    return call(xp.diff, x, axis=axis, n=n, **ends)


# ---- searching ------------------------------------------------------------------------------------------------------------------


def argmax(x: Operand, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Return the index of the first largest element along an axis, of the flattened tensor with None."""
    return call(xp.argmax, x, axis=axis, keepdims=keepdims)


def argmin(x: Operand, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Return the index of the first smallest element along an axis, of the flattened tensor with None."""
    return call(xp.argmin, x, axis=axis, keepdims=keepdims)


def nonzero(x: Operand, /) -> tuple[Tensor, ...]:
    """Return the indices of the elements that are not zero, one tensor for each dimension."""
    return call(xp.nonzero, x)


def searchsorted(x1: Operand, x2: Operand, /, *, side: Literal["left", "right"] = "left", sorter: Operand | None = None) -> Tensor:
    """Return where each element of `x2` would stand in the sorted `x1`, before (`left`) or after equal ones."""
    return call(xp.searchsorted, x1, x2, side=side, sorter=sorter)


def where(condition: Operand, x1: Operand, x2: Operand, /) -> Tensor:
    """Return, element by element, `x1` where the condition is true, else `x2`."""
    return call(xp.where, condition, x1, x2)


# ---- sorting --------------------------------------------------------------------------------------------------------------------


def argsort(x: Operand, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """Return the indices that sort along an axis; equal elements keep their order where `stable`."""
    return call(xp.argsort, x, axis=axis, descending=descending, stable=stable)


def sort(x: Operand, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """Return the elements sorted along an axis."""
    return call(xp.sort, x, axis=axis, descending=descending, stable=stable)


# ---- sets -----------------------------------------------------------------------------------------------------------------------


def isin(x1: Operand, x2: Operand, /, *, invert: bool = False) -> Tensor:
    """Return whether each element of `x1` is among those of `x2`; `invert`: whether it is not."""
    return call(xp.isin, x1, x2, invert=invert)


def unique_all(x: Operand, /) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return (values, indices, inverse_indices, counts): what there is, where first, which each element is, how often."""
    return call(xp.unique_all, x)


def unique_counts(x: Operand, /) -> tuple[Tensor, Tensor]:
    """Return (values, counts): the distinct values and how often each occurs."""
    return call(xp.unique_counts, x)


def unique_inverse(x: Operand, /) -> tuple[Tensor, Tensor]:
    """Return (values, inverse_indices): the distinct values and which of them each element is."""
    return call(xp.unique_inverse, x)


def unique_values(x: Operand, /) -> Tensor:
    """Return the distinct values."""
    return call(xp.unique_values, x)
