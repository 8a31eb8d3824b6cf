"""What `simd` does on a GPU: the functions of `kernels` over tensors, with every new array in a block of the operands' pool.

A function here has the name and the arguments of the one in `simd`. Nothing waits for the stream, so a reduction too is a tensor.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from . import kernels
from ._allocation import PooledAllocation
from ._compute import call
from ._lib import native
from ._tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable


def __getattr__(name: str) -> Callable[..., Any]:
    return partial(_call, getattr(kernels, name))


def is_on_device(operand: Any) -> bool:
    """Return whether an operand lies in device memory."""
    if isinstance(operand, PooledAllocation):
        return not operand.pool.upstream.host_memory
    return hasattr(operand, "__cuda_array_interface__")


def _call(function: Callable[..., Any], /, *operands: Any, **named: Any) -> Any:
    """Return what a function of `kernels` makes of the operands: a new tensor, or the one that it was given to write to.

    Raises
    ------
    DeviceMismatchError
        The operands are on different devices, or arrays of the CPU are among them.
    """
    everything = [*operands, *named.values()]
    model = next((x for x in everything if is_on_device(x) and not isinstance(x, PooledAllocation)), None)
    given: dict[int, Any] = {}  # by the identity of the tensor over it

    def take(operand: Any) -> Any:
        tensor = _as_tensor(operand, model)
        given[id(tensor)] = operand
        return tensor

    arguments, keywords = tuple(map(take, operands)), {name: take(operand) for name, operand in named.items()}
    result = call(function, arguments, keywords)
    return given.get(id(result), result)


def _as_tensor(operand: Any, model: Any) -> Any:
    """Return an operand with its memory as a tensor, an allocation like `model`; what is not in device memory as it is."""
    if isinstance(operand, PooledAllocation):
        return _over_block(operand, Tensor.from_cupy(model) if model is not None else None)
    return operand if isinstance(operand, Tensor) or not is_on_device(operand) else Tensor.from_cupy(operand)


def _over_block(block: PooledAllocation, model: Tensor | None) -> Any:
    """Return the start of a block as a tensor of its pool; its bytes where there is no model, an array where it is on the CPU."""
    array = block.array() if model is None else block.array(model.dtype, model.shape)
    return native.holder(Tensor, Tensor.from_cupy(array)._array, block.pool) if is_on_device(block) else array
