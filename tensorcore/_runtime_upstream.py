"""Segments, streams and events of one device by the functions of a CUDA runtime: what the core's upstream table calls back.

Every call is on the slow path (a segment, an event) and costs some microseconds of Python beside the driver's own time. The core
holds no lock meanwhile. No exception crosses the core: a failure is kept for the error that its pool then raises. Limit: an
upstream is never freed, because blocks of its pools may outlive every Python object.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ._callbacks import report
from ._cupy import is_gone
from ._errors import TensorCoreError
from ._lib import address_of, ffi, lib, pointer
from ._registry import open_pools
from ._streams import StreamKeeper, stream_handle
from ._upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_NOT_READY = 600  # cudaErrorNotReady
_THREAD_STREAM = 2  # cudaStreamPerThread
_MEMORY_ALLOCATION = 2  # cudaErrorMemoryAllocation

_upstreams: list[RuntimeUpstream] = []  # the core's context of each is its index here


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of memory: how the runtime hands it out and takes it back; `host` where the CPU can use it too."""

    allocate: Callable[[Any, int], int]
    free: Callable[[Any, int], None]
    host: bool = False


def _allocate_async(runtime: Any, nbytes: int) -> int:
    """Take memory from the driver's own pool, and wait until every stream may use it."""
    address = int(runtime.mallocAsync(nbytes, runtime.streamPerThread))
    runtime.streamSynchronize(runtime.streamPerThread)
    return address


def _allocate_pinned(runtime: Any, nbytes: int) -> int:
    """Take pinned memory, usable by every device; the core takes it for cleared, which the driver does not promise."""
    address = int(runtime.hostAlloc(nbytes, runtime.hostAllocPortable))
    ctypes.memset(address, 0, nbytes)
    return address


KINDS = {
    "cuda": Kind(lambda runtime, nbytes: runtime.malloc(nbytes), lambda runtime, address: runtime.free(address)),
    "managed": Kind(lambda runtime, nbytes: runtime.mallocManaged(nbytes), lambda runtime, address: runtime.free(address)),
    "async": Kind(_allocate_async, lambda runtime, address: runtime.freeAsync(address, runtime.streamPerThread)),
    "pinned": Kind(_allocate_pinned, lambda runtime, address: runtime.freeHost(address), host=True),
}


class RuntimeUpstream(Upstream):
    """Memory of one kind on one device.

    Parameters
    ----------
    runtime
        `cupy.cuda.runtime`, or an object with the same functions.
    index
        The number of the device whose memory and streams these are.
    kind
        ``"cuda"`` (cudaMalloc), ``"managed"`` (cudaMallocManaged), ``"async"`` (cudaMallocAsync), ``"pinned"`` (cudaHostAlloc).
    current_stream
        Returns the device's current stream on the calling thread, an object with `ptr`.
    """

    def __init__(self, runtime: Any, index: int, kind: str, current_stream: Callable[[], Any]) -> None:
        self._runtime = runtime
        self._index = index
        self._kind = KINDS[kind]
        self._current_stream = current_stream
        self._streams = StreamKeeper(self._forget_stream)
        self._failures = threading.local()
        self._c_name = ffi.new("char[]", kind.encode())
        super().__init__(self._make_table())
        _upstreams.append(self)

    def _make_table(self) -> Any:
        fields = {
            "name": self._c_name,
            "context": pointer(len(_upstreams)),
            "host_memory": self._kind.host,
            "thread_stream": _THREAD_STREAM,
        }
        table = ffi.new("tc_upstream *", fields)
        lib.tci_upstream_fill(table)
        return table

    def current_stream(self) -> int:
        """Return the handle of the device's current stream on this thread."""
        return self._streams.keep(self._current_stream())

    def stream(self, stream: object) -> int:
        """Return the handle of a stream, None: of the current one."""
        if stream is None:
            return self.current_stream()
        return self._streams.keep(stream) if hasattr(stream, "ptr") else stream_handle(stream)

    def _forget_stream(self, handle: int) -> None:
        """Tell the pools that a stream is about to be destroyed."""
        for pool in open_pools():
            if pool.upstream is self:
                with contextlib.suppress(TensorCoreError):  # closed meanwhile, or the parent's: nothing to tell it
                    pool.forget_stream(handle)

    def take_failure(self) -> Exception | None:
        """Return what this thread's last refused request met, once; None where it was no failure of the runtime."""
        failure: Exception | None = self._failures.__dict__.pop("last", None)
        return failure

    @contextlib.contextmanager
    def on_device(self) -> Iterator[None]:
        """Make this device the calling thread's current one for a while."""
        previous = self._runtime.getDevice()
        if previous == self._index:
            yield
            return
        self._runtime.setDevice(self._index)
        try:
            yield
        finally:
            self._runtime.setDevice(previous)

    # ---- data -------------------------------------------------------------------------------------------------------------------

    def write(self, address: int, source: int, nbytes: int, stream: int) -> None:
        """Copy from the host, or from any device, to this device, in the order of a stream of it."""
        with self.on_device():
            self._runtime.memcpyAsync(address, source, nbytes, self._runtime.memcpyDefault, stream)

    def read(self, target: int, address: int, nbytes: int, stream: int) -> None:
        """Copy from this device to the host, in the order of a stream of it."""
        self.write(target, address, nbytes, stream)

    def clear(self, address: int, nbytes: int, stream: int) -> None:
        """Set bytes to 0 in the order of a stream."""
        with self.on_device():
            self._runtime.memsetAsync(address, 0, nbytes, stream)

    def wait_for(self, stream: int) -> None:
        """Return when all work on a stream is done."""
        with self.on_device():
            self._runtime.streamSynchronize(stream)

    # ---- what the core calls ----------------------------------------------------------------------------------------------------

    def _allocate(self, nbytes: int) -> int:
        self._failures.last = None
        with self.on_device():
            return self._kind.allocate(self._runtime, nbytes)

    def _deallocate(self, address: int) -> None:
        with self.on_device():
            self._kind.free(self._runtime, address)

    def _record(self, stream: int) -> int:
        with self.on_device():
            event = int(self._runtime.eventCreateWithFlags(self._runtime.eventDisableTiming))
            try:
                self._runtime.eventRecord(event, stream)
            except BaseException:
                self._runtime.eventDestroy(event)
                raise
            return event

    def _query(self, event: int) -> int:
        """Return 1 where an event has passed, 0 where not yet."""
        try:
            status = self._runtime.eventQuery(event)
        except Exception as error:
            if getattr(error, "status", None) != _NOT_READY:
                raise
            return 0
        return 0 if status == _NOT_READY else 1

    def _destroy_event(self, event: int) -> None:
        self._runtime.eventDestroy(event)

    def _wait(self, stream: int, event: int) -> int:
        with self.on_device():
            self._runtime.streamWaitEvent(stream, event, 0)
        return 0

    def _synchronize(self) -> int:
        with self.on_device():
            self._runtime.deviceSynchronize()
        return 0


