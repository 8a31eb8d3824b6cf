"""HostLauncher: the kernels of cuda/ on the CPU, compiled by the C++ compiler with tests/cuda/host.h; and arrays to try them on.

UBSan watches: a 16-byte access to an address that is no multiple of 16, which x86 allows and a GPU does not, is a failed test. The
fixture that puts the launcher in place is in conftest.py.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tensorcore import _kernels
from tensorcore._kernel_operands import Operand

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tensorcore._kernel_operands import Order

Array = np.ndarray[Any, np.dtype[Any]]

HERE = Path(__file__).parent
COMPILER = shutil.which(os.environ.get("CXX", "c++"))
FLAGS = ["-std=c++17", "-O1", "-shared", "-fPIC", "-ffp-contract=off", "-fno-strict-aliasing", "-w"]
WATCH = ["-fsanitize=alignment,bounds,shift,signed-integer-overflow,pointer-overflow"]
FLOATS = ("float16", "float32", "float64")
GUARD_BYTES = 64

# ---- kernels on the CPU ----------------------------------------------------------------------------------------------------------


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="tensorcore-kernels-")


@functools.cache
def compiled(source: str, kernels: tuple[str, ...]) -> ctypes.CDLL:
    """Return a library of kernels with a table of them by name; once for each source in a process."""
    path = Path(_folder().name, f"{compiled.cache_info().misses}.cpp")
    library = path.with_suffix(".so")
    entries = "".join(f"ENTRY({kernel}) " for kernel in kernels)
    path.write_text(
        f'#include "host.h"\n{source}\n'
        f"static const Entry entries[] = {{ {entries} {{NULL, NULL, 0}} }};\n"
        'extern "C" int run(const char *name, unsigned blocks, unsigned threads, void **arguments, unsigned long long count) {\n'
        "  return run_entry(entries, name, blocks, threads, arguments, count);\n}\n"
    )
    assert COMPILER is not None
    command = [COMPILER, *FLAGS, f"-I{HERE / 'cuda'}", str(path), "-o", str(library)]
    watched = subprocess.run([*command, *WATCH], capture_output=True, text=True, check=False)
    if watched.returncode:  # a compiler without UBSan's library
        subprocess.run(command, check=True)
    return ctypes.CDLL(str(library))


def launch_on_host(source: str, kernel: str, blocks: int, arguments: Sequence[Any]) -> None:
    """Run a kernel of a source, block after block."""
    kernels = tuple(_kernels.KERNELS[_kernels.FILE_OF[kernel]]) if kernel in _kernels.FILE_OF else (kernel,)
    values = [np.atleast_1d(argument) for argument in arguments]
    pointers = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
    count = ctypes.c_ulonglong(len(values))
    assert compiled(source, kernels).run(kernel.encode(), blocks, _kernels.BLOCK, pointers, count) == 0, kernel


class HostLauncher(_kernels.Launcher):
    """NumPy arrays as device arrays, the CPU as the device; few blocks, so that every kernel's grid-stride loop goes round."""

    def __init__(self) -> None:
        self.blocks = 3
        self.launched: list[str] = []
        self.expressions: list[str] = []

    def operand(self, array: Any) -> Operand:
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{type(array).__name__} is not in device memory")
        device = 1 if getattr(array, "on_device_1", False) else 0
        return Operand(array, array.ctypes.data, array.shape, array.strides, array.dtype, device)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any], device: int, order: Order = "C") -> Any:
        assert device == 0
        return np.full(shape, np.zeros((), dtype), order=order)

    def upload(self, array: Array, device: int) -> Any:
        assert device == 0
        return array.copy()

    def download(self, array: Any) -> Array:
        copy: Array = array.copy()
        return copy

    def current_device(self) -> int:
        return 0

    def max_blocks(self, device: int) -> int:
        assert device == 0
        return self.blocks

    def launch(self, kernel: str, blocks: int, arguments: Sequence[Any], device: int, expression: str | None = None) -> None:
        assert device == 0
        if expression is None:
            launch_on_host(_kernels.read_source(_kernels.FILE_OF[kernel]), kernel, blocks, arguments)
        else:
            launch_on_host(_kernels.complete_source(expression), kernel, blocks, arguments)
            self.expressions.append(expression)
        self.launched.append(kernel)


# ---- arrays to try them on -------------------------------------------------------------------------------------------------------


class Buffer:
    """Memory with guard bytes around an array in it that starts `offset` bytes past a multiple of 64."""

    def __init__(self, values: Array, offset: int = 0) -> None:
        self._raw = np.full(values.nbytes + offset + 2 * GUARD_BYTES + 64, 0xA5, "u1")
        start = -self._raw.ctypes.data % 64 + GUARD_BYTES + offset
        self._span = slice(start, start + values.nbytes)
        self.array: Array = self._raw[self._span].view(values.dtype).reshape(values.shape)
        self.array[...] = values

    def is_intact(self) -> bool:
        """Whether the bytes around the array are as they were."""
        return bool((self._raw[: self._span.start] == 0xA5).all() and (self._raw[self._span.stop :] == 0xA5).all())


def sample(dtype: str, n: int, seed: int) -> Array:
    """Numbers of both signs with some that are special."""
    generator = np.random.default_rng(seed)
    values: Array = generator.standard_normal(n).astype(dtype)
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, np.finfo(dtype).max, np.finfo(dtype).tiny, 1e-7], dtype)
    values[:: max(1, n // 16)] = generator.choice(special, len(values[:: max(1, n // 16)]))
    return values


def same(found: Array, expected: Array) -> bool:
    """Whether all bits agree, any NaN being as good as another."""
    assert found.dtype == expected.dtype
    bits = f"u{found.dtype.itemsize}"
    return bool(np.all((found.view(bits) == expected.view(bits)) | (np.isnan(found) & np.isnan(expected))))


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "C": lambda a: a,
    "F": np.asfortranarray,
    "reversed": lambda a: a[::-1, :, ::-1],
    "strided": lambda a: np.repeat(a, 3, axis=1)[:, ::3],
    "permuted": lambda a: np.ascontiguousarray(a.transpose(1, 0, 2)).transpose(1, 0, 2),
    "broadcast": lambda a: np.broadcast_to(a[:1], a.shape),
}
