"""What callers may give as a stream, as the handle that the core and the CUDA runtime know it by; and who keeps CuPy's streams."""

from __future__ import annotations

import operator
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_LEGACY_DEFAULT = 1  # cudaStreamLegacy: the default stream, whose handle is 0 too
_HANDLES = 1 << 64


def stream_handle(stream: object) -> int:
    """Return the handle of a stream.

    Parameters
    ----------
    stream
        An integer (a ``cudaStream_t``; 0 is the default stream, 2 the calling thread's own), or an object with ``__cuda_stream__``
        (its method or value is a version and the handle), ``ptr`` (CuPy), ``cuda_stream`` (PyTorch) or ``handle``.

    Raises
    ------
    TypeError
        The object is not a stream.
    ValueError
        The integer is not a handle.
    """
    handle = _read_handle(stream)
    if not 0 <= handle < _HANDLES - 1:
        raise ValueError(f"a stream's handle lies in 0 to 2**64 - 2, not {handle}")
    return 0 if handle == _LEGACY_DEFAULT else handle


def _read_handle(stream: object) -> int:
    protocol = getattr(stream, "__cuda_stream__", None)
    if protocol is not None:
        return operator.index((protocol() if callable(protocol) else protocol)[1])
    for name in ("ptr", "cuda_stream", "handle"):
        handle = getattr(stream, name, None)
        if handle is not None:
            return operator.index(getattr(handle, "value", handle))  # Numba's handle is a ctypes object
    if isinstance(stream, bool):
        raise TypeError(f"a stream is a handle or an object with __cuda_stream__, ptr or cuda_stream, not {stream!r}")
    try:
        return operator.index(stream)  # type: ignore[arg-type] # what is not an integer is refused
    except TypeError:
        raise TypeError(f"a stream is a handle or an object with __cuda_stream__, ptr or cuda_stream, not {stream!r}") from None


class StreamKeeper:
    """Keeps stream objects from being destroyed while a pool may still record an event on them.

    CUDA does not say what happens to an event that is recorded on a destroyed stream; CuPy destroys a stream with its last
    reference. A stream that nobody else holds is let go when the next new one appears, after the pools were told.

    Parameters
    ----------
    forget
        Called with the handle of a stream before it is let go.
    """

    def __init__(self, forget: Callable[[int], None]) -> None:
        self._forget = forget
        self._streams: dict[int, Any] = {}
        self._lock = threading.Lock()  # not held while `forget` runs, which takes a pool's

    def keep(self, stream: Any) -> int:
        """Return the handle of a stream object, which is kept from now on."""
        handle: int = stream.ptr
        if handle not in self._streams:
            for unused in self._take_unused(handle, stream):
                self._forget(unused.ptr)
        return handle

    def _take_unused(self, handle: int, stream: Any) -> list[Any]:
        """Keep a stream; return those that only the dictionary, and the call that counts, referred to."""
        with self._lock:
            unused = [other for other in self._streams if sys.getrefcount(self._streams[other]) <= 2]
            dropped = [self._streams.pop(other) for other in unused]
            self._streams[handle] = stream
        return dropped
