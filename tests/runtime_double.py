# ruff: noqa: N802, N815 - CUDA's names
"""RuntimeDouble: the functions of cupy.cuda.runtime that TensorCore calls, over host memory, for tests without a GPU.

Work that is given to a stream is done late: when something waits for it, or when the test says so. A block that is reused before
its copy is done therefore shows as wrong data. Device memory is real memory, so that copies can be checked.
"""

from __future__ import annotations

import ctypes
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


ALIGNMENT = 2 << 20  # bytes: of what cudaMalloc hands out from 1 MiB on


class RuntimeDoubleError(RuntimeError):
    """As CuPy's CUDARuntimeError: an error that has the runtime's status."""

    def __init__(self, status: int, message: str = "") -> None:
        super().__init__(message or f"status {status}")
        self.status = status


@dataclass
class Queue:
    """What a stream was given: `done` of the `work` is done, in order."""

    work: list[Callable[[], object]] = field(default_factory=list)
    done: int = 0

    def run(self, until: int | None = None) -> None:
        while self.done < (len(self.work) if until is None else until):
            self.done += 1
            self.work[self.done - 1]()


class RuntimeDouble:
    """A machine with some devices, whose streams and memory are kept apart."""

    eventDisableTiming = 2
    hostAllocPortable = 1
    memcpyDefault = 4
    streamPerThread = 2

    def __init__(self, devices: int = 2, capacity: int = 1 << 40) -> None:
        self.devices = devices
        self.capacity = capacity
        self.current = threading.local()
        self.memory: dict[int, tuple[str, int, ctypes.Array[ctypes.c_char]]] = {}  # address: kind, device, buffer
        self.queues: defaultdict[tuple[int, int], Queue] = defaultdict(Queue)
        self.events: dict[int, tuple[int, Queue | None, int]] = {}  # device, queue, length of the queue
        self.failing: dict[str, Exception] = {}
        self.calls: list[str] = []

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self.failing:
            raise self.failing[name]

    # ---- devices ----------------------------------------------------------------------------------------------------------------

    def getDeviceCount(self) -> int:
        return self.devices

    def getDevice(self) -> int:
        device: int = getattr(self.current, "device", 0)
        return device

    def setDevice(self, device: int) -> None:
        assert 0 <= device < self.devices
        self.current.device = device

    def memGetInfo(self) -> tuple[int, int]:
        return self.capacity - self.live_bytes, self.capacity

    @property
    def live_bytes(self) -> int:
        return sum(len(buffer) - ALIGNMENT for _, _, buffer in self.memory.values())

    # ---- memory -----------------------------------------------------------------------------------------------------------------

    def _allocate(self, kind: str, nbytes: int) -> int:
        self._call(kind)
        if self.live_bytes + nbytes > self.capacity:
            raise RuntimeDoubleError(2, "cudaErrorMemoryAllocation: out of memory")
        buffer = ctypes.create_string_buffer(nbytes + ALIGNMENT)
        ctypes.memset(buffer, 0xA5, len(buffer))
        address = (ctypes.addressof(buffer) + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
        self.memory[address] = (kind, self.getDevice(), buffer)
        return address

    def _free(self, kinds: tuple[str, ...], address: int) -> None:
        self._call("free")
        kind, device, _ = self.memory.pop(address)
        assert kind in kinds
        assert device == self.getDevice()

    def malloc(self, nbytes: int) -> int:
        return self._allocate("malloc", nbytes)

    def mallocManaged(self, nbytes: int) -> int:
        return self._allocate("mallocManaged", nbytes)

    def mallocAsync(self, nbytes: int, stream: int) -> int:
        assert stream == self.streamPerThread
        return self._allocate("mallocAsync", nbytes)

    def hostAlloc(self, nbytes: int, flags: int) -> int:
        assert flags == self.hostAllocPortable
        return self._allocate("hostAlloc", nbytes)

    def free(self, address: int) -> None:
        self._free(("malloc", "mallocManaged"), address)

    def freeAsync(self, address: int, stream: int) -> None:
        assert stream == self.streamPerThread
        self._free(("mallocAsync",), address)

    def freeHost(self, address: int) -> None:
        self._free(("hostAlloc",), address)

    def memcpyAsync(self, target: int, source: int, nbytes: int, kind: int, stream: int) -> None:
        assert kind == self.memcpyDefault
        self._enqueue("memcpyAsync", stream, lambda: ctypes.memmove(target, source, nbytes))

    def memsetAsync(self, target: int, value: int, nbytes: int, stream: int) -> None:
        self._enqueue("memsetAsync", stream, lambda: ctypes.memset(target, value, nbytes))

    # ---- streams and events -----------------------------------------------------------------------------------------------------

    def _enqueue(self, name: str, stream: int, work: Callable[[], object]) -> None:
        self._call(name)
        self.queues[self.getDevice(), stream].work.append(work)

    def streamSynchronize(self, stream: int) -> None:
        self._call("streamSynchronize")
        self.queues[self.getDevice(), stream].run()

    def deviceSynchronize(self) -> None:
        self._call("deviceSynchronize")
        for (device, _), queue in list(self.queues.items()):
            if device == self.getDevice():
                queue.run()

    def run(self) -> None:
        """Let every stream do its work."""
        for queue in list(self.queues.values()):
            queue.run()

    def eventCreateWithFlags(self, flags: int) -> int:
        self._call("eventCreateWithFlags")
        assert flags == self.eventDisableTiming
        event = max(self.events, default=0x1000) + 16
        self.events[event] = (self.getDevice(), None, 0)
        return event

    def eventRecord(self, event: int, stream: int) -> None:
        self._call("eventRecord")
        device, _, _ = self.events[event]
        assert device == self.getDevice()
        queue = self.queues[device, stream]
        self.events[event] = (device, queue, len(queue.work))

    def eventQuery(self, event: int) -> int:
        self._call("eventQuery")
        _, queue, length = self.events[event]
        return 0 if queue is None or queue.done >= length else 600

    def eventDestroy(self, event: int) -> None:
        self._call("eventDestroy")
        del self.events[event]

    def streamWaitEvent(self, stream: int, event: int, flags: int) -> None:
        assert flags == 0
        _, queue, length = self.events[event]
        assert queue is not None
        self._enqueue("streamWaitEvent", stream, lambda: queue.run(length))


class StreamDouble:
    """As CuPy's Stream: has `ptr`, and is the current one where a test says so."""

    def __init__(self, ptr: int) -> None:
        self.ptr = ptr
