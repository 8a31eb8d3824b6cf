"""The linear algebra extension of the array API standard 2025.12, `tensorcore.linalg`; functions take stacks of matrices.

They are carried out by NumPy or CuPy through array-api-compat; a singular matrix raises NumPy's LinAlgError.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import array_api_compat.numpy.linalg as xp

from ._lib import native

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import DTypeLike

    from ._tensor import Operand, Tensor

__all__ = [
    "cholesky",
    "cross",
    "det",
    "diagonal",
    "eig",
    "eigh",
    "eigvals",
    "eigvalsh",
    "inv",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "matrix_transpose",
    "outer",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "svd",
    "svdvals",
    "tensordot",
    "trace",
    "vecdot",
    "vector_norm",
]

call = native.call


# ---- products -------------------------------------------------------------------------------------------------------------------


def cross(x1: Operand, x2: Operand, /, *, axis: int = -1) -> Tensor:
    """Return the cross products of vectors of three elements along an axis."""
    return call(xp.cross, x1, x2, axis=axis)


def matmul(x1: Operand, x2: Operand, /) -> Tensor:
    """Return the matrix product, as `x1 @ x2`."""
    return call(xp.matmul, x1, x2)


def matrix_power(x: Operand, n: int, /) -> Tensor:
    """Return square matrices to the power `n`; negative ones are powers of the inverse."""
    return call(xp.matrix_power, x, n)


def outer(x1: Operand, x2: Operand, /) -> Tensor:
    """Return the products of each element of one vector with each of another."""
    return call(xp.outer, x1, x2)


def tensordot(x1: Operand, x2: Operand, /, *, axes: int | tuple[Sequence[int], Sequence[int]] = 2) -> Tensor:
    """Return the sums of products over `axes` of both, or the last and first `axes` dimensions."""
    return call(xp.tensordot, x1, x2, axes=axes)


def vecdot(x1: Operand, x2: Operand, /, *, axis: int = -1) -> Tensor:
    """Return the dot products along an axis, with `x1` conjugated."""
    return call(xp.vecdot, x1, x2, axis=axis)


# ---- what matrices have ---------------------------------------------------------------------------------------------------------


def det(x: Operand, /) -> Tensor:
    """Return the determinants of square matrices."""
    return call(xp.det, x)


def diagonal(x: Operand, /, *, offset: int = 0) -> Tensor:
    """Return the diagonals number `offset`, as a view that can only be read on the CPU."""
    return call(xp.diagonal, x, offset=offset)


def matrix_norm(x: Operand, /, *, keepdims: bool = False, ord: float | Literal["fro", "nuc"] | None = "fro") -> Tensor:
    """Return the norms of matrices: Frobenius, nuclear, 1, 2, inf, and the negatives of the last three."""
    return call(xp.matrix_norm, x, keepdims=keepdims, ord=ord)


def matrix_rank(x: Operand, /, *, rtol: Operand | None = None) -> Tensor:
    """Return the ranks: singular values above `rtol` times the largest; None: the type's accuracy times the larger side."""
    return call(xp.matrix_rank, x, rtol=rtol)


def matrix_transpose(x: Operand, /) -> Tensor:
    """Return a view with the last two dimensions exchanged."""
    return call(xp.matrix_transpose, x)


def slogdet(x: Operand, /) -> tuple[Tensor, Tensor]:
    """Return (sign, logabsdet): the signs and the logarithms of the magnitudes of determinants."""
    return call(xp.slogdet, x)


def trace(x: Operand, /, *, offset: int = 0, dtype: DTypeLike | None = None) -> Tensor:
    """Return the sums of the diagonals number `offset`."""
    return call(xp.trace, x, offset=offset, dtype=dtype)


def vector_norm(x: Operand, /, *, axis: int | tuple[int, ...] | None = None, keepdims: bool = False, ord: float = 2) -> Tensor:
    """Return the norms of vectors along axes, of everything with None; `ord` is a number, inf or -inf."""
    return call(xp.vector_norm, x, axis=axis, keepdims=keepdims, ord=ord)


# ---- decompositions -------------------------------------------------------------------------------------------------------------


def cholesky(x: Operand, /, *, upper: bool = False) -> Tensor:
    """Return the lower triangular factor of Hermitian positive matrices; `upper`: its conjugate transpose."""
    return call(xp.cholesky, x, upper=upper)


def eig(x: Operand, /) -> tuple[Tensor, Tensor]:
    """Return (eigenvalues, eigenvectors) of square matrices, complex."""
    return call(xp.eig, x)


def eigh(x: Operand, /) -> tuple[Tensor, Tensor]:
    """Return (eigenvalues, eigenvectors) of Hermitian matrices, in ascending order."""
    return call(xp.eigh, x)


def eigvals(x: Operand, /) -> Tensor:
    """Return the eigenvalues of square matrices, complex."""
    return call(xp.eigvals, x)


def eigvalsh(x: Operand, /) -> Tensor:
    """Return the eigenvalues of Hermitian matrices, in ascending order."""
    return call(xp.eigvalsh, x)


def qr(x: Operand, /, *, mode: Literal["reduced", "complete"] = "reduced") -> tuple[Tensor, Tensor]:
    """Return (Q, R): matrices as a product of a unitary and an upper triangular one."""
    return call(xp.qr, x, mode=mode)


def svd(x: Operand, /, *, full_matrices: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """Return (U, S, Vh): matrices as a product with their singular values, in descending order, in the middle."""
    return call(xp.svd, x, full_matrices=full_matrices)


def svdvals(x: Operand, /) -> Tensor:
    """Return the singular values in descending order."""
    return call(xp.svdvals, x)


# ---- equations ------------------------------------------------------------------------------------------------------------------


def inv(x: Operand, /) -> Tensor:
    """Return the inverses of square matrices."""
    return call(xp.inv, x)


def pinv(x: Operand, /, *, rtol: Operand | None = None) -> Tensor:
    """Return the pseudo-inverses; singular values below `rtol` times the largest count as 0."""
    return call(xp.pinv, x, rtol=rtol)


def solve(x1: Operand, x2: Operand, /) -> Tensor:
    """Return the solutions of `x1 @ x = x2`."""
    return call(xp.solve, x1, x2)
