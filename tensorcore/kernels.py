"""Array operations on the GPU by the kernels of cuda/: ``vectorized_add`` and its family, ``evaluate``, copies, reductions, guards.

    from tensorcore import kernels

    kernels.vectorized_add(a, b, out=c)            # a, b, c: CuPy arrays, or anything with __cuda_array_interface__

Elements are float16, bfloat16 (the dtype of the package ml_dtypes), float32 or float64; shapes and dtypes are equal, nothing is
broadcast or cast. Any strides are right; dense arrays of one order are fast (one pass at the memory's speed). An `out` that
overlaps an input acts as if the inputs had been read first. New arrays are CuPy's, from its current allocator; `tensorcore.simd`
has the same functions with tensors from a pool. Calls go to CuPy's current stream and wait for nothing, but those that return
figures of the host (`check_pattern`, `check_guards`).

Every function raises `DeviceUnavailableError` where no GPU is usable, TypeError for an array that is not in device memory or whose
dtype has no kernel, ValueError where shapes or dtypes differ or an element lies unaligned, and `DeviceMismatchError`, which is one
too, where devices differ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, SupportsFloat, SupportsIndex

import numpy as np

from ._kernel_copies import copy_densely, copy_operand, make_dense
from ._kernel_expression import evaluate_program
from ._kernel_maps import map_arrays
from ._kernel_operands import dense_order, find_suffix, may_overlap, require_alike, require_number, require_target
from ._kernels import PACK_BYTES, find_launcher
from ._simd_expression import compile_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._kernel_operands import Operand
    from ._kernels import Launcher

__all__ = [
    "GUARD",
    "POISON",
    "check_guards",
    "check_pattern",
    "evaluate",
    "fill_pattern",
    "set_guards",
    "vectorized_add",
    "vectorized_axpy",
    "vectorized_copy",
    "vectorized_divide",
    "vectorized_dot",
    "vectorized_fill",
    "vectorized_fma",
    "vectorized_max",
    "vectorized_min",
    "vectorized_multiply",
    "vectorized_scale",
    "vectorized_subtract",
    "vectorized_sum",
]

POISON = b"\xfb\xff"
"""What freed memory is filled with: a NaN as float16, bfloat16, float32 and float64, and no address."""

GUARD = b"\xa5\x5a\xc3\x3c\x96\x69\xf0\x0f"
"""What guard regions hold."""

_WITH_A_NUMBER = {"add": "a + b", "subtract": "a - b", "multiply": "a * b", "divide": "a / b"}
_INTACT = (1 << 64) - 1
_MOST_PARTIAL_RESULTS = 1024  # one block joins them


# ---- element by element ---------------------------------------------------------------------------------------------------------


def vectorized_add(a: Any, b: Any, out: Any = None) -> Any:
    """Return a + b, in `out` where it is given, else in a new array; one of them may be a Python number."""
    return _map("add", (a, b), out)


def vectorized_subtract(a: Any, b: Any, out: Any = None) -> Any:
    """Return a - b, all else as for `vectorized_add`."""
    return _map("subtract", (a, b), out)


def vectorized_multiply(a: Any, b: Any, out: Any = None) -> Any:
    """Return a * b, all else as for `vectorized_add`."""
    return _map("multiply", (a, b), out)


def vectorized_divide(a: Any, b: Any, out: Any = None) -> Any:
    """Return a / b, all else as for `vectorized_add`."""
    return _map("divide", (a, b), out)


def vectorized_fma(a: Any, b: Any, c: Any, out: Any = None) -> Any:
    """Return a * b + c, rounded once (for 16-bit elements: computed in float32, then rounded to the type)."""
    return _map("fma", (a, b, c), out)


def vectorized_scale(alpha: SupportsFloat, x: Any, out: Any = None) -> Any:
    """Return alpha * x; alpha is a float64 for float64 elements, else a float32."""
    return _map("scale", (x,), out, require_number(alpha))


def vectorized_axpy(alpha: SupportsFloat, x: Any, y: Any, out: Any = None) -> Any:
    """Return alpha * x + y, rounded as by `vectorized_fma`; alpha as for `vectorized_scale`."""
    return _map("axpy", (x, y), out, require_number(alpha))


def vectorized_copy(source: Any, out: Any = None) -> Any:
    """Return a copy of an array of any dtype and strides, in `out` where it is given, else in a new array in C order."""
    launcher = find_launcher()
    taken = launcher.operand(source)
    if out is None:
        return copy_densely(launcher, taken).owner
    result = launcher.operand(out)
    require_alike([taken, result])
    require_target(result)
    copy_operand(launcher, copy_densely(launcher, taken) if may_overlap(taken, result) else taken, result)
    return out


def vectorized_fill(out: Any, value: Any) -> Any:
    """Set every element of an array of any dtype and strides to `value`, which is cast to the dtype; return the array."""
    launcher = find_launcher()
    result = launcher.operand(out)
    element = np.asarray(value, result.dtype)
    if element.shape != ():
        raise ValueError(f"an array is filled with one value, not with an array of shape {element.shape}")
    if dense_order([result]) and PACK_BYTES % result.dtype.itemsize == 0:
        _fill(launcher, result.address, result.nbytes, element.tobytes(), result.device)
    else:
        one = launcher.operand(launcher.upload(element.reshape(1), result.device))
        copy_operand(launcher, one._replace(shape=result.shape, strides=(0,) * len(result.shape)), result)
    return out


def evaluate(expression: str, /, *, out: Any = None, **arrays: Any) -> Any:
    """Return what an expression computes, in one pass: each operation is rounded as NumPy's.

    NVRTC makes a kernel at its first use, one for each structure, dtype and device: other names and numbers take the same one.

    Parameters
    ----------
    expression
        Of names, numbers, + - * / and parentheses.
    out
        Where to write; None: a new array.
    **arrays
        The array or Python number of each name: 1 to 32 arrays. Numbers are rounded to the dtype of the arrays.

    Raises
    ------
    ValueError
        The expression is none, has something else, names no array, or has too many arrays or numbers.
    TypeError
        A name has no array, or an array is not in the expression.
    """
    program, operands = compile_for(expression, arrays)
    return evaluate_program(find_launcher(), program, operands, out)


def _map(name: str, inputs: tuple[Any, ...], out: Any, alpha: SupportsFloat | None = None) -> Any:
    if name in _WITH_A_NUMBER and any(type(x) in (int, float) for x in inputs):
        return evaluate(_WITH_A_NUMBER[name], out=out, a=inputs[0], b=inputs[1])
    launcher = find_launcher()

    def launch(operands: list[Operand], result: Operand, suffix: str) -> None:
        scalars = [] if alpha is None else [np.float64(float(alpha)) if suffix == "f64" else np.float32(float(alpha))]
        arguments = [np.uint64(result.size), *scalars, *(np.uint64(operand.address) for operand in (*operands, result))]
        launcher.launch(f"{name}_{suffix}", launcher.blocks_for(result.nbytes, result.device), arguments, result.device)

    return map_arrays(launcher, inputs, out, launch)


# ---- reductions -----------------------------------------------------------------------------------------------------------------


def vectorized_sum(x: Any) -> Any:
    """Return the sum of all elements as an array of no dimension; float32 and float64 add up in float64, the others in float32."""
    return _reduce("sum", (x,))


def vectorized_dot(x: Any, y: Any) -> Any:
    """Return the sum of x * y over all elements, added up as by `vectorized_sum`."""
    return _reduce("dot", (x, y))


def vectorized_min(x: Any) -> Any:
    """Return the least element as an array of no dimension, NaN where there is one; ValueError without elements."""
    return _reduce("min", (x,))


def vectorized_max(x: Any) -> Any:
    """Return the greatest element as an array of no dimension, NaN where there is one; ValueError without elements."""
    return _reduce("max", (x,))


def _reduce(name: str, inputs: tuple[Any, ...]) -> Any:
    launcher = find_launcher()
    operands = [launcher.operand(array) for array in inputs]
    require_alike(operands)
    suffix = find_suffix(operands)
    if operands[0].size == 0 and name in ("min", "max"):
        raise ValueError(f"an array of shape {operands[0].shape} has no {name}: it has no element")
    operands, _ = make_dense(launcher, operands)
    first = operands[0]
    blocks = min(launcher.blocks_for(first.nbytes, first.device), _MOST_PARTIAL_RESULTS) if first.size else 0
    sums = np.dtype("f4" if suffix in ("f16", "bf16") else "f8")
    partial = launcher.operand(launcher.empty((max(1, blocks),), sums, first.device))
    result = launcher.operand(launcher.empty((), first.dtype, first.device))
    if blocks:
        addresses = [np.uint64(operand.address) for operand in (*operands, partial)]
        launcher.launch(f"{name}_{suffix}", blocks, [np.uint64(first.size), *addresses], first.device)
    finish = [np.uint64(blocks), np.uint64(partial.address), np.uint64(result.address)]
    launcher.launch(f"finish_{'sum' if name == 'dot' else name}_{suffix}", 1, finish, first.device)
    return result.owner


# ---- memory by address: for pools -----------------------------------------------------------------------------------------------


def fill_pattern(address: int, nbytes: SupportsIndex, pattern: bytes = POISON, *, device: int | None = None) -> None:
    """Fill `nbytes` bytes with a pattern of 1, 2, 4, 8 or 16 bytes, repeated from the address on; None: the current device."""
    launcher = find_launcher()
    _fill(launcher, address, int(nbytes), pattern, _device(launcher, device))


def check_pattern(address: int, nbytes: SupportsIndex, pattern: bytes = POISON, *, device: int | None = None) -> int | None:
    """Return the offset of the first byte that differs from the pattern, None where none does; waits for the stream."""
    launcher, size = find_launcher(), int(nbytes)
    where, low, high = _device(launcher, device), *_words(pattern)
    foreign = launcher.operand(launcher.upload(np.array([_INTACT], "u8"), where))
    arguments = [np.uint64(size), low, high, np.uint64(address), np.uint64(foreign.address)]
    launcher.launch("check_pattern", launcher.blocks_for(size, where), arguments, where)
    return _offset(launcher.download(foreign.owner)[0])


def set_guards(regions: Sequence[tuple[int, int]], pattern: bytes = GUARD, *, device: int | None = None) -> None:
    """Fill each guard region, an address and its bytes, with the pattern; all in one launch."""
    launcher = find_launcher()
    where = _device(launcher, device)
    if regions:
        _launch_guards(launcher, "set_guards", regions, pattern, where)


def check_guards(regions: Sequence[tuple[int, int]], pattern: bytes = GUARD, *, device: int | None = None) -> list[int | None]:
    """Return for each guard region the offset of the first byte that was overwritten, None where none was; waits for the stream."""
    launcher = find_launcher()
    where = _device(launcher, device)
    if not regions:
        return []
    foreign = launcher.operand(launcher.upload(np.full(len(regions), _INTACT, "u8"), where))
    _launch_guards(launcher, "check_guards", regions, pattern, where, np.uint64(foreign.address))
    return [_offset(offset) for offset in launcher.download(foreign.owner)]


def _launch_guards(
    launcher: Launcher, kernel: str, regions: Sequence[tuple[int, int]], pattern: bytes, device: int, *more: np.uint64
) -> None:
    starts, sizes = (launcher.operand(launcher.upload(np.array([region[i] for region in regions], "u8"), device)) for i in (0, 1))
    low, high = _words(pattern)
    arguments = [np.uint64(len(regions)), low, high, np.uint64(starts.address), np.uint64(sizes.address), *more]
    launcher.launch(kernel, min(len(regions), launcher.max_blocks(device)), arguments, device)


def _fill(launcher: Launcher, address: int, nbytes: int, pattern: bytes, device: int) -> None:
    low, high = _words(pattern)
    if nbytes:
        arguments = [np.uint64(nbytes), low, high, np.uint64(address)]
        launcher.launch("fill_pattern", launcher.blocks_for(nbytes, device), arguments, device)


def _words(pattern: bytes) -> tuple[np.uint64, np.uint64]:
    """Return a pattern, repeated to 16 bytes, as the two words that kernels take."""
    if not pattern or PACK_BYTES % len(pattern):
        raise ValueError(f"a pattern has 1, 2, 4, 8 or 16 bytes, not {len(pattern)}")
    low, high = np.frombuffer(pattern * (PACK_BYTES // len(pattern)), "<u8")
    return low, high


def _offset(found: np.uint64) -> int | None:
    return None if found == _INTACT else int(found)


def _device(launcher: Launcher, device: int | None) -> int:
    return launcher.current_device() if device is None else device
