"""``tensorcore bench device``: device pools from Python beside CuPy's own; on a GPU, the kernels and pinned copies beside the card.

Without a GPU a fake device stands in, and CuPy's pool, which needs a driver, is left out; the floor is CuPy's memory object and
pointer over nothing. What it can't show: what fragmentation does to a long job.
"""

from __future__ import annotations

import itertools
import time
import timeit
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import tensorcore as tc
from tensorcore.cli._bench_results import Section
from tensorcore.cli._progress import Steps

if TYPE_CHECKING:
    from collections.abc import Callable

_SIZES = {"1 KiB": 1 << 10, "64 KiB": 64 << 10, "1 MiB": 1 << 20, "64 MiB": 64 << 20}
_BATCH = 1000
_GIB = 1 << 30


def bench_device_python(rounds: int, quick: bool) -> list[Section]:
    """Return the tables; one that says why where CuPy is missing."""
    section = Section("device python", "a CuPy allocation, made and dropped, per operation", [], ratio=("cupy pool", "tensorcore"))
    if find_spec("cupy") is None:
        section.notes.append("left out: CuPy is not installed (pip install 'tensorcore[cuda13]')")
        return [section]
    has_gpu = tc.is_available("cuda")
    contenders = _on_the_card() if has_gpu else _on_a_fake()
    section.columns = list(contenders)
    if not has_gpu:
        section.ratio = None
        section.notes.append("on a fake device: CuPy's own pool and the driver's allocators need a GPU")
    section.notes.append("floor: CuPy's memory object and pointer over nothing; aim: tensorcore not slower than cupy pool")
    loops = 200 if quick else 20_000
    sections = [section]
    with Steps(rounds * len(contenders)) as steps:
        for _ in range(rounds):
            for column, malloc in contenders.items():
                steps.begin(column)
                _measure(section, column, malloc, loops)
                steps.end(column)
    for row in section.rows:
        row.target = 1.0 if has_gpu else None
    if has_gpu:
        sections += [_cold_start(rounds, contenders), _kernels(rounds, quick), _copies(rounds, quick)]
    return sections


# ---- allocations ----------------------------------------------------------------------------------------------------------------


