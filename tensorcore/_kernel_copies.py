"""Which kernel of copy.cu copies one layout to another, and with what arguments: dimensions merged, the widest unit that fits.

Every dimension counts in bytes, an element being the innermost one: contiguous elements, rows and odd element sizes are one case.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ._kernel_operands import dense_order
from ._kernels import BLOCK, LAYOUT, MAX_DIMENSIONS, UNITS

if TYPE_CHECKING:
    from ._kernel_operands import Operand, Order
    from ._kernels import Launcher

_ROW_UNITS = 64  # from this width on a row is worth a block of threads
_Dimension = tuple[int, int, int]  # extent, stride of the target, stride of the source; bytes


def copy_densely(launcher: Launcher, operand: Operand) -> Operand:
    """Return a new copy in C order."""
    copy = launcher.operand(launcher.empty(operand.shape, operand.dtype, operand.device))
    copy_operand(launcher, operand, copy)
    return copy


def make_dense(launcher: Launcher, operands: list[Operand]) -> tuple[list[Operand], Order]:
    """Return operands without gaps and in one order: themselves where they are so, else with copies in C order."""
    order = dense_order(operands)
    if order is not None:
        return operands, order
    return [operand if dense_order([operand]) == "C" else copy_densely(launcher, operand) for operand in operands], "C"


def copy_operand(launcher: Launcher, source: Operand, target: Operand) -> None:
    """Copy one array's elements to another of the same shape and dtype whose memory does not overlap.

    Raises
    ------
    ValueError
        More than 32 dimensions are left after merging those that can be.
    """
    if not target.size:
        return
    extents = zip(target.shape, target.strides, source.strides, strict=True)
    dimensions = merge([*extents, (target.dtype.itemsize, 1, 1)])
    *outer, (nbytes, _, _) = dimensions
    unit = _unit(nbytes, outer, source.address, target.address)
    width = nbytes // unit
    addresses = [np.uint64(source.address), np.uint64(target.address)]
    most = launcher.max_blocks(target.device)
    if not outer and (source.address ^ target.address) % UNITS[0] == 0:
        blocks, kernel = _blocks(nbytes, UNITS[0] * BLOCK, most), "copy_bytes"
        arguments: list[Any] = [np.uint64(nbytes), *addresses]
    elif width >= _ROW_UNITS:
        rows = math.prod(extent for extent, _, _ in outer)
        blocks, kernel = _blocks(rows * -(-width // BLOCK), 1, most), f"copy_rows_{unit}"
        arguments = [np.uint64(rows), np.uint64(width), *addresses, make_layout(outer)]
    else:
        inner = [(width, unit, unit)] if width > 1 else []
        count = math.prod(extent for extent, _, _ in (*outer, *inner))
        blocks, kernel = _blocks(count, BLOCK, most), f"copy_elements_{unit}"
        arguments = [np.uint64(count), *addresses, make_layout([*outer, *inner])]
    launcher.launch(kernel, blocks, arguments, target.device)


def merge(dimensions: list[_Dimension]) -> list[_Dimension]:
    """Return the fewest dimensions with the same pairs of addresses, the target's longest strides first; the last is contiguous."""
    *outer, innermost = dimensions
    kept = sorted((d for d in outer if d[0] != 1), key=lambda d: abs(d[1]), reverse=True)
    merged = [innermost]
    for extent, to, from_ in reversed(kept):
        last_extent, last_to, last_from = merged[0]
        if (to, from_) == (last_to * last_extent, last_from * last_extent):
            merged[0] = (extent * last_extent, last_to, last_from)
        else:
            merged.insert(0, (extent, to, from_))
    return merged


def make_layout(dimensions: list[_Dimension]) -> np.ndarray[Any, np.dtype[Any]]:
    """Return dimensions as the struct Layout of copy.cu."""
    if len(dimensions) > MAX_DIMENSIONS:
        raise ValueError(f"a copy between {len(dimensions)} dimensions that can't be merged; the kernels take {MAX_DIMENSIONS}")
    layout = np.zeros((), LAYOUT)
    layout["dimensions"] = len(dimensions)
    for field, values in zip(("shape", "to_strides", "from_strides"), zip(*dimensions, strict=True), strict=False):
        layout[field][: len(dimensions)] = values
    return layout


def _unit(nbytes: int, outer: list[_Dimension], *addresses: int) -> int:
    alignment = math.gcd(nbytes, *addresses, *(stride for _, to, from_ in outer for stride in (to, from_)))
    return next(unit for unit in UNITS if alignment % unit == 0)


def _blocks(work: int, per_block: int, most: int) -> int:
    return max(1, min(-(-work // per_block), most))
