"""What the tests of `tensorcore.simd` share: arrays of all kinds of elements, and when two results are the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st

import tensorcore as tc
from tensorcore import simd

if TYPE_CHECKING:
    from collections.abc import Callable

    Array = np.ndarray[Any, np.dtype[Any]]

DTYPES = ("float32", "float64", "int32", "int64")
BINARY: dict[str, tuple[Callable[..., Any], np.ufunc]] = {
    "add": (simd.vectorized_add, np.add),
    "subtract": (simd.vectorized_subtract, np.subtract),
    "multiply": (simd.vectorized_multiply, np.multiply),
    "divide": (simd.vectorized_divide, np.true_divide),
}
sizes = st.one_of(st.integers(0, 4097), st.sampled_from([n + d for n in (16, 32, 64, 128, 512, 1024, 4096) for d in (-1, 0, 1)]))
offsets = st.integers(0, 15)


def bits(x: Any) -> tuple[Any, ...]:
    """Return what two results must agree in: shape, dtype and bytes; a NaN is a NaN."""
    found = np.ascontiguousarray(x)
    if found.dtype.kind == "f":
        found = np.where(np.isnan(found), found.dtype.type(np.nan), found)
    return np.shape(x), found.dtype, found.tobytes()


def numbers(dtype: str, count: int, seed: int, offset: int = 0) -> Array:
    """Return random elements, all kinds of them, that begin `offset` elements after an aligned address."""
    random = np.random.default_rng(seed)
    room = np.asarray(tc.Tensor((count + offset,), dtype))
    if dtype.startswith("int"):
        room[:] = random.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, count + offset, dtype)
    else:
        room[:] = random.standard_normal(count + offset) * 10.0 ** random.integers(-30, 30, count + offset)
        special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan], dtype)
        where = random.random(count + offset) < 0.05
        room[where] = random.choice(special, int(where.sum()))
    return room[offset:]
