"""Elements of a tensor: selected and set by keys, as Python's numbers, and as text.

What selects a view costs no copy; what reads single elements of a device copies all of them to the host.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from . import _cupy
from ._described import Described
from ._device_array import DeviceArray, is_basic
from ._errors import DeviceMismatchError, DeviceUnavailableError
from ._global import current_pool
from ._interfaces import require_host
from ._lib import native
from ._reductions import Reductions
from ._transfer import copy_into_pool

if TYPE_CHECKING:
    from collections.abc import Iterator

    Array = np.ndarray[tuple[int, ...], np.dtype[Any]]


class Elements(Reductions):
    """The part of a tensor that reads and writes elements."""

    __slots__ = ()

    # ---- what it holds ----------------------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        try:
            data = np.array2string(self._on_host(), prefix="Tensor(", separator=", ")
            if self.size == 0 and self.shape != (0,):
                data += f", shape={self.shape}"
        except DeviceUnavailableError:  # a fake device: it has no elements to show
            data = f"shape={self.shape}"
        return f"Tensor({data}, dtype={self.dtype}, device='{self.device}')"

    def __format__(self, spec: str) -> str:
        """Return the element in a format where there are no dimensions; else the text of `str`, which takes no format."""
        return object.__format__(self, spec) if self._array.ndim else format(self._on_host()[()], spec)

    def _on_host(self) -> Array:
        """Return the elements as a NumPy array, copied where they are on a device."""
        array = self._array
        return copy_into_pool(array, current_pool("cpu"))[0] if isinstance(array, DeviceArray) else array

    # ---- elements ---------------------------------------------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> Self:
        """Return a view for integers, slices, `...` and None; a new tensor, from the same pool, for index arrays and masks."""
        array = self._array
        if isinstance(key, Described) or not _is_view_key(key):
            return native.call(operator.getitem, self, key)
        if isinstance(array, DeviceArray):
            return self._view(array.view(key))
        keys = key if type(key) is tuple else (key,)
        return self._view(array[keys if ... in keys else (*keys, ...)])  # with ... one element is a view, and can be written to

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(self._array, DeviceArray):
            self._array.assign(_as_arrays(key), _as_arrays(value))
        else:
            try:
                self._array[_as_host_arrays(key)] = _as_host_arrays(value)
            except ValueError as error:
                raise _explain(error, self._array) from None

    def __iter__(self) -> Iterator[Self]:
        return (self[i] for i in range(len(self)))

    def __contains__(self, value: object) -> bool:
        """Return whether any element equals `value`, which is broadcast."""
        return bool(np.any(self == value))

    def item(self) -> Any:
        """Return the only element as a Python number; ValueError where there are more."""
        return self._on_host().item()

    def tolist(self) -> Any:
        """Return the elements as nested lists of Python numbers."""
        return self._on_host().tolist()

    def fill(self, value: Any) -> None:
        """Set every element to `value`."""
        if isinstance(self._array, DeviceArray):
            self._array.assign(..., value)
        else:
            try:
                self._array.fill(value)
            except ValueError as error:
                raise _explain(error, self._array) from None

    def __bool__(self) -> bool:
        return bool(self._on_host())

    def __int__(self) -> int:
        return int(self._number())

    def __float__(self) -> float:
        return float(self._number())

    def __complex__(self) -> complex:
        return complex(self._number())

    def __index__(self) -> int:
        if self._array.ndim or self._array.dtype.kind not in "iu":  # bytes() and others ask here before they take the buffer
            raise TypeError(f"only an integer tensor of no dimensions is an index, not one of {self.dtype} and shape {self.shape}")
        return operator.index(self.item())

    def _number(self) -> Any:
        """Return the element of a tensor of no dimensions."""
        if self._array.ndim:
            raise TypeError(
                f"only a tensor of no dimensions is a number, not one of shape {self.shape}: item() gives the only element"
            )
        return self.item()

    def _view(self, array: Array | DeviceArray) -> Self:
        return native.holder(type(self), array, self._pool)


def _explain(error: ValueError, array: Array) -> ValueError:
    """Return what it means that NumPy refused to write."""
    if array.flags.writeable:
        return error
    return ValueError("this memory is read-only, for the library that it is from allows no writing: x.copy() can be written to")


_PLAIN_KEYS = frozenset((int, slice, type(None), type(...)))


def _is_view_key(key: Any) -> bool:
    """Return whether a key selects a view."""
    kind = type(key)
    if kind is tuple:
        return _PLAIN_KEYS.issuperset(map(type, key)) or is_basic(key)
    return kind in _PLAIN_KEYS or is_basic(key)


def _as_arrays(value: Any) -> Any:
    """Return a key or value with its tensors as arrays."""
    if isinstance(value, Described):
        return value._array
    if isinstance(value, tuple):
        return tuple(map(_as_arrays, value))
    return value


def _as_host_arrays(value: Any) -> Any:
    """Return the same for NumPy; DeviceMismatchError where a part of it is on a device."""
    if isinstance(value, tuple):
        return tuple(map(_as_host_arrays, value))
    if _cupy.is_array(value):
        raise DeviceMismatchError("a CuPy array can't be used on the CPU, and nothing is copied unasked: array.get() copies it")
    if isinstance(value, Described):
        return require_host(value._array, "copy it with cpu()")
    return value
