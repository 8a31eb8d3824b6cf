"""The kernels of cuda/ as Python calls them: their sources, their names, and how CuPy compiles and launches them.

A file of kernels is compiled once per device and process, by NVRTC at its first use (one to two seconds), an expression's kernel
likewise (a fraction of one); CuPy keeps the result on disk (~/.cupy/kernel_cache), so a later process only loads it. Launches go to
CuPy's current stream and wait for nothing.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _cupy
from ._backend import why_unavailable
from ._errors import DeviceUnavailableError
from ._kernel_operands import SUFFIXES, Operand
from ._lib import get_include

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._kernel_operands import Order

ELEMENTWISE = ("add", "subtract", "multiply", "divide", "fma", "scale", "axpy")
REDUCTIONS = ("sum", "min", "max", "dot")
UNITS = (16, 8, 4, 2, 1)
"""Bytes that a copying thread moves at once, the best first."""

KERNELS = {
    "elementwise": [f"{name}_{suffix}" for name in ELEMENTWISE for suffix in SUFFIXES.values()],
    "reduce": [
        f"{name}_{suffix}" for name in (*REDUCTIONS, "finish_sum", "finish_min", "finish_max") for suffix in SUFFIXES.values()
    ],
    "pattern": ["fill_pattern", "check_pattern", "set_guards", "check_guards"],
    "copy": ["copy_bytes", *(f"copy_{way}_{unit}" for way in ("rows", "elements") for unit in UNITS)],
}
"""The kernels of each file of cuda/."""

FILE_OF = {kernel: file for file, kernels in KERNELS.items() for kernel in kernels}
BLOCK = 256
"""Threads of a block; reduce.cu counts on it."""

PACK_BYTES = 16
"""What a thread reads or writes at once, of common.cuh."""

OPTIONS = ("--std=c++17", "-default-device")
EXPRESSION_OPTIONS = (*OPTIONS, "-fmad=false")  # no product and sum in one rounding

_MOST_EXPRESSIONS = 256

MAX_DIMENSIONS = 32
LAYOUT = np.dtype(
    [
        ("dimensions", "i8"),
        ("shape", "u8", (MAX_DIMENSIONS,)),
        ("to_strides", "i8", (MAX_DIMENSIONS,)),
        ("from_strides", "i8", (MAX_DIMENSIONS,)),
    ]
)
"""struct Layout of copy.cu, passed by value."""


def read_source(file: str) -> str:
    """Return the text of a file of kernels with common.cuh in the place of its #include, so that no search path is needed."""
    folder = Path(get_include()).parent / "cuda"
    return (folder / f"{file}.cu").read_text().replace('#include "common.cuh"\n', (folder / "common.cuh").read_text())


@cache
def _read_expression_source() -> str:
    return read_source("evaluate")


def complete_source(expression: str) -> str:
    """Return the text of evaluate.cu for an expression, given as the C++ text that the file leaves open."""
    return _read_expression_source().replace('#include "expression.cuh"\n', expression)


