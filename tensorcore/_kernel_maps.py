"""Kernels that go element by element: their inputs made dense, a new result or `out`, and what `out` lies upon.

Cost: one pass where inputs and `out` are dense and of one order; else a copy more for each input that is not, and one into `out`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._kernel_copies import copy_operand, make_dense
from ._kernel_operands import dense_order, find_suffix, is_same_memory, may_overlap, require_alike, require_target

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ._kernel_operands import Operand
    from ._kernels import Launcher

    Launch = Callable[[list[Operand], Operand, str], None]


def map_arrays(launcher: Launcher, inputs: Sequence[Any], out: Any, launch: Launch) -> Any:
    """Return `out`, or a new array, with what a kernel makes of the inputs.

    `launch` runs the kernel: on operands and a result without gaps, in one order and not empty, and with the suffix of their dtype.
    """
    operands = [launcher.operand(array) for array in inputs]
    if out is None:
        require_alike(operands)
        return _map_new(launcher, operands, launch).owner
    result = launcher.operand(out)
    require_alike([*operands, result])
    require_target(result)
    in_the_way = any(may_overlap(operand, result) and not is_same_memory(operand, result) for operand in operands)
    if in_the_way or dense_order([*operands, result]) is None:
        copy_operand(launcher, _map_new(launcher, operands, launch), result)
    else:
        _launch(operands, result, launch)
    return out


def _map_new(launcher: Launcher, operands: list[Operand], launch: Launch) -> Operand:
    """Return the result in a new array, in the order of the operands where they have one."""
    find_suffix(operands)  # before any copy
    operands, order = make_dense(launcher, operands)
    first = operands[0]
    result = launcher.operand(launcher.empty(first.shape, first.dtype, first.device, order))
    _launch(operands, result, launch)
    return result


def _launch(operands: list[Operand], result: Operand, launch: Launch) -> None:
    suffix = find_suffix([*operands, result])
    if result.size:
        launch(operands, result, suffix)
