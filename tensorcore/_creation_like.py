"""Tensors made like others, grids of numbers and identity matrices: the standard's creation functions beyond `_creation`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import array_api_compat.numpy as xp

from ._creation import choose_pool, full, make, zeros
from ._tensor import Tensor

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from ._backend import Device
    from ._pool import MemoryPool

__all__ = ["empty_like", "eye", "full_like", "linspace", "ones_like", "zeros_like"]


def empty_like(x: Tensor, /, *, dtype: DTypeLike | None = None, device: str | Device | None = None) -> Tensor:
    """Return a tensor of the shape, and unless told otherwise the type and pool, of another one; it is not initialised."""
    return Tensor(x.shape, *_like(x, dtype), pool=_pool_like(x, device))


def zeros_like(x: Tensor, /, *, dtype: DTypeLike | None = None, device: str | Device | None = None) -> Tensor:
    """Return zeros of the shape, and unless told otherwise the type and pool, of another tensor."""
    return zeros(x.shape, *_like(x, dtype), pool=_pool_like(x, device))


def ones_like(x: Tensor, /, *, dtype: DTypeLike | None = None, device: str | Device | None = None) -> Tensor:
    """Return ones of the shape, and unless told otherwise the type and pool, of another tensor."""
    return full(x.shape, 1, *_like(x, dtype), pool=_pool_like(x, device))


def full_like(x: Tensor, /, fill_value: complex, *, dtype: DTypeLike | None = None, device: str | Device | None = None) -> Tensor:
    """Return a number repeated in the shape, and unless told otherwise the type and pool, of another tensor."""
    return full(x.shape, fill_value, *_like(x, dtype), pool=_pool_like(x, device))


def eye(
    n_rows: int,
    n_cols: int | None = None,
    /,
    *,
    k: int = 0,
    dtype: DTypeLike | None = None,
    device: str | Device | None = None,
) -> Tensor:
    """Return a matrix with ones in the diagonal number `k` and zeros elsewhere; `n_cols` None: as many as rows."""
    return make(choose_pool(device, None), xp.eye, n_rows, n_cols, k=k, dtype=dtype)


def linspace(
    start: complex,
    stop: complex,
    /,
    num: int,
    *,
    dtype: DTypeLike | None = None,
    device: str | Device | None = None,
    endpoint: bool = True,
) -> Tensor:
    """Return `num` numbers in equal steps from `start` to `stop`, which is the last one where `endpoint`."""
    return make(choose_pool(device, None), xp.linspace, start, stop, num, dtype=dtype, endpoint=endpoint)


def _like(x: Tensor, dtype: DTypeLike | None) -> tuple[Any]:
    return (x.dtype if dtype is None else dtype,)


def _pool_like(x: Tensor, device: str | Device | None) -> MemoryPool:
    """Return the pool of a tensor; the current one of its device where it has none, of `device` where that is another."""
    if device is None or choose_pool(device, None).device == x.device:
        return x.pool or choose_pool(x.device, None)
    return choose_pool(device, None)
