"""CupyDouble: the parts of CuPy that TensorCore computes with, over the RuntimeDouble's memory and with NumPy's arithmetic.

Every array that a function makes asks the current allocator for its memory, as CuPy's do, so that a test sees where results lie.
Kernels run on the CPU (host_launcher.py). What it can't show: that CuPy has a function, or how it computes.
"""

from __future__ import annotations

import contextlib
import ctypes
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import array_api_compat.numpy as standard
import numpy as np
from host_launcher import launch_on_host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runtime_double import RuntimeDouble

MISSING = ("apply_along_axis", "busday_count")  # what CuPy has not, to see that it is told


class UnownedMemory:
    """Memory that somebody else owns."""

    def __init__(self, ptr: int, nbytes: int, owner: object, device: int) -> None:
        self.ptr, self.nbytes, self.owner, self.device = ptr, nbytes, owner, device


class MemoryPointer:
    """An address in a memory, which it keeps."""

    def __init__(self, memory: UnownedMemory, offset: int) -> None:
        self.memory, self.ptr = memory, memory.ptr + offset


class Array(np.ndarray[Any, np.dtype[Any]]):
    """An array over device memory."""

    def __new__(cls, shape: Any, dtype: Any, memptr: MemoryPointer, strides: Any = None) -> Array:
        memory = memptr.memory
        buffer: Any = (ctypes.c_char * memory.nbytes).from_address(memory.ptr)
        self = super().__new__(cls, shape, dtype, buffer, memptr.ptr - memory.ptr, strides)
        self.memory = memory
        return self

    def __array_finalize__(self, source: Any) -> None:
        self.memory: Any = getattr(source, "memory", None)

    @property
    def data(self) -> Any:
        return SimpleNamespace(ptr=self.ctypes.data)

    @property
    def device(self) -> Any:
        return SimpleNamespace(id=self.memory.device)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {**self.__array_interface__, "stream": 1}

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return double.carry_out(getattr(ufunc, method), *inputs, **kwargs)

    def __getitem__(self, key: Any) -> Any:
        return double.carry_out(np.ndarray.__getitem__, self, key)

    def astype(self, *args: Any, **kwargs: Any) -> Any:
        return double.carry_out(np.ndarray.astype, self, *args, **kwargs)


class Device:
    """A GPU of two multiprocessors; the current one inside the with-block."""

    attributes: ClassVar[dict[str, int]] = {"MultiProcessorCount": 2, "MaxThreadsPerMultiProcessor": 512}

    def __init__(self, index: int) -> None:
        self._index = index

    def __enter__(self) -> None:
        self._before = double.runtime.getDevice()
        double.runtime.setDevice(self._index)

    def __exit__(self, *error: object) -> None:
        double.runtime.setDevice(self._before)


class RawModule:
    """Kernels, compiled for the CPU."""

    def __init__(self, code: str, options: tuple[str, ...]) -> None:
        self._code = code
        double.compiled.append((code, options))

    def get_function(self, name: str) -> Callable[..., None]:
        def launch(grid: tuple[int], _block: tuple[int], arguments: tuple[Any, ...]) -> None:
            double.runtime.run()
            double.launched.append((name, double.runtime.getDevice()))
            launch_on_host(self._code, name, grid[0], arguments)

        return launch


class CupyDouble(ModuleType):
    """The module `cupy`; `compat` is `array_api_compat.cupy`."""

    ndarray = Array
    RawModule = RawModule

    def __init__(self, runtime: RuntimeDouble) -> None:
        super().__init__("cupy")
        self.runtime = runtime
        self.allocator: Callable[[int], MemoryPointer] | None = None
        self.cuda = SimpleNamespace(
            UnownedMemory=UnownedMemory,
            MemoryPointer=MemoryPointer,
            using_allocator=self.using_allocator,
            runtime=SimpleNamespace(is_hip=False),
            Device=Device,
        )
        self.compiled: list[tuple[str, tuple[str, ...]]] = []
        self.launched: list[tuple[str, int]] = []
        self.compat = ModuleType("array_api_compat.cupy")
        self.compat.__getattr__ = lambda name: self.find(standard, name)  # type: ignore[method-assign]

    def __getattr__(self, name: str) -> Any:
        return self.find(np, name)

    def find(self, module: Any, name: str) -> Any:
        if name.startswith("__") or name in MISSING:
            raise AttributeError(name)
        function = getattr(module, name)
        return (lambda *args, **kwargs: self.carry_out(function, *args, **kwargs)) if callable(function) else function

    def byte_bounds(self, array: Array) -> tuple[int, int]:
        return np.lib.array_utils.byte_bounds(array.view(np.ndarray))

    @contextlib.contextmanager
    def using_allocator(self, allocator: Callable[[int], MemoryPointer]) -> Iterator[None]:
        before, self.allocator = self.allocator, allocator
        try:
            yield
        finally:
            self.allocator = before

    def carry_out(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a function of NumPy on the arrays; after the work that the streams were given, which the real one waits for."""
        self.runtime.run()
        operands: list[tuple[Array, np.ndarray[Any, Any]]] = []
        result = function(*self._plain(args, operands), **self._plain(kwargs, operands))
        return self._take(result, operands)

    def _plain(self, value: Any, operands: list[tuple[Array, np.ndarray[Any, Any]]]) -> Any:
        if isinstance(value, Array):
            operands.append((value, value.view(np.ndarray)))
            return operands[-1][1]
        if isinstance(value, dict):
            return {name: self._plain(part, operands) for name, part in value.items()}
        return type(value)(self._plain(part, operands) for part in value) if type(value) in (tuple, list) else value

    def _take(self, result: Any, operands: list[tuple[Array, np.ndarray[Any, Any]]]) -> Any:
        if isinstance(result, (tuple, list)):
            parts = [self._take(part, operands) for part in result]
            return type(result)(*parts) if hasattr(result, "_fields") else type(result)(parts)
        if not isinstance(result, (np.ndarray, np.generic)):
            return result
        found = np.asarray(result)
        given = next((operand for operand, plain in operands if found is plain), None)
        if given is not None:
            return given
        for operand, plain in operands:
            if found.size and np.may_share_memory(found, plain):
                view = found.view(Array)
                view.memory = operand.memory
                return view
        assert self.allocator is not None, "an array was made outside a computation"
        strides = found.strides if found.flags.f_contiguous else None
        made = Array(found.shape, found.dtype, self.allocator(found.nbytes), strides)
        made.view(np.ndarray)[...] = found
        return made


double: Any = None  # the one that a test has put in place
