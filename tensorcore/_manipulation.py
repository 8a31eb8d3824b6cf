"""Functions of the array API standard 2025.12 that change shape and order, select, and multiply matrices.

Results are views, or in the pool. They are carried out by NumPy or CuPy through array-api-compat. Cost: about 0.5 µs besides
theirs on the CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import array_api_compat.numpy as xp

from ._lib import native

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._tensor import Operand, Tensor

    Operands = tuple[Operand, ...] | list[Operand]

__all__ = [
    "broadcast_arrays",
    "broadcast_shapes",
    "broadcast_to",
    "concat",
    "expand_dims",
    "flip",
    "matmul",
    "matrix_transpose",
    "meshgrid",
    "moveaxis",
    "permute_dims",
    "repeat",
    "reshape",
    "roll",
    "squeeze",
    "stack",
    "take",
    "take_along_axis",
    "tensordot",
    "tile",
    "tril",
    "triu",
    "unstack",
    "vecdot",
]

call = native.call


# ---- shapes ---------------------------------------------------------------------------------------------------------------------


def broadcast_arrays(*arrays: Operand) -> tuple[Tensor, ...]:
    """Return the tensors as views of their common shape."""
    return tuple(call(xp.broadcast_arrays, *arrays))


def broadcast_shapes(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape that shapes broadcast to; ValueError where they don't."""
    found: tuple[int, ...] = xp.broadcast_shapes(*shapes)
    return found


def broadcast_to(x: Operand, /, shape: tuple[int, ...]) -> Tensor:
    """Return a view of another shape, with elements repeated by strides of 0."""
    return call(xp.broadcast_to, x, shape)


def expand_dims(x: Operand, /, axis: int | tuple[int, ...]) -> Tensor:
    """Return a view with dimensions of size 1 at the positions `axis`."""
    return call(xp.expand_dims, x, axis)


def squeeze(x: Operand, /, axis: int | tuple[int, ...]) -> Tensor:
    """Return a view without the dimensions `axis`, whose size must be 1."""
    return call(xp.squeeze, x, axis)


def reshape(x: Operand, /, shape: tuple[int, ...], *, copy: bool | None = None) -> Tensor:
    """Return the elements, in C order, in another shape; a view where `copy` allows it and strides can have it."""
    return call(xp.reshape, x, shape, copy=copy)


def permute_dims(x: Operand, /, axes: tuple[int, ...]) -> Tensor:
    """Return a view with the dimensions in the order of `axes`."""
    return call(xp.permute_dims, x, axes)


def moveaxis(x: Operand, source: int | tuple[int, ...], destination: int | tuple[int, ...], /) -> Tensor:
    """Return a view with the dimensions `source` at the positions `destination`."""
    return call(xp.moveaxis, x, source, destination)


def matrix_transpose(x: Operand, /) -> Tensor:
    """Return a view with the last two dimensions exchanged."""
    return call(xp.matrix_transpose, x)


# ---- order and number of elements -----------------------------------------------------------------------------------------------


def concat(arrays: Operands, /, *, axis: int | None = 0) -> Tensor:
    """Return the tensors joined along an axis that they have; flattened first with None."""
    return call(xp.concat, arrays, axis=axis)


def stack(arrays: Operands, /, *, axis: int = 0) -> Tensor:
    """Return the tensors, of one shape, joined along a new axis."""
    return call(xp.stack, arrays, axis=axis)


def unstack(x: Operand, /, *, axis: int = 0) -> tuple[Tensor, ...]:
    """Return the parts along an axis, as views without it."""
    return tuple(call(xp.moveaxis, x, axis, 0))


def flip(x: Operand, /, *, axis: int | tuple[int, ...] | None = None) -> Tensor:
    """Return a view with the elements in reverse order along axes, all of them with None."""
    return call(xp.flip, x, axis=axis)


def roll(x: Operand, /, shift: int | tuple[int, ...], *, axis: int | tuple[int, ...] | None = None) -> Tensor:
    """Return the elements moved on by `shift` along axes; those that leave at the end come in at the start."""
    return call(xp.roll, x, shift, axis=axis)


def repeat(x: Operand, repeats: Operand, /, *, axis: int | None = None) -> Tensor:
    """Return each element `repeats` times, along an axis or flattened with None."""
    return call(xp.repeat, x, repeats, axis=axis)


def tile(x: Operand, repetitions: tuple[int, ...], /) -> Tensor:
    """Return the tensor beside itself, `repetitions` times in each dimension."""
    return call(xp.tile, x, repetitions)


# ---- selection ------------------------------------------------------------------------------------------------------------------


def take(x: Operand, indices: Operand, /, *, axis: int | None = None) -> Tensor:
    """Return the elements at `indices` along an axis."""
    return call(xp.take, x, indices, axis=axis)


def take_along_axis(x: Operand, indices: Operand, /, *, axis: int = -1) -> Tensor:
    """Return, for each index along an axis, the element there; as `argsort` gives them."""
    return call(xp.take_along_axis, x, indices, axis=axis)


def tril(x: Operand, /, *, k: int = 0) -> Tensor:
    """Return the matrices with zeros above the diagonal number `k`."""
    return call(xp.tril, x, k=k)


def triu(x: Operand, /, *, k: int = 0) -> Tensor:
    """Return the matrices with zeros below the diagonal number `k`."""
    return call(xp.triu, x, k=k)


def meshgrid(*arrays: Operand, indexing: Literal["xy", "ij"] = "xy") -> tuple[Tensor, ...]:
    """Return the coordinates of a grid, one tensor for each of the one-dimensional `arrays`."""
    return tuple(call(xp.meshgrid, *arrays, indexing=indexing))


# ---- linear algebra -------------------------------------------------------------------------------------------------------------


def matmul(x1: Operand, x2: Operand, /) -> Tensor:
    """Return the matrix product, as `x1 @ x2`."""
    return call(xp.matmul, x1, x2)


def tensordot(x1: Operand, x2: Operand, /, *, axes: int | tuple[Sequence[int], Sequence[int]] = 2) -> Tensor:
    """Return the sums of products over `axes` of both, or the last and first `axes` dimensions."""
    return call(xp.tensordot, x1, x2, axes=axes)


def vecdot(x1: Operand, x2: Operand, /, *, axis: int = -1) -> Tensor:
    """Return the dot products along an axis, with `x1` conjugated."""
    return call(xp.vecdot, x1, x2, axis=axis)
