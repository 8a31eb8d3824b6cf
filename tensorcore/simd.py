"""Arithmetic at the memory's speed on tensors, arrays and pooled blocks: `vectorized_add` and its family, `evaluate`, reductions.

    from tensorcore import simd

    c = simd.vectorized_add(a, b)                            # a new Tensor, from the pool
    simd.vectorized_add(a, b, out=c)                         # NumPy arrays too
    d = simd.evaluate("a*b + c*d - e", a=a, b=b, c=c, d=d, e=e)  # one pass over the memory

Operands are tensors, NumPy arrays, `PooledAllocation` (its start, taken as an array like the others), or anything that NumPy makes
an array of; in element-wise functions numbers too. Dense arrays of float32, float64, int32 or int64 with one shape, dtype and order
take the quick way: the widest SIMD instructions of the CPU, several threads from 4 MiB on, and stores past the cache for a result
larger than half of it. Everything else (strides, broadcasting, mixed and other types) is right too, computed by NumPy.

Results of + - * / have NumPy's bits; integers wrap. `out` may be an input or overlap one: the result is as if all inputs had been
read first. Without `out` the result is a new `Tensor` in the pool of the first tensor or allocation, else in the global pool.
On a GPU the work is that of `tensorcore.kernels`, with its narrower rules: one shape and one dtype, of float16, bfloat16, float32
and float64. A reduction too gives a tensor there, of no dimensions: a number of the host would have to wait for the stream.
Operands on several devices raise `DeviceMismatchError`.
Floating-point errors (a division by zero, an overflow) give infinities and NaN and no warning. The GIL is released from 128 KiB on.
"""

from __future__ import annotations

import operator
import os
import warnings
from typing import Any, SupportsFloat, SupportsIndex

from . import _simd_device as _device
from . import _simd_expression as _expression
from . import _simd_general as _host
from ._errors import TensorCoreWarning
from ._lib import ffi, lib, native
from ._tensor import Tensor