def is_out_of_memory(failure: Exception) -> bool:
    """Return whether a failure of the runtime says that the device has no memory left."""
    return getattr(failure, "status", None) == _MEMORY_ALLOCATION


def _call(context: Any, method: Callable[..., Any], failed: Any, *arguments: int) -> Any:
    """Return what a method of the context's upstream returns, `failed` where it raised."""
    upstream = _upstreams[address_of(context)]
    try:
        return method(upstream, *arguments)
    except Exception as error:
        upstream._failures.last = error
    except BaseException as error:
        report(error, method)
    return failed


@ffi.def_extern(error=ffi.NULL)  # type: ignore[untyped-decorator]
def tensorcore_upstream_allocate(context: Any, nbytes: int, alignment: int) -> Any:  # noqa: ARG001 - the pool aligns by itself
    """A segment, NULL where the runtime refused."""
    return pointer(_call(context, RuntimeUpstream._allocate, 0, nbytes))


@ffi.def_extern(error=0)  # type: ignore[untyped-decorator]
def tensorcore_upstream_deallocate(context: Any, address: Any) -> int:
    """Give a segment back; a failure is reported, unless the driver is gone and all its memory with it."""
    return _forget(context, RuntimeUpstream._deallocate, address)


@ffi.def_extern(error=ffi.NULL)  # type: ignore[untyped-decorator]
def tensorcore_event_record(context: Any, stream: int) -> Any:
    """An event behind the work of a stream, NULL on failure."""
    return pointer(_call(context, RuntimeUpstream._record, 0, stream))


@ffi.def_extern(error=-1)  # type: ignore[untyped-decorator]
def tensorcore_event_query(context: Any, event: Any) -> int:
    """1: passed, 0: not yet, -1: failed."""
    return int(_call(context, RuntimeUpstream._query, -1, address_of(event)))


@ffi.def_extern(error=0)  # type: ignore[untyped-decorator]
def tensorcore_event_destroy(context: Any, event: Any) -> int:
    """The event goes, passed or not."""
    return _forget(context, RuntimeUpstream._destroy_event, event)


@ffi.def_extern(error=-1)  # type: ignore[untyped-decorator]
def tensorcore_stream_wait(context: Any, stream: int, event: Any) -> int:
    """0: what the stream is given from now on starts after the event."""
    return int(_call(context, RuntimeUpstream._wait, -1, stream, address_of(event)))


@ffi.def_extern(error=-1)  # type: ignore[untyped-decorator]
def tensorcore_synchronize(context: Any) -> int:
    """0: all work on the device is done."""
    return int(_call(context, RuntimeUpstream._synchronize, -1))


def _forget(context: Any, method: Callable[[RuntimeUpstream, int], None], handle: Any) -> int:
    """Give something back: nobody waits for the result, so a failure goes to `sys.unraisablehook`, a gone driver's nowhere."""
    try:
        method(_upstreams[address_of(context)], address_of(handle))
    except BaseException as error:
        if not is_gone(error):
            report(error, method)
    return 0


atexit.register(lib.tci_upstream_stop)
