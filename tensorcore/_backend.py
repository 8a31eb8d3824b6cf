"""What a kind of device must be able to do, the registry of the kinds, and names of devices.

A backend has few methods: whether it is usable, how many devices it has, their memory, an upstream for their pools, and how an
array is put into a block. Whatever else a pool does (limits, statistics, callbacks) is the same for every device and lives in the
pool.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ._errors import DeviceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._lib import native
    from ._upstream import Upstream

_DEVICE_NAME = re.compile(r"([a-z]+)(?::(\d+))?")


@dataclass(frozen=True, slots=True)
class Device:
    """One device: the name of its backend and its number. Printed as `cpu`, `cuda:1`."""

    kind: str
    index: int = 0

    def __str__(self) -> str:
        return self.kind if self.kind == "cpu" else f"{self.kind}:{self.index}"


class Backend(ABC):
    """Serves one kind of device. Methods other than the first two are called only where `why_unavailable` returns None."""

    kind: str
    """The name of the kind, as in ``device="cpu"``."""

    @abstractmethod
    def why_unavailable(self) -> str | None:
        """Return None where the kind is usable here, else the reason and the fix as a sentence."""

    @abstractmethod
    def device_count(self) -> int:
        """Return how many devices of this kind there are."""

    @abstractmethod
    def memory(self, index: int) -> int:
        """Return the bytes of memory on a device that this process may use."""

    @abstractmethod
    def upstream(self, index: int) -> Upstream:
        """Return where pools on a device get their segments."""

    @abstractmethod
    def array_maker(self, upstream: Upstream, *, zeroed: bool = False) -> Callable[[native.PoolHandle, Any, Any], Any | None]:
        """Return the function ``make(pool, shape, dtype)`` that puts an array into a block of a pool over `upstream`.

        The array owns the block: it is deallocated with the last view of the array. None means that the pool refused.
        """


_backends: dict[str, Backend] = {}


def register_backend(backend: Backend) -> None:
    """Add a backend under its kind; one that is already there is replaced."""
    _backends[backend.kind] = backend


def find_backend(kind: str) -> Backend:
    """Return the usable backend of a kind.

    Raises
    ------
    DeviceUnavailableError
        There is no such kind, or it is not usable here.
    """
    reason = why_unavailable(kind)
    if reason is not None:
        raise DeviceUnavailableError(reason)
    return _backends[kind]


def why_unavailable(kind: str) -> str | None:
    """Return None where a kind of device is usable here, else the reason and the fix as a sentence."""
    backend = _backends.get(kind)
    if backend is not None:
        return backend.why_unavailable()
    if kind == "cuda":
        return "device 'cuda' is not available: this version of TensorCore has no CUDA backend; use device='cpu'"
    return f"there is no device kind {kind!r}; known here: {', '.join(sorted(_backends))}"


def device(name: str | Device) -> Device:
    """Return the device of a name like ``"cpu"`` or ``"cuda:1"``; a kind alone means its device 0.

    Raises
    ------
    ValueError
        The name is not of that form.
    DeviceUnavailableError
        The kind is unknown or not usable here, or it has no device of that number.
    """
    if isinstance(name, Device):
        kind, index = name.kind, name.index
    else:
        match = _DEVICE_NAME.fullmatch(name)
        if match is None:
            raise ValueError(f"a device is named like 'cpu' or 'cuda:1', not {name!r}")
        kind, index = match[1], int(match[2] or 0)
    count = find_backend(kind).device_count()
    if index >= count:
        raise DeviceUnavailableError(f"there is no device {kind}:{index}: {kind} has {count}, numbered from 0")
    return Device(kind, index)


def devices() -> tuple[Device, ...]:
    """Return every device that is usable here, the CPU first."""
    usable = [backend for backend in _backends.values() if backend.why_unavailable() is None]
    return tuple(Device(backend.kind, index) for backend in usable for index in range(backend.device_count()))


def is_available(name: str) -> bool:
    """Return whether a device, or any device of a kind, is usable here."""
    try:
        device(name)
    except DeviceUnavailableError:
        return False
    return True
