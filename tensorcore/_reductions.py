"""Reductions and the protocols of the array libraries: methods of a tensor that NumPy's functions of the same name carry out.

Sums, means and extremes of everything are those of `simd` where a tensor is dense and of float32, float64, int32 or int64: on its
threads, and the sums nearly exact whatever the length.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ._described import Described
from ._dlpack import DLPack
from ._lib import native

if TYPE_CHECKING:
    import types

    import numpy.typing as npt

    from ._backend import Device

    Axis = int | tuple[int, ...] | None

_call, _reduce_all = native.call, native.reduce_all
_sum, _prod, _min, _max = np.add.reduce, np.multiply.reduce, np.minimum.reduce, np.maximum.reduce
_any, _all = np.logical_or.reduce, np.logical_and.reduce
_mean = np.ndarray.mean  # which takes the same arguments
_STANDARDS = ("2021.12", "2022.12", "2023.12", "2024.12", "2025.12")


class Reductions(DLPack):
    """The part of a tensor that sums up, and answers NumPy and the array API standard."""

    __slots__ = ()

    # ---- reductions -------------------------------------------------------------------------------------------------------------

    def _with_dimensions(self, result: Self, keepdims: bool) -> Self:
        """Return a result over everything with as many dimensions as the tensor where these are kept."""
        return result.reshape((1,) * self.ndim) if keepdims else result  # type: ignore[attr-defined] # of Tensor

    def sum(self, axis: Axis = None, dtype: npt.DTypeLike | None = None, *, keepdims: bool = False) -> Self:
        """Return the sum along one or more axes, over everything with None; small integers are summed as 64-bit ones.

        Over everything, numbers of float64 are summed with what each addition loses carried along: the result is within about a
        rounding of the exact sum (`math.fsum`), where NumPy's error grows with the length. Those of float32 are summed in float64
        and rounded once at the end. So are the sums of `mean`.
        """
        if axis is None and dtype is None:
            return self._with_dimensions(_reduce_all(_sum, native.SUM, self), keepdims)
        return _call(_sum, self, axis, dtype, None, keepdims)

    def prod(self, axis: Axis = None, dtype: npt.DTypeLike | None = None, *, keepdims: bool = False) -> Self:
        """Return the product along one or more axes, over everything with None."""
        if axis is None and dtype is None and not keepdims:
            return _reduce_all(_prod, native.INEXACT, self)
        return _call(_prod, self, axis, dtype, None, keepdims)

    def mean(self, axis: Axis = None, *, keepdims: bool = False) -> Self:
        """Return the mean along one or more axes, over everything with None."""
        if axis is None:
            return self._with_dimensions(_reduce_all(_mean, native.MEAN, self), keepdims)
        return _call(_mean, self, axis, None, None, keepdims)

    def var(self, axis: Axis = None, *, correction: float = 0, keepdims: bool = False) -> Self:
        """Return the variance; the sum of squares is divided by the number of elements less `correction`."""
        return _call(np.ndarray.var, self, axis, None, None, correction, keepdims=keepdims)

    def std(self, axis: Axis = None, *, correction: float = 0, keepdims: bool = False) -> Self:
        """Return the standard deviation: the root of `var`."""
        return _call(np.ndarray.std, self, axis, None, None, correction, keepdims=keepdims)

    def min(self, axis: Axis = None, *, keepdims: bool = False) -> Self:
        """Return the smallest element along one or more axes, over everything with None."""
        if axis is None:
            return self._with_dimensions(_reduce_all(_min, native.MIN, self), keepdims)
        return _call(_min, self, axis, None, None, keepdims)

    def max(self, axis: Axis = None, *, keepdims: bool = False) -> Self:
        """Return the largest element along one or more axes, over everything with None."""
        if axis is None:
            return self._with_dimensions(_reduce_all(_max, native.MAX, self), keepdims)
        return _call(_max, self, axis, None, None, keepdims)

    def argmin(self, axis: int | None = None, *, keepdims: bool = False) -> Self:
        """Return the index of the first smallest element along an axis, of the flattened tensor with None."""
        return _call(np.ndarray.argmin, self, axis, keepdims=keepdims)

    def argmax(self, axis: int | None = None, *, keepdims: bool = False) -> Self:
        """Return the index of the first largest element along an axis, of the flattened tensor with None."""
        return _call(np.ndarray.argmax, self, axis, keepdims=keepdims)

    def any(self, axis: Axis = None, *, keepdims: bool = False) -> Self:
        """Return whether any element is true, along one or more axes, over everything with None."""
        if axis is None and not keepdims:
            return _reduce_all(_any, native.BOOL, self)
        return _call(_any, self, axis, None, None, keepdims)

    def all(self, axis: Axis = None, *, keepdims: bool = False) -> Self:
        """Return whether all elements are true, along one or more axes, over everything with None."""
        if axis is None and not keepdims:
            return _reduce_all(_all, native.BOOL, self)
        return _call(_all, self, axis, None, None, keepdims)

    def astype(self, dtype: npt.DTypeLike, *, copy: bool = True) -> Self:
        """Return the elements in another type, in the same pool; with copy=False the tensor itself where it has that type."""
        if not copy and self.dtype == np.dtype(dtype):
            return self
        return _call(np.ndarray.astype, self, dtype, copy=True)

    # ---- protocols --------------------------------------------------------------------------------------------------------------

    def __array_namespace__(self, /, *, api_version: str | None = None) -> types.ModuleType:
        """Return `tensorcore`, the namespace of the array API standard; ValueError for a version that it does not follow."""
        if api_version is not None and api_version not in _STANDARDS:
            raise ValueError(f"TensorCore follows the array API standard {_STANDARDS[-1]} and before, not {api_version!r}")
        return sys.modules[__package__]

    def __array_function__(self, func: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Carry out a function of NumPy with its result in the pool; arrays of other libraries among its arguments are theirs."""
        for kind in types:
            if not issubclass(kind, (Described, np.ndarray)):
                return NotImplemented
        if func in _OVER_EVERYTHING and len(args) == 1 and not kwargs and isinstance(args[0], Reductions):
            return _OVER_EVERYTHING[func](args[0])
        return _call(func, *args, **kwargs)

    def to_device(self, device: str | Device, /, *, stream: Any = None) -> Self:
        """Return the tensor on a device, as `to`; ValueError for a stream, since the copy is ordered by the current one."""
        if stream is not None:
            raise ValueError(f"to_device copies in the order of the current stream: leave stream={stream!r} out")
        moved: Self = self.to(device)  # type: ignore[attr-defined] # of Tensor
        return moved

    @property
    def mT(self) -> Self:  # noqa: N802 - the standard's name
        """A view with the last two dimensions exchanged; ValueError for fewer than two."""
        if self.ndim < 2:
            raise ValueError(f"a tensor of {self.ndim} dimensions has no matrices to transpose")
        swapped: Self = self.transpose(*range(self.ndim - 2), self.ndim - 1, self.ndim - 2)  # type: ignore[attr-defined] # of Tensor
        return swapped


_OVER_EVERYTHING = {np.sum: Reductions.sum, np.mean: Reductions.mean, np.min: Reductions.min, np.max: Reductions.max}
"""Functions that give the same bits as the methods."""