__all__ = [
    "available_instruction_sets",
    "evaluate",
    "get_instruction_set",
    "get_num_threads",
    "set_instruction_set",
    "set_num_threads",
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

_call, _reduce = native.simd_call, native.simd_reduce  # None: not for the quick way
_ADD, _SUBTRACT, _MULTIPLY, _DIVIDE, _FMA, _COPY = map(
    _expression.single_step,
    (_expression.ADD, _expression.SUBTRACT, _expression.MULTIPLY, _expression.DIVIDE, _expression.FMA, _expression.COPY),
)
_SUM, _DOT, _MIN, _MAX = (int(x) for x in (lib.TC_SIMD_SUM, lib.TC_SIMD_DOT, lib.TC_SIMD_MIN, lib.TC_SIMD_MAX))


def _module_for(*operands: Any) -> Any:
    """Return the module whose functions of the same names work on the operands' device: the one place that asks for it."""
    return _device if any(map(_device.is_on_device, operands)) else _host


# ---- element by element ---------------------------------------------------------------------------------------------------------


def vectorized_add(a: Any, b: Any, out: Any = None) -> Any:
    """Return a + b.

    Parameters
    ----------
    a, b
        Arrays or numbers, at least one array.
    out
        Where to write; None: a new tensor.

    Returns
    -------
    Tensor or whatever `out` is

    Raises
    ------
    OutOfMemoryError
        The pool could not hand out the result.
    TypeError, ValueError
        `out` is no array, read-only, of another shape, or of a dtype that the result can't be cast to; shapes don't broadcast; an
        allocation without a dtype; a masked array.
    """
    done = _call(Tensor, out, _ADD, a, b)
    return _module_for(a, b, out).vectorized_add(a, b, out) if done is None else done


def vectorized_subtract(a: Any, b: Any, out: Any = None) -> Any:
    """Return a - b; all else as for `vectorized_add`."""
    done = _call(Tensor, out, _SUBTRACT, a, b)
    return _module_for(a, b, out).vectorized_subtract(a, b, out) if done is None else done


def vectorized_multiply(a: Any, b: Any, out: Any = None) -> Any:
    """Return a * b; all else as for `vectorized_add`."""
    done = _call(Tensor, out, _MULTIPLY, a, b)
    return _module_for(a, b, out).vectorized_multiply(a, b, out) if done is None else done


def vectorized_divide(a: Any, b: Any, out: Any = None) -> Any:
    """Return a / b, in floating point for integers too (as NumPy's); all else as for `vectorized_add`."""
    done = _call(Tensor, out, _DIVIDE, a, b)
    return _module_for(a, b, out).vectorized_divide(a, b, out) if done is None else done


def vectorized_fma(a: Any, b: Any, c: Any, out: Any = None) -> Any:
    """Return a * b + c, rounded once: not the bits of NumPy's two operations. All else as for `vectorized_add`.

    TypeError where the common dtype is none of float32, float64, int32, int64.
    """
    done = _call(Tensor, out, _FMA, a, b, c)
    return _module_for(a, b, c, out).vectorized_fma(a, b, c, out) if done is None else done


def vectorized_scale(alpha: SupportsFloat, x: Any, out: Any = None) -> Any:
    """Return alpha * x; the number alpha is converted to the dtype of x first. All else as for `vectorized_add`."""
    done = _call(Tensor, out, _MULTIPLY, alpha, x) if type(alpha) in (int, float) else None
    return _module_for(x, out).vectorized_scale(alpha, x, out) if done is None else done


def vectorized_axpy(alpha: SupportsFloat, x: Any, y: Any, out: Any = None) -> Any:
    """Return alpha * x + y, rounded once as by `vectorized_fma`; alpha as for `vectorized_scale`."""
    done = _call(Tensor, out, _FMA, alpha, x, y) if type(alpha) in (int, float) else None
    return _module_for(x, y, out).vectorized_axpy(alpha, x, y, out) if done is None else done


def vectorized_copy(source: Any, out: Any = None) -> Any:
    """Return a copy of an array of any dtype, in C order where it is new; all else as for `vectorized_add`."""
    done = _call(Tensor, out, _COPY, source)
    return _module_for(source, out).vectorized_copy(source, out) if done is None else done


def vectorized_fill(out: Any, value: Any) -> Any:
    """Set every element of an array of any dtype to one value, cast as by NumPy's `fill`, and return the array.

    Raises
    ------
    TypeError, ValueError, OverflowError
        `out` is no array or read-only; the value is not one, or an integer beyond the dtype.
    """
    done = _call(Tensor, out, _COPY, value) if type(value) in (int, float) and out is not None else None
    return _module_for(out).vectorized_fill(out, value) if done is None else done


def evaluate(expression: str, /, *, out: Any = None, **arrays: Any) -> Any:
    """Return what an expression computes, in one pass: intermediate results never leave the nearest cache.

    Parameters
    ----------
    expression
        Of names, numbers, + - * / and parentheses.
    out
        Where to write; None: a new tensor.
    **arrays
        The array or number of each name. Another number needs no other program, but where numbers meet (``"dt*k*a"``): these are
        computed by Python, as for NumPy, and the expression is compiled for them.

    Returns
    -------
    Tensor or whatever `out` is
        The bits that NumPy gives for the expression. Operands that don't take the quick way are computed in a pass per operation;
        on a GPU all take one pass, by a kernel that is made at the first use of an expression.

    Raises
    ------
    ValueError
        The expression is none, has something else, or names no array.
    TypeError
        A name has no array, or an array is not in the expression; and all that `vectorized_add` raises.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.arange(3.0)
    >>> evaluate("2*x*x - x/4", x=x).tolist()
    [0.0, 1.75, 7.5]
    """
    program, operands = _expression.compile_for(expression, arrays)
    inputs = [operands[name] for name in program.names]
    done = _call(Tensor, out, program.code, *inputs, *program.numbers) if program.code is not None else None
    return _module_for(*inputs, out).evaluate(expression, out=out, **arrays) if done is None else done


# ---- reductions -----------------------------------------------------------------------------------------------------------------


def vectorized_sum(x: Any) -> Any:
    """Return the sum of all elements as a NumPy scalar: of the dtype, for integers int64; on a GPU as a tensor of no dimensions.

    Sums of float64 carry what each addition lost, so that the error is about that of rounding the exact sum once (NumPy's grows
    with the length). Those of float32 are computed in float64 and carry what is lost every sixteen numbers: an error of 1e-15 of
    the sum of the magnitudes, and one rounding. They have the same bits on every instruction set and any number of threads, not
    always those of NumPy. A sum that overflows on the way is infinite or NaN. On a GPU float32 and float64 are added up in
    float64, 16-bit elements in float32.
    """
    done = _reduce(_SUM, x, None)
    return _module_for(x).vectorized_sum(x) if done is None else done


def vectorized_dot(x: Any, y: Any) -> Any:
    """Return the sum of x * y over all elements, of their common dtype; as accurate as `vectorized_sum`.

    ValueError where the shapes differ.
    """
    done = _reduce(_DOT, x, y) if y is not None else None
    return _module_for(x, y).vectorized_dot(x, y) if done is None else done


def vectorized_min(x: Any) -> Any:
    """Return the least element as a NumPy scalar (on a GPU a tensor), NaN where there is one; which of -0.0 and 0.0 is left open.

    ValueError where there is no element.
    """
    done = _reduce(_MIN, x, None)
    return _module_for(x).vectorized_min(x) if done is None else done


def vectorized_max(x: Any) -> Any:
    """Return the greatest element, all else as for `vectorized_min`."""
    done = _reduce(_MAX, x, None)
    return _module_for(x).vectorized_max(x) if done is None else done


# ---- settings -------------------------------------------------------------------------------------------------------------------


def get_num_threads() -> int:
    """Return how many threads work on a large array, the caller's among them; at first the CPUs that the process may run on."""
    return int(lib.tc_simd_threads())


def set_num_threads(threads: SupportsIndex) -> int:
    """Set how many threads work on a large array, for the whole process, and return the old number.

    ValueError where it is not in 1 ... 64. ``TENSORCORE_SIMD_THREADS`` in the environment sets it at the start.
    """
    count = operator.index(threads)
    old = int(lib.tc_simd_set_threads(count)) if 1 <= count <= lib.TC_SIMD_MAX_THREADS else 0
    if old == 0:
        raise ValueError(f"1 to {lib.TC_SIMD_MAX_THREADS} threads can share the work, not {count}")
    return old


def available_instruction_sets() -> tuple[str, ...]:
    """Return the instruction sets of this CPU that were compiled in, the widest first: of avx512, avx2, sse2; neon; baseline."""
    names: list[str] = []
    while (name := lib.tc_simd_available(len(names))) != ffi.NULL:
        names.append(ffi.string(name).decode())
    return tuple(names)


def get_instruction_set() -> str:
    """Return the instruction set in use, at first the widest."""
    return str(ffi.string(lib.tc_simd_selected()).decode())


def set_instruction_set(name: str) -> str:
    """Use one of `available_instruction_sets`, for the whole process, and return the old one; ValueError where it is none of them.

    ``TENSORCORE_SIMD`` in the environment sets it at the start.
    """
    old, available = get_instruction_set(), available_instruction_sets()
    if name not in available:
        raise ValueError(f"this CPU has {', '.join(available)}, not {name!r}")
    lib.tc_simd_select(name.encode())
    return old


def _read_environment() -> None:
    """Take what the environment asks for; what makes no sense is left aside with a warning: an import should not fail of it."""
    for variable, apply in (
        ("TENSORCORE_SIMD", set_instruction_set),
        ("TENSORCORE_SIMD_THREADS", lambda text: set_num_threads(int(text))),
    ):
        try:
            apply(os.environ[variable])
        except KeyError:
            continue
        except ValueError as error:
            warnings.warn(f"{variable}={os.environ[variable]!r} is left aside: {error}", TensorCoreWarning, stacklevel=2)


_read_environment()