class Launcher(ABC):
    """Where kernels run: arrays there, and launches. CuPy's is the one; the tests have a second, on the host."""

    @abstractmethod
    def operand(self, array: Any) -> Operand:
        """Return what `array` is to kernels.

        Raises
        ------
        TypeError
            It is not an array in the device's memory.
        """

    @abstractmethod
    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any], device: int, order: Order = "C") -> Any:
        """Return a new array, not initialised."""

    @abstractmethod
    def upload(self, array: np.ndarray[Any, np.dtype[Any]], device: int) -> Any:
        """Return a copy on the device."""

    @abstractmethod
    def download(self, array: Any) -> np.ndarray[Any, np.dtype[Any]]:
        """Return a copy on the host, once the stream has come so far."""

    @abstractmethod
    def current_device(self) -> int:
        """Return the device of calls that are given addresses alone."""

    @abstractmethod
    def max_blocks(self, device: int) -> int:
        """Return how many blocks of `BLOCK` threads fill the device."""

    @abstractmethod
    def launch(self, kernel: str, blocks: int, arguments: Sequence[Any], device: int, expression: str | None = None) -> None:
        """Run a kernel on the current stream.

        Parameters
        ----------
        kernel, blocks
            Its name, and how many blocks of `BLOCK` threads.
        arguments
            NumPy scalars, and structures by value as arrays of no dimension.
        device
            Where.
        expression
            Of evaluate.cu: what `complete_source` takes. None: a kernel of `KERNELS`.
        """

    def blocks_for(self, nbytes: int, device: int) -> int:
        """Return the blocks for so many bytes at a pack a thread, at most as many as the device holds at a time."""
        return max(1, min(-(-nbytes // (PACK_BYTES * BLOCK)), self.max_blocks(device)))


class CupyLauncher(Launcher):
    """CuPy's arrays, streams and NVRTC. A GPU is needed from the first call on."""

    def __init__(self) -> None:
        self._cupy = _cupy.module()
        self._lock = threading.Lock()
        self._functions: dict[tuple[int, str], Any] = {}
        self._modules: dict[str, Any] = {}
        self._evaluate = lru_cache(_MOST_EXPRESSIONS)(self._compile)  # CuPy's own table of what it compiled has no bound

    def operand(self, array: Any) -> Operand:
        """See `Launcher.operand`: CuPy arrays, and whatever has `__cuda_array_interface__`."""
        if not isinstance(array, self._cupy.ndarray):
            if not hasattr(array, "__cuda_array_interface__"):
                raise TypeError(
                    f"{type(array).__name__} is not in device memory: copy it there first, with cupy.asarray or .to('cuda')"
                )
            array = self._cupy.asarray(array)
        return Operand(array, array.data.ptr, array.shape, array.strides, array.dtype, array.device.id)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any], device: int, order: Order = "C") -> Any:
        """See `Launcher.empty`; the memory is from CuPy's current allocator."""
        with self._cupy.cuda.Device(device):
            return self._cupy.empty(shape, dtype, order)

    def upload(self, array: np.ndarray[Any, np.dtype[Any]], device: int) -> Any:
        """See `Launcher.upload`."""
        with self._cupy.cuda.Device(device):
            return self._cupy.asarray(array)

    def download(self, array: Any) -> np.ndarray[Any, np.dtype[Any]]:
        """See `Launcher.download`."""
        copy: np.ndarray[Any, np.dtype[Any]] = self._cupy.asnumpy(array)
        return copy

    def current_device(self) -> int:
        """See `Launcher.current_device`."""
        return int(self._cupy.cuda.runtime.getDevice())

    def max_blocks(self, device: int) -> int:
        """See `Launcher.max_blocks`: as many threads as the multiprocessors hold."""
        attributes = self._cupy.cuda.Device(device).attributes
        return int(attributes["MultiProcessorCount"] * max(1, attributes["MaxThreadsPerMultiProcessor"] // BLOCK))

    def launch(self, kernel: str, blocks: int, arguments: Sequence[Any], device: int, expression: str | None = None) -> None:
        """See `Launcher.launch`."""
        with self._cupy.cuda.Device(device):
            function = self._find(kernel, device) if expression is None else self._find_expression(expression, device)
            function((blocks,), (BLOCK,), tuple(arguments))

    def _find(self, kernel: str, device: int) -> Any:
        function = self._functions.get((device, kernel))
        if function is None:
            with self._lock:
                file = FILE_OF[kernel]
                if file not in self._modules:
                    self._modules[file] = self._cupy.RawModule(code=read_source(file), options=OPTIONS)
                function = self._functions[device, kernel] = self._modules[file].get_function(kernel)
        return function

    def _find_expression(self, expression: str, device: int) -> Any:
        with self._lock:  # else two threads would compile the same
            return self._evaluate(expression, device)

    def _compile(self, expression: str, device: int) -> Any:  # noqa: ARG002 - a part of the key
        return self._cupy.RawModule(code=complete_source(expression), options=EXPRESSION_OPTIONS).get_function("evaluate")


@cache
def _cupy_launcher() -> CupyLauncher:
    return CupyLauncher()


def find_launcher() -> Launcher:
    """Return where kernels run here.

    Raises
    ------
    DeviceUnavailableError
        There is no GPU, driver or CuPy; the message says which and what to do.
    """
    reason = why_unavailable("cuda")
    if reason is not None:
        raise DeviceUnavailableError(reason)
    return _cupy_launcher()
