"""The Fourier extension of the array API standard 2025.12, `tensorcore.fft`; `norm` says which direction divides by the length.

They are carried out by NumPy or CuPy through array-api-compat. Cost: small beside theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import array_api_compat.numpy.fft as xp

from ._creation import choose_pool, make
from ._lib import native

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import DTypeLike

    from ._backend import Device
    from ._tensor import Operand, Tensor

    Norm = Literal["backward", "ortho", "forward"]

__all__ = [
    "fft",
    "fftfreq",
    "fftn",
    "fftshift",
    "hfft",
    "ifft",
    "ifftn",
    "ifftshift",
    "ihfft",
    "irfft",
    "irfftn",
    "rfft",
    "rfftfreq",
    "rfftn",
]

call = native.call


# ---- transforms -----------------------------------------------------------------------------------------------------------------


def fft(x: Operand, /, *, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> Tensor:
    """Return the Fourier transform, along an axis."""
    return call(xp.fft, x, n=n, axis=axis, norm=norm)


def ifft(x: Operand, /, *, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> Tensor:
    """Return the inverse Fourier transform, along an axis."""
    return call(xp.ifft, x, n=n, axis=axis, norm=norm)


def rfft(x: Operand, /, *, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> Tensor:
    """Return the half of the Fourier transform that real input needs, along an axis."""
    return call(xp.rfft, x, n=n, axis=axis, norm=norm)


def irfft(x: Operand, /, *, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> Tensor:
    """Return the real input that `rfft` came from; `n`: its number of elements, even where None, along an axis."""
    return call(xp.irfft, x, n=n, axis=axis, norm=norm)


def hfft(x: Operand, /, *, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> Tensor:
    """Return the real Fourier transform of input that is Hermitian, given as its half, along an axis."""
    return call(xp.hfft, x, n=n, axis=axis, norm=norm)


def ihfft(x: Operand, /, *, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> Tensor:
    """Return the half of the inverse Fourier transform of real input, that is Hermitian, along an axis."""
    return call(xp.ihfft, x, n=n, axis=axis, norm=norm)


def fftn(x: Operand, /, *, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: Norm = "backward") -> Tensor:
    """Return the Fourier transform, over several axes, all of them with None."""
    return call(xp.fftn, x, s=s, axes=axes, norm=norm)


def ifftn(x: Operand, /, *, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: Norm = "backward") -> Tensor:
    """Return the inverse Fourier transform, over several axes, all of them with None."""
    return call(xp.ifftn, x, s=s, axes=axes, norm=norm)


def rfftn(x: Operand, /, *, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: Norm = "backward") -> Tensor:
    """Return the half of the Fourier transform that real input needs, over several axes, all of them with None."""
    return call(xp.rfftn, x, s=s, axes=axes, norm=norm)


def irfftn(x: Operand, /, *, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: Norm = "backward") -> Tensor:
    """Return the real input that `rfftn` came from, over several axes, all of them with None."""
    return call(xp.irfftn, x, s=s, axes=axes, norm=norm)


# ---- frequencies ----------------------------------------------------------------------------------------------------------------


def fftshift(x: Operand, /, *, axes: int | Sequence[int] | None = None) -> Tensor:
    """Return a transform with the frequency 0 moved to the middle of the axes."""
    return call(xp.fftshift, x, axes=axes)


def ifftshift(x: Operand, /, *, axes: int | Sequence[int] | None = None) -> Tensor:
    """Return what `fftshift` moved, moved back."""
    return call(xp.ifftshift, x, axes=axes)


def fftfreq(n: int, /, *, d: float = 1.0, dtype: DTypeLike | None = None, device: str | Device | None = None) -> Tensor:
    """Return the frequencies of `fft` of `n` samples that are `d` apart, in cycles per unit of `d`."""
    return make(choose_pool(device, None), xp.fftfreq, n, d=d, dtype=dtype)


def rfftfreq(n: int, /, *, d: float = 1.0, dtype: DTypeLike | None = None, device: str | Device | None = None) -> Tensor:
    """Return the frequencies of `rfft` of `n` samples that are `d` apart, in cycles per unit of `d`."""
    return make(choose_pool(device, None), xp.rfftfreq, n, d=d, dtype=dtype)
