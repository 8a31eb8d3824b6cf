"""What `simd` does where the quick way does not: strides, mixed types, broadcasting, overlaps, and memory of every kind.

The work is NumPy's, the storage of each result and of each dense copy the pool's. A function here has the name and the arguments of
the one in `simd`. Floating-point errors are silent, as they are on the quick way.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from ._allocation import PooledAllocation
from ._errors import DeviceMismatchError
from ._kernel_operands import require_number
from ._lib import ffi, lib, pointer
from ._simd_expression import ADD, DIVIDE, FMA, MULTIPLY, NEGATE, SUBTRACT, compile_for
from ._tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._pool import MemoryPool

    Array = np.ndarray[Any, np.dtype[Any]]

_TYPES: dict[str, int] = {"f4": lib.TC_SIMD_F32, "f8": lib.TC_SIMD_F64, "i4": lib.TC_SIMD_I32, "i8": lib.TC_SIMD_I64}
_UFUNCS = {ADD: np.add, SUBTRACT: np.subtract, MULTIPLY: np.multiply, DIVIDE: np.true_divide, NEGATE: np.negative}


# ---- element by element ---------------------------------------------------------------------------------------------------------


def vectorized_add(a: Any, b: Any, out: Any = None) -> Any:
    """Return a + b."""
    return _by_ufunc(np.add, (a, b), out)


def vectorized_subtract(a: Any, b: Any, out: Any = None) -> Any:
    """Return a - b."""
    return _by_ufunc(np.subtract, (a, b), out)


def vectorized_multiply(a: Any, b: Any, out: Any = None) -> Any:
    """Return a * b."""
    return _by_ufunc(np.multiply, (a, b), out)


def vectorized_divide(a: Any, b: Any, out: Any = None) -> Any:
    """Return a / b."""
    return _by_ufunc(np.true_divide, (a, b), out)


def vectorized_fma(a: Any, b: Any, c: Any, out: Any = None) -> Any:
    """Return a * b + c, rounded once."""
    arrays, target = _arrays((a, b, c), out)
    shape, dtype = np.broadcast_shapes(*map(np.shape, arrays)), np.result_type(*arrays)
    code = _require_type(dtype, "fma")
    pool = _pool_of((a, b, c))
    with np.errstate(all="ignore"):
        dense = [_dense(array, dtype, shape, pool) for array in arrays]
    if target is not None and not (target.shape == shape and np.can_cast(dtype, target.dtype, "same_kind")):
        raise ValueError(f"a result of shape {shape} and dtype {dtype} does not fit out: it has {target.shape} and {target.dtype}")
    result = Tensor(shape, dtype, pool=pool)  # whatever `out` is: it may overlap, have gaps or be of another type
    inputs = ffi.new("void *[3]", [_pointer(array) for array in dense])
    assert lib.tc_simd_map(FMA, code, result.size, _pointer(_host_array(result)), inputs, 0) == lib.TC_OK
    if target is None:
        return result
    np.copyto(target, _host_array(result), casting="same_kind")
    return out


def vectorized_scale(alpha: Any, x: Any, out: Any = None) -> Any:
    """Return alpha * x."""
    (array,), _ = _arrays((x,), out)
    return _by_ufunc(np.multiply, (_number(alpha, array), x), out)


def vectorized_axpy(alpha: Any, x: Any, y: Any, out: Any = None) -> Any:
    """Return alpha * x + y, rounded once."""
    (array, _), _ = _arrays((x, y), out)
    return vectorized_fma(_number(alpha, array), x, y, out)


def vectorized_copy(source: Any, out: Any = None) -> Any:
    """Return a copy."""
    (array,), target = _arrays((source,), out)
    if target is not None:
        np.copyto(target, array)
        return out
    copy = Tensor(np.shape(array), np.asarray(array).dtype, pool=_pool_of((source,)))
    copy[...] = array
    return copy


def vectorized_fill(out: Any, value: Any) -> Any:
    """Set every element."""
    target = _as_target(out.array() if isinstance(out, PooledAllocation) else out)
    if np.shape(value) != ():
        raise ValueError(f"an array is filled with one value, not with an array of shape {np.shape(value)}")
    with np.errstate(all="ignore"):
        target[...] = value
    return out


def evaluate(expression: str, /, *, out: Any = None, **arrays: Any) -> Any:
    """Return what an expression computes, one operation after the other."""
    program, operands = compile_for(expression, arrays)
    results: list[Any] = []
    for number, (operation, where) in enumerate(program.steps):
        inputs = [results[x[0]] if isinstance(x, tuple) else operands[x] if isinstance(x, str) else x for x in where]
        target = out if number == len(program.steps) - 1 else None
        ufunc = _UFUNCS.get(operation)
        results.append(_by_ufunc(ufunc, inputs, target) if ufunc is not None else vectorized_copy(inputs[0], target))
    return results[-1]


def _by_ufunc(ufunc: np.ufunc, inputs: Sequence[Any], out: Any) -> Any:
    arrays, target = _arrays(inputs, out)
    result = out
    if target is None:
        kinds = [x.dtype if isinstance(x, np.ndarray | np.generic) else type(x) for x in arrays]
        dtype = ufunc.resolve_dtypes((*kinds, None))[-1]
        result = Tensor(np.broadcast_shapes(*map(np.shape, arrays)), dtype, pool=_pool_of(inputs))
        target = _host_array(result)
    with np.errstate(all="ignore"):
        ufunc(*arrays, out=target)
    return result


# ---- reductions -----------------------------------------------------------------------------------------------------------------


def vectorized_sum(x: Any) -> Any:
    """Return the sum of all elements."""
    array = _summable(x)
    code = _TYPES.get(array.dtype.str[1:])
    if code is None:
        return np.sum(array)
    result = np.empty((), "i8" if array.dtype.kind == "i" else array.dtype.newbyteorder("="))
    return _reduce(lib.TC_SIMD_SUM, code, _pool_of((x,)), [array], result)


def vectorized_dot(x: Any, y: Any) -> Any:
    """Return the sum of x * y."""
    a, b = _summable(x, y), _summable(y, x)
    if np.shape(a) != np.shape(b):
        raise ValueError(f"shapes differ: {np.shape(a)} and {np.shape(b)}; nothing is broadcast here")
    dtype = np.result_type(a, b)
    code = _TYPES.get(dtype.str[1:])
    if code is None:
        return np.dot(np.ravel(a), np.ravel(b))
    return _reduce(lib.TC_SIMD_DOT, code, _pool_of((x, y)), [a, b], np.empty((), dtype))


def vectorized_min(x: Any) -> Any:
    """Return the least element."""
    return np.min(_summable(x))


def vectorized_max(x: Any) -> Any:
    """Return the greatest element."""
    return np.max(_summable(x))


def _summable(x: Any, *others: Any) -> Array:
    """Return an operand of a reduction as an array; TypeError where it has no numbers."""
    array = np.asarray(_arrays((x, *others), None)[0][0])
    if array.dtype.kind == "O":
        raise TypeError(f"an array of numbers can be reduced, not {type(x).__name__}")
    return array


def _reduce(kind: int, code: int, pool: MemoryPool | None, arrays: list[Array], result: Array) -> Any:
    dtype = arrays[0].dtype if len(arrays) == 1 else result.dtype
    dense = [_dense(array, dtype.newbyteorder("="), array.shape, pool) for array in arrays]
    first, last = _pointer(dense[0]), _pointer(dense[-1])
    assert lib.tc_simd_reduce(kind, code, arrays[0].size, first, last, _pointer(result)) == lib.TC_OK
    return result[()]


# ---- operands -------------------------------------------------------------------------------------------------------------------


def _arrays(inputs: Sequence[Any], out: Any) -> tuple[list[Any], Array | None]:
    """Return the inputs as arrays or Python numbers, and `out` as an array over its memory.

    A `PooledAllocation` is taken as an array of the shape and dtype of the first of them all that has these.
    """
    everything = [*inputs, out]
    arrays = [None if isinstance(x, PooledAllocation) else _as_array(x) for x in inputs]
    arrays.append(None if out is None or isinstance(out, PooledAllocation) else _as_target(out))
    if any(isinstance(x, PooledAllocation) for x in everything):
        known = (x for x in arrays if isinstance(x, np.ndarray))
        model = max(known, key=lambda x: x.ndim > 0, default=None)  # the first that has a shape to give, else the first
        if model is None:
            raise TypeError("a PooledAllocation has no dtype of its own: name it, by block.array(dtype, shape)")
        arrays = [
            x.array(model.dtype, model.shape) if isinstance(x, PooledAllocation) else y
            for x, y in zip(everything, arrays, strict=True)
        ]
    return arrays[:-1], arrays[-1]


def _as_array(x: Any) -> Any:
    if isinstance(x, Tensor):
        return _host_array(x)
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError("a masked array's mask would be ignored: pass x.data, or x.filled(value)")
    if type(x) in (int, float, complex):
        return x
    return np.asarray(x)


def _host_array(tensor: Tensor) -> Array:
    array = tensor._array
    if not isinstance(array, np.ndarray):
        raise DeviceMismatchError(f"a tensor on {tensor.device} is no operand on the CPU: copy it with to('cpu')")
    return array


def _as_target(out: Any) -> Array:
    if isinstance(out, Tensor):
        return _host_array(out)
    try:
        target = None if out is None else np.asarray(out, copy=False)
    except ValueError:
        target = None
    if target is None or isinstance(out, np.generic | np.ma.MaskedArray):
        raise TypeError(f"out is the array to write to, not {type(out).__name__}: pass a Tensor, an array or a PooledAllocation")
    if not target.flags.writeable:
        raise ValueError("out is read-only: pass an array that may be written to")
    return target


def _pool_of(inputs: Sequence[Any]) -> MemoryPool | None:
    """Return the pool of the first tensor or allocation among them; None: there is none, so the global one."""
    return next((x.pool for x in inputs if isinstance(x, Tensor | PooledAllocation) and x.pool is not None), None)


def _dense(array: Any, dtype: np.dtype[Any], shape: tuple[int, ...], pool: MemoryPool | None) -> Array:
    """Return the array as it is where it is in C order, aligned and of that shape and dtype; else such a copy in the pool."""
    alike = isinstance(array, np.ndarray) and array.dtype == dtype and array.shape == shape
    if alike and array.flags.c_contiguous and array.flags.aligned:
        return array  # type: ignore[no-any-return] # an ndarray, as `alike` says
    copy = _host_array(Tensor(shape, dtype, pool=pool))
    np.copyto(copy, array)
    return copy


def _number(alpha: Any, array: Any) -> Any:
    """Return a factor as an element of the array's dtype; OverflowError or TypeError where it can't be one."""
    require_number(alpha)
    dtype = np.asarray(array).dtype
    if dtype.kind in "iu":
        return dtype.type(operator.index(alpha))
    with np.errstate(all="ignore"):
        return dtype.type(float(alpha) if dtype.kind == "f" else alpha)


def _require_type(dtype: np.dtype[Any], what: str) -> int:
    code = _TYPES.get(dtype.str[1:])
    if code is None:
        raise TypeError(f"there is no {what} of {dtype}: cast to one of float32, float64, int32, int64")
    return code


def _pointer(array: Array) -> Any:
    return pointer(array.ctypes.data)
