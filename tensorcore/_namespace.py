"""The namespace of the array API standard 2025.12: its names from the modules that have them, and what it tells about itself.

`tensorcore` hands them on at first use. Cost: array-api-compat, and with it all of NumPy, is imported then, some 30 ms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from . import _creation_like, _data_types, _elementwise, _elementwise_pairs, _manipulation, _reducing, fft, linalg
from ._backend import Device, parse_device
from ._backend import devices as all_devices
from ._creation_like import *  # noqa: F403
from ._data_types import *  # noqa: F403
from ._defaults import get_default_device
from ._elementwise import *  # noqa: F403
from ._elementwise_pairs import *  # noqa: F403
from ._manipulation import *  # noqa: F403
from ._reducing import *  # noqa: F403

if TYPE_CHECKING:
    from collections.abc import Sequence

__array_api_version__ = "2025.12"

_MODULES = (_creation_like, _data_types, _elementwise, _elementwise_pairs, _manipulation, _reducing)
__all__ = [
    "__array_api_version__",
    "__array_namespace_info__",
    "fft",
    "linalg",
    *(name for module in _MODULES for name in module.__all__),
]

_KINDS = {
    "bool": ("bool",),
    "signed integer": ("int8", "int16", "int32", "int64"),
    "unsigned integer": ("uint8", "uint16", "uint32", "uint64"),
    "real floating": ("float32", "float64"),
    "complex floating": ("complex64", "complex128"),
}
_KINDS["integral"] = _KINDS["signed integer"] + _KINDS["unsigned integer"]
_KINDS["numeric"] = _KINDS["integral"] + _KINDS["real floating"] + _KINDS["complex floating"]


class NamespaceInfo:
    """What the namespace can do, as the array API standard asks."""

    def capabilities(self) -> dict[str, Any]:
        """Return that masks and shapes that depend on data are there, and the largest number of dimensions."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}

    def default_device(self) -> Device:
        """Return the device of tensors that name none."""
        return get_default_device()

    def devices(self) -> tuple[Device, ...]:
        """Return the usable devices."""
        return all_devices()

    def default_dtypes(self, *, device: str | Device | None = None) -> dict[str, np.dtype[Any]]:
        """Return the types of tensors made without one; they are the same on every device."""
        _check_device(device)
        names = {"real floating": "float64", "complex floating": "complex128", "integral": "int64", "indexing": "int64"}
        return {kind: np.dtype(name) for kind, name in names.items()}

    def dtypes(self, *, device: str | Device | None = None, kind: str | Sequence[str] | None = None) -> dict[str, np.dtype[Any]]:
        """Return the types of the standard by name, those of one kind or of several; they are the same on every device.

        Raises
        ------
        ValueError
            There is no such kind.
        """
        _check_device(device)
        kinds = ("bool", "numeric") if kind is None else (kind,) if isinstance(kind, str) else tuple(kind)
        unknown = set(kinds) - _KINDS.keys()
        if unknown:
            raise ValueError(f"a kind of types is one of {', '.join(map(repr, _KINDS))}, not {sorted(unknown)[0]!r}")
        return {name: np.dtype(name) for each in kinds for name in _KINDS[each]}


def __array_namespace_info__() -> NamespaceInfo:  # noqa: N807 - the standard's name
    """Return what the namespace can do: devices, types, capabilities."""
    return NamespaceInfo()


def _check_device(device: str | Device | None) -> None:
    if device is not None:
        parse_device(device)
