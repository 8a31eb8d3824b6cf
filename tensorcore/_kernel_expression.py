"""Expressions as kernels: the steps of a program as the C++ text that evaluate.cu leaves open, and what the kernel is given.

Arrays and numbers are arguments by their places, so that neither another name nor another number compiles another kernel.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from ._kernel_maps import map_arrays
from ._simd_expression import ADD, COPY, DIVIDE, MULTIPLY, NEGATE, SUBTRACT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._kernel_operands import Operand
    from ._kernels import Launcher
    from ._simd_expression import Number, Program

MOST_ARRAYS = 32
MOST_NUMBERS = 256  # arguments have room for 4,096 bytes

_TYPES = {"f16": "f16", "bf16": "bf16", "f32": "float", "f64": "double"}
_STEPS = {ADD: "{} + {}", SUBTRACT: "{} - {}", MULTIPLY: "{} * {}", DIVIDE: "{} / {}", NEGATE: "-{}", COPY: "{}"}


def evaluate_program(launcher: Launcher, program: Program, operands: Mapping[str, Any], out: Any) -> Any:
    """Return what a program makes of the arrays and numbers of its names, in `out` where it is given.

    Raises
    ------
    ValueError
        There are too many of them.
    TypeError
        A number is not Python's.
    """
    arrays = tuple(name for name in program.names if not _is_number(name, operands[name]))
    places = [where for _, inputs in program.steps for where in inputs if not isinstance(where, tuple) and where not in arrays]
    numbers = [operands[where] if isinstance(where, str) else where for where in places]
    _require_room(len(arrays), len(numbers))

    def launch(inputs: list[Operand], result: Operand, suffix: str) -> None:
        given = _pack(inputs, numbers, "f8" if suffix == "f64" else "f4")
        blocks = launcher.blocks_for(result.nbytes, result.device)
        arguments = [np.uint64(result.size), given, np.uint64(result.address)]
        launcher.launch("evaluate", blocks, arguments, result.device, write_expression(program, arrays, suffix))

    return map_arrays(launcher, [operands[name] for name in arrays], out, launch)


@lru_cache(256)
def write_expression(program: Program, arrays: tuple[str, ...], suffix: str) -> str:
    """Return what stands for expression.cuh in evaluate.cu; the names that are not among `arrays` are numbers.

    Each use of a number has a place of its own: 0.0 and -0.0 are equal, and so are programs that differ in them alone.
    """
    numbers = count()

    def place(operand: Any) -> str:
        if isinstance(operand, tuple):
            return f"t{operand[0]}"
        return f"x[{arrays.index(operand)}]" if operand in arrays else f"s[{next(numbers)}]"

    steps = [_STEPS[operation].format(*map(place, inputs)) for operation, inputs in program.steps]
    return (
        f"typedef {_TYPES[suffix]} T;\n"
        f"enum {{ ARRAYS = {len(arrays)}, NUMBERS = {max(1, next(numbers))} }};\n"  # C++ has no array of none
        "__device__ inline Value<T> expression(const Value<T> *x, const Value<T> *s) {\n"
        + "".join(f"  const Value<T> t{i} = {step};\n" for i, step in enumerate(steps))
        + f"  return t{len(steps) - 1};\n}}\n"
    )


def _pack(inputs: list[Operand], numbers: list[Number], wide: str) -> np.ndarray[Any, np.dtype[Any]]:
    """Return struct Inputs of evaluate.cu; numbers are rounded to the elements' type, as NumPy does."""
    fields = [("arrays", "u8", (len(inputs),)), ("numbers", wide, (max(1, len(numbers)),))]
    packed = np.zeros((), np.dtype(fields, align=True))
    packed["arrays"] = [operand.address for operand in inputs]
    with np.errstate(all="ignore"):
        packed["numbers"][: len(numbers)] = np.array(numbers, inputs[0].dtype)
    return packed


def _is_number(name: str, operand: Any) -> bool:
    if isinstance(operand, (np.generic, bool, complex)):
        raise TypeError(f"{name} is of type {type(operand).__name__}, and nothing is cast: give a Python number, float({name})")
    return isinstance(operand, (int, float))


def _require_room(arrays: int, numbers: int) -> None:
    if arrays > MOST_ARRAYS or numbers > MOST_NUMBERS:
        most = f"a kernel takes {MOST_ARRAYS} and {MOST_NUMBERS}"
        raise ValueError(f"an expression of {arrays} arrays and {numbers} numbers; {most}: compute a part of it first")
