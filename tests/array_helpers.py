"""What the tests of tensors share: tensors of values, outcomes of calls, sameness with an array, and a producer of DLPack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import tensorcore as tc

if TYPE_CHECKING:
    from collections.abc import Callable


def tensor(pool: tc.MemoryPool, values: Any) -> tc.Tensor:
    """A tensor in a pool with the values, and the type, of an array."""
    return tc.asarray(np.asarray(values), pool=pool, copy=True)


def outcome(function: Callable[..., Any], *args: Any) -> Any:
    """What a call returns, or the type of what it raises."""
    try:
        with np.errstate(all="ignore"):
            return function(*args)
    except (TypeError, ValueError, OverflowError) as error:
        return type(error)


def same(found: Any, wanted: Any) -> bool:
    """Whether a tensor has the type, the shape and the elements of an array; whether both are the same kind of error."""
    if isinstance(wanted, type):
        return isinstance(found, type) and (issubclass(found, wanted) or issubclass(wanted, found))
    array = found.numpy()
    return (
        array.dtype == wanted.dtype
        and array.shape == wanted.shape
        and np.array_equal(array, wanted, equal_nan=wanted.dtype.kind in "fc")
    )


class Old:
    """A producer that knows no versions of DLPack, as of 2021."""

    def __init__(self, tensor: tc.Tensor) -> None:
        self.tensor = tensor

    def __dlpack__(self, stream: int | None = None) -> Any:
        return self.tensor.__dlpack__(stream=stream)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.tensor.__dlpack_device__()
