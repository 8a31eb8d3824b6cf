"""The backends of a GPU: its own memory (`cuda`), and the host's memory that it can copy to and from by itself (`pinned`).

`pinned:1` is the memory whose copies run on streams of `cuda:1`; any device can use it. Everything works without CuPy, driver and
GPU up to the point where one of them is needed, and then says which.
"""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, Any

from . import _cupy
from ._backend import Backend, backend_of, register_backend
from ._device_array import make_device_array, make_device_zeros
from ._fake_device import FakeDeviceUpstream
from ._runtime_upstream import RuntimeUpstream

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._lib import native
    from ._upstream import Upstream

_lock = threading.Lock()


class CudaBackend(Backend):
    """The memory of each GPU."""

    kind = "cuda"
    upstreams: tuple[str, ...] = ("cuda", "managed", "async", "fake")
    wants = "it needs streams, and memory that is the device's alone"

    def why_unavailable(self) -> str | None:
        """Return None where a GPU can be used, else which of CuPy, driver and GPU is missing."""
        reason = _cupy.why_unavailable()
        return None if reason is None else f"device {self.kind!r} is not available: {reason}"

    def device_count(self) -> int:
        """Return how many GPUs this process sees."""
        return int(_cupy.runtime().getDeviceCount())

    def memory(self, index: int) -> int:
        """Return the bytes of memory that a GPU has."""
        with _make_upstream(index, "cuda").on_device():
            return int(_cupy.runtime().memGetInfo()[1])

    def upstream(self, index: int, name: str | None = None) -> Upstream:
        """Return cudaMalloc, cudaMallocManaged or cudaMallocAsync on a GPU, or a fake device of its own."""
        return FakeDeviceUpstream() if name == "fake" else _make_upstream(index, name or "cuda")

    def accepts(self, upstream: Upstream) -> bool:
        """Return whether an upstream has streams, and memory that the CPU must not touch."""
        return upstream.stream_ordered and not upstream.host_memory

    def array_maker(
        self,
        upstream: Upstream,  # noqa: ARG002 - the interface's signature
        *,
        zeroed: bool = False,
    ) -> Callable[[native.PoolHandle, Any, Any], Any | None]:
        """Return the function that puts a `DeviceArray` into a block."""
        return make_device_zeros if zeroed else make_device_array


class PinnedBackend(CudaBackend):
    """The host's page-locked memory, one pool of it for the streams of each GPU."""

    kind = "pinned"
    upstreams = ("cuda", "fake")
    wants = "it needs streams, and memory that the CPU can use"

    def memory(self, index: int) -> int:
        """Return the machine's memory, or the cgroup's limit where that is lower, in bytes."""
        return backend_of("cpu").memory(index)

    def upstream(self, index: int, name: str | None = None) -> Upstream:
        """Return cudaHostAlloc, or a fake with real host memory."""
        return FakeDeviceUpstream(pinned=True) if name == "fake" else _make_upstream(index, "pinned")

    def accepts(self, upstream: Upstream) -> bool:
        """Return whether an upstream has streams, and memory that the CPU can use."""
        return upstream.stream_ordered and upstream.host_memory

    def array_maker(self, upstream: Upstream, *, zeroed: bool = False) -> Callable[[native.PoolHandle, Any, Any], Any | None]:
        """Return the CPU's function: the block is host memory, and free again once the copies recorded on it are done."""
        return backend_of("cpu").array_maker(upstream, zeroed=zeroed)


def _make_upstream(index: int, kind: str) -> RuntimeUpstream:
    with _lock:
        return _find_upstream(index, kind)


@functools.cache
def _find_upstream(index: int, kind: str) -> RuntimeUpstream:
    """Return the one upstream of a kind on a device: it is never freed, so there should be one."""
    return RuntimeUpstream(_cupy.runtime(), index, kind, _cupy.current_stream(index))


register_backend(CudaBackend())
register_backend(PinnedBackend())
