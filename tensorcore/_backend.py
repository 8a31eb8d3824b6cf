"""What a kind of device must be able to do, the registry of the kinds, and names of devices.

A backend has few methods: whether it is usable, how many devices it has, their memory, an upstream for their pools, and how an
array is put into a block. Whatever else a pool does (limits, statistics, callbacks) is the same for every device and lives in the
pool.
"""

from __future__ import annotations

import functools
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ._errors import DeviceUnavailableError
from ._upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._lib import native

_DEVICE_NAME = re.compile(r"([a-z]+)(?::(\d+))?")


@dataclass(frozen=True, slots=True)
class Device:
    """One device: the name of its backend and its number. Printed as `cpu`, `cuda:1`, `pinned`, and equal to that text."""

    kind: str
    index: int = 0

    def __str__(self) -> str:
        return self.kind if self.index == 0 and self.kind in ("cpu", "pinned") else f"{self.kind}:{self.index}"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Device):
            return self.index == other.index and self.kind == other.kind
        return str(self) == other if isinstance(other, str) else NotImplemented  # NumPy's arrays name their device in a str

    def __hash__(self) -> int:
        return hash(str(self))


class Backend(ABC):
    """Serves one kind of device. Methods other than the first two are called only where `why_unavailable` returns None."""

    kind: str
    """The name of the kind, as in ``device="cpu"``."""

    upstreams: tuple[str, ...] = ()
    """The names that a pool's ``upstream=`` may have; ``"fake"`` is for tests."""

    wants = ""
    """What an upstream has to be for `accepts`, as a sentence."""

    def accepts(self, upstream: Upstream) -> bool:  # noqa: ARG002 - for those that are choosy
        """Return whether pools on this kind can take their segments from an upstream that the caller made."""
        return True

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
    def upstream(self, index: int, name: str | None = None) -> Upstream:
        """Return where pools on a device get their segments; `name` is one of `upstreams`; without it the device's own.

        A fake is handed out for any index, whether the kind is usable here or not.
        """

    @abstractmethod
    def array_maker(self, upstream: Upstream, *, zeroed: bool = False) -> Callable[[native.PoolHandle, Any, Any], Any | None]:
        """Return the function ``make(pool, shape, dtype)`` that puts an array into a block of a pool over `upstream`.

        The array owns the block: it is deallocated with the last view of the array. None means that the pool refused.
        """


_backends: dict[str, Backend] = {}


def register_backend(backend: Backend) -> None:
    """Add a backend under its kind; one that is already there is replaced."""
    _backends[backend.kind] = backend


def backend_of(kind: str) -> Backend:
    """Return the backend of a kind, usable here or not; DeviceUnavailableError where there is none."""
    backend = _backends.get(kind)
    if backend is None:
        raise _unknown(kind)
    return backend


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
    return str(_unknown(kind)) if backend is None else backend.why_unavailable()


def _unknown(kind: str) -> DeviceUnavailableError:
    return DeviceUnavailableError(f"there is no device kind {kind!r}; known here: {', '.join(sorted(_backends))}")


def device(name: str | Device) -> Device:
    """Return the device of a name like ``"cpu"`` or ``"cuda:1"``; a kind alone means its device 0.

    Raises
    ------
    ValueError
        The name is not of that form.
    DeviceUnavailableError
        The kind is unknown or not usable here, or it has no device of that number.
    """
    where = parse_device(name)
    count = find_backend(where.kind).device_count()
    if where.index >= count:
        raise DeviceUnavailableError(f"there is no device {where.kind}:{where.index}: {where.kind} has {count}, numbered from 0")
    return where


def parse_device(name: str | Device) -> Device:
    """Return the device that a name means, usable or not; its kind is known."""
    where = name if isinstance(name, Device) else _parse(name)
    backend_of(where.kind)
    return where


@functools.lru_cache(64)
def _parse(name: str) -> Device:
    match = _DEVICE_NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"a device is named like 'cpu' or 'cuda:1', not {name!r}")
    return Device(match[1], int(match[2] or 0))


def find_upstream(upstream: Upstream | str | None, where: Device) -> Upstream:
    """Return the upstream that a pool's `upstream=` argument means on a device, which must be usable unless the upstream is a fake.

    Raises
    ------
    ValueError
        The name is unknown for this kind of device, or the upstream hands out another kind of memory.
    DeviceUnavailableError
        The device is not usable here.
    """
    backend = backend_of(where.kind)
    if isinstance(upstream, str) and upstream not in backend.upstreams:
        names = ", ".join(["None", *map(repr, backend.upstreams)])
        raise ValueError(f"upstream on {where} is {names} or an Upstream, not {upstream!r}")
    if upstream is None:
        device(where)
        return backend.upstream(where.index)
    if isinstance(upstream, str) and upstream != "fake":
        device(where)
    found = backend.upstream(where.index, upstream) if isinstance(upstream, str) else upstream
    if not isinstance(found, Upstream):
        raise ValueError(f"upstream is None, a name or an Upstream, not {upstream!r}")
    if not backend.accepts(found):
        raise ValueError(f"{found!r} is not an upstream for {where}: {backend.wants}")
    return found


def devices() -> tuple[Device, ...]:
    """Return every device that is usable here, the CPU first."""
    usable = [backend for _, backend in sorted(_backends.items(), key=_cpu_first) if backend.why_unavailable() is None]
    return tuple(Device(backend.kind, index) for backend in usable for index in range(backend.device_count()))


def _cpu_first(entry: tuple[str, Backend]) -> tuple[bool, str]:
    return entry[0] != "cpu", entry[0]


def is_available(name: str) -> bool:
    """Return whether a device, or any device of a kind, is usable here."""
    try:
        device(name)
    except DeviceUnavailableError:
        return False
    return True
