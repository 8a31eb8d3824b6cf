"""Methods that consumers of arrays expect besides operators and reductions: each is NumPy's of the same name.

A result is a view where NumPy's is one, else it lies in the tensor's pool. Cost: that of NumPy's method and about 0.2 µs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from ._elements import Elements
from ._lib import native

if TYPE_CHECKING:
    Order = Literal["C", "F", "A", "K"]

_call = native.call


class Methods(Elements):
    """The part of a tensor that has methods of NumPy's arrays."""

    __slots__ = ()

    # ---- elements ---------------------------------------------------------------------------------------------------------------

    def clip(self, min: Any = None, max: Any = None) -> Self:  # noqa: A002 - NumPy's names
        """Return the elements, those below `min` and above `max` replaced by these; None: no limit."""
        return _call(np.ndarray.clip, self, min, max)

    def round(self, decimals: int = 0) -> Self:
        """Return the elements rounded to some decimals, halves to the even neighbour."""
        return _call(np.ndarray.round, self, decimals)

    def conj(self) -> Self:
        """Return the complex conjugates; of real numbers a view."""
        return _call(np.ndarray.conj, self)

    conjugate = conj  # Python's name, of its numbers too

    @property
    def real(self) -> Self:
        """A view of the real parts, which can be assigned to."""
        return _call(np.real, self)

    @real.setter
    def real(self, value: Any) -> None:
        self.real[...] = value

    @property
    def imag(self) -> Self:
        """A view of the imaginary parts, which can be assigned to; of real numbers zeros."""
        return _call(np.imag, self)

    @imag.setter
    def imag(self, value: Any) -> None:
        if self.dtype.kind != "c":
            raise TypeError(f"numbers of {self.dtype} have no imaginary part to set")
        self.imag[...] = value

    def take(self, indices: Any, axis: int | None = None) -> Self:
        """Return the elements at `indices` along an axis, of the flattened tensor with None."""
        return _call(np.ndarray.take, self, indices, axis)

    # ---- shapes -----------------------------------------------------------------------------------------------------------------

    def squeeze(self, axis: int | tuple[int, ...] | None = None) -> Self:
        """Return a view without the dimensions `axis`, whose size must be 1; None: without all of that size."""
        return _call(np.ndarray.squeeze, self, axis)

    def ravel(self, order: Order = "C") -> Self:
        """Return the elements in one dimension; a view where the strides allow it, else a copy in the same pool."""
        return _call(np.ndarray.ravel, self, order)

    def flatten(self, order: Order = "C") -> Self:
        """Return a copy of the elements in one dimension, in the same pool."""
        return _call(np.ndarray.flatten, self, order)