def _measure(section: Section, column: str, malloc: Callable[[int], Any], loops: int) -> None:
    slow = column.startswith("cuda")  # a driver call each: fewer loops say as much
    for name, nbytes in _SIZES.items():
        count = max(20, loops // 100) if slow else loops
        timer = timeit.Timer("malloc(nbytes)", globals={"malloc": malloc, "nbytes": nbytes})
        timer.timeit(max(2, count // 10))
        section.row(f"pair of {name}").add(column, timer.timeit(count) / count)
    sizes = [512 * (1 + i * 37 % 200) for i in range(_BATCH)]
    _make_and_drop(malloc, sizes)
    section.row(f"{_BATCH:,} of 0.5 to 100 KiB, then all freed").add(column, _make_and_drop(malloc, sizes) / _BATCH)


def _make_and_drop(malloc: Callable[[int], Any], sizes: list[int]) -> float:
    """Return the seconds that it takes to make a block of each size and to drop them in order."""
    start = time.perf_counter()
    kept = [malloc(nbytes) for nbytes in sizes]
    kept.clear()
    return time.perf_counter() - start


def _on_the_card() -> dict[str, Callable[[int], Any]]:
    import cupy

    memory = cupy.cuda.memory
    contenders = {
        "floor": lambda nbytes: memory.MemoryPointer(memory.UnownedMemory(4096, nbytes, None, 0), 0),
        "tensorcore": tc.CupyMemoryPool([tc.MemoryPool(device="cuda", name="bench")]).malloc,
        "cupy pool": memory.MemoryPool().malloc,
        "cudaMalloc": memory._malloc,
        "cudaMallocAsync": memory.malloc_async,
    }
    if find_spec("torch") is not None:
        import torch

        if torch.cuda.is_available():
            contenders["torch"] = lambda nbytes: torch.empty(nbytes, dtype=torch.uint8, device="cuda")
    return contenders


def _on_a_fake() -> dict[str, Callable[[int], Any]]:
    import cupy

    memory = cupy.cuda.memory

    class OnAFake(tc.CupyMemoryPool):
        """The face as on a card, but for what CuPy can't tell without one: current device and stream."""

        def _current_stream_function(self) -> Callable[[], Any]:
            return int  # the default stream, 0

        def _make_malloc(self) -> Callable[[int], Any]:
            make, point, port = memory.CFunctionAllocatorMemory, memory.MemoryPointer, self._port
            param, malloc, free = port.param, port.malloc, port.free
            return lambda nbytes: point(make(nbytes, param, malloc, free, 0), 0)

    pool = tc.MemoryPool(device="cuda", upstream="fake", name="bench")
    return {
        "floor": lambda nbytes: memory.MemoryPointer(memory.UnownedMemory(4096, nbytes, None, 0), 0),
        "tensorcore": OnAFake([pool]).malloc,
    }


def _cold_start(rounds: int, contenders: dict[str, Callable[[int], Any]]) -> Section:
    """1,000 blocks from pools that hold nothing."""
    import cupy

    section = Section(
        "device cold start", f"{_BATCH:,} blocks of 100 KiB from nothing, each", ["tensorcore", "cupy pool", "cudaMalloc"]
    )
    section.ratio = ("cupy pool", "tensorcore")
    for _ in range(rounds):
        with tc.MemoryPool(device="cuda", name="cold") as pool:
            fresh = {"tensorcore": tc.CupyMemoryPool([pool]).malloc, "cupy pool": cupy.cuda.MemoryPool().malloc}
            for column in section.columns:
                malloc = fresh.get(column, contenders[column])
                cupy.cuda.Device().synchronize()
                section.row("first touch of a pool").add(column, _make_and_drop(malloc, [100 << 10] * _BATCH) / _BATCH)
    return section


# ---- the card's speed -----------------------------------------------------------------------------------------------------------


def _seconds_on_the_card(call: Callable[[], Any], times: int) -> float:
    """Return the seconds of one call, by events on the current stream, after one that does not count."""
    import cupy

    call()
    start, end = cupy.cuda.Event(), cupy.cuda.Event()
    start.record()
    for _ in range(times):
        call()
    end.record()
    end.synchronize()
    return float(cupy.cuda.get_elapsed_time(start, end)) / 1000 / times


def _kernels(rounds: int, quick: bool) -> Section:
    """Time per GiB of memory traffic, beside a device-to-device copy's in the same run."""
    import cupy

    from tensorcore import kernels

    section = Section("device kernels", "per GiB read and written", ["copy", "kernel"], ratio=("copy", "kernel"))
    nbytes = (16 << 20) if quick else (256 << 20)
    times = 3 if quick else 20
    for dtype in ("float16", "float32", "float64"):
        a, b, c, out = (cupy.ones(nbytes // cupy.dtype(dtype).itemsize, dtype) for _ in range(4))
        cases: dict[str, tuple[Callable[[], Any], int]] = {
            "vectorized_add": (partial(kernels.vectorized_add, a, b, out), 3),
            "vectorized_fma": (partial(kernels.vectorized_fma, a, b, c, out), 4),
            "vectorized_scale": (partial(kernels.vectorized_scale, 2.0, a, out), 2),
            "vectorized_copy": (partial(kernels.vectorized_copy, a, out), 2),
            "vectorized_fill": (partial(kernels.vectorized_fill, out, 1), 1),
            "vectorized_sum": (partial(kernels.vectorized_sum, a), 1),
            "evaluate a*b + c/2": (partial(kernels.evaluate, "a*b + c/2", out=out, a=a, b=b, c=c), 4),
        }
        for _ in range(rounds):
            plain = partial(out.data.copy_from_device_async, a.data, nbytes, cupy.cuda.get_current_stream())
            copied = _seconds_on_the_card(plain, times)
            for name, (call, arrays) in cases.items():
                row = section.row(f"{name}, {dtype}")
                row.add("copy", copied / (2 * nbytes / _GIB))
                row.add("kernel", _seconds_on_the_card(call, times) / (arrays * nbytes / _GIB))
                row.target = 0.9 if name == "vectorized_add" else None
    return section


def _copies(rounds: int, quick: bool) -> Section:
    """Host memory to the card and back, per GiB: the pool's pinned memory beside CUDA's own and pageable memory."""
    import cupy
    import numpy

    section = Section("device copies", "host copies, per GiB", ["pageable", "cudaHostAlloc", "pinned pool"])
    section.ratio = ("cudaHostAlloc", "pinned pool")
    nbytes = (16 << 20) if quick else (256 << 20)
    card = cupy.empty(nbytes, "u1")
    own = cupy.cuda.PinnedMemoryPointer(cupy.cuda.PinnedMemory(nbytes), 0)
    pooled = tc.CupyPinnedMemoryPool([tc.MemoryPool(device="pinned", name="bench pinned")]).malloc(nbytes)
    pageable = numpy.ones(nbytes, "u1")
    sources = {"pageable": pageable.ctypes.data, "cudaHostAlloc": own.ptr, "pinned pool": pooled.ptr}
    ways = {"to the card": card.data.copy_from_host_async, "from the card": card.data.copy_to_host_async}
    stream = cupy.cuda.get_current_stream()
    for _, (label, copy), (column, host) in itertools.product(range(rounds), ways.items(), sources.items()):
        seconds = _seconds_on_the_card(partial(copy, host, nbytes, stream), 3 if quick else 10)
        section.row(label).add(column, seconds / (nbytes / _GIB))
    for row in section.rows:
        row.target = 0.95
    return section
