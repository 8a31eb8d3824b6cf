"""Expressions as programs: what `simd.evaluate` was given as text, as steps of C's little machine (csrc/simd.c).

Only + - * / and signs, names, numbers and parentheses; numbers among themselves are computed here, as Python does. An expression is
compiled once, in some 50 µs, and kept.
"""

from __future__ import annotations

import ast
import operator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ._lib import lib

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ADD: int = lib.TC_SIMD_ADD
SUBTRACT: int = lib.TC_SIMD_SUBTRACT
MULTIPLY: int = lib.TC_SIMD_MULTIPLY
DIVIDE: int = lib.TC_SIMD_DIVIDE
FMA: int = lib.TC_SIMD_FMA
COPY: int = lib.TC_SIMD_COPY
NEGATE: int = lib.TC_SIMD_NEGATE
_MULTIPLY_ADD: int = lib.TC_SIMD_MULTIPLY_ADD
_MULTIPLY_SUBTRACT: int = lib.TC_SIMD_MULTIPLY_SUBTRACT

_MOST_INPUTS: int = lib.TC_SIMD_INPUTS
_MOST_STEPS: int = lib.TC_SIMD_STEPS
_TEMPORARIES: int = lib.TC_SIMD_TEMPORARIES
_MOST_SHOWN = 100  # characters of an expression in an error

_BINARY: dict[type[ast.operator], tuple[int, Callable[[Any, Any], Any]]] = {
    ast.Add: (ADD, operator.add),
    ast.Sub: (SUBTRACT, operator.sub),
    ast.Mult: (MULTIPLY, operator.mul),
    ast.Div: (DIVIDE, operator.truediv),
}

Number = int | float
_NUMBERS = frozenset((int, float))
Operand = str | int | float | tuple[int]
"""A name, a number, or the result of the step of that index."""


def single_step(operation: int) -> bytes:
    """Return a program of one operation on the first, second and third input."""
    return bytes((operation, 0, 0, 1, 2))


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled expression."""

    names: tuple[str, ...]
    numbers: tuple[Number, ...]
    steps: tuple[tuple[int, tuple[Operand, ...]], ...]
    name_set: frozenset[str]
    code: bytes | None
    """The steps for C, whose inputs are the names' arrays and then the numbers; None: more than C's machine can hold."""

    def joins_numbers(self, numbers: frozenset[str]) -> bool:
        """Return whether a step has no array behind it where these names are numbers: Python computes it, in its own types."""
        without: set[int] = set()
        for index, (_, inputs) in enumerate(self.steps):
            if all(x[0] in without if isinstance(x, tuple) else x in numbers if isinstance(x, str) else True for x in inputs):
                without.add(index)
        return bool(without)

    def require_operands(self, operands: Mapping[str, Any]) -> None:
        """Raise TypeError where the operands are not those of the program's names."""
        if operands.keys() == self.name_set:
            return
        missing = [name for name in self.names if name not in operands]
        unused = [name for name in operands if name not in self.names]
        what = f"no array for {', '.join(missing)}" if missing else f"{', '.join(unused)}, which it does not name"
        raise TypeError(f"an expression of {', '.join(self.names)} was given {what}: pass each name's array by keyword")


@dataclass(slots=True)
class _Compiler:
    text: str
    numbers: dict[str, Number] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    steps: list[tuple[int, tuple[Operand, ...]]] = field(default_factory=list)

    def refuse(self, what: str) -> ValueError:
        text = self.text if len(self.text) <= _MOST_SHOWN else f"{self.text[:_MOST_SHOWN]}..."
        return ValueError(f"expression {text!r} {what}; it may have names, numbers, + - * / and parentheses")

    def visit(self, node: ast.expr) -> Operand:
        """Append the steps that compute a node and return where its value is then."""
        match node:
            case ast.Name(id=name) if name in self.numbers:
                return self.numbers[name]
            case ast.Name(id=name):
                if name not in self.names:
                    self.names.append(name)
                return name
            case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
                return value
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return self.visit(operand)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                inner = self.visit(operand)
                return -inner if isinstance(inner, int | float) else self.append(NEGATE, inner)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                operation, compute = _BINARY[type(op)]
                a, b = self.visit(left), self.visit(right)
                if not (isinstance(a, int | float) and isinstance(b, int | float)):
                    return self.append(operation, a, b)
                try:
                    return compute(a, b)  # type: ignore[no-any-return] # a number of Python
                except ArithmeticError as error:
                    raise self.refuse(f"can't be computed: {error}") from None
            case _:
                raise self.refuse(f"has {ast.unparse(node)!r}")

    def append(self, operation: int, *operands: Operand) -> Operand:
        self.steps.append((operation, operands))
        return (len(self.steps) - 1,)

    def program(self, result: Operand) -> Program:
        if not self.names:
            raise self.refuse("names no array")
        if not isinstance(result, tuple):
            self.append(COPY, result)
        numbers = dict.fromkeys(  # 0.0 and -0.0, 1 and 1.0 are equal, but not the same number
            (type(x), str(x), x) for _, operands in self.steps for x in operands if isinstance(x, int | float)
        )
        values = tuple(value for _, _, value in numbers)
        return Program(tuple(self.names), values, tuple(self.steps), frozenset(self.names), self.encode(values))

    def encode(self, numbers: tuple[Number, ...]) -> bytes | None:
        inputs = len(self.names) + len(numbers)
        if inputs > _MOST_INPUTS or len(self.steps) > _MOST_STEPS:
            return None
        known = [(type(x), str(x)) for x in numbers]
        code: list[tuple[int, int, list[int]]] = []  # operation, target, registers
        free, places = list(range(_TEMPORARIES)), dict[int, int]()
        for index, (operation, operands) in enumerate(self.steps):
            registers = []
            for operand in operands:
                if isinstance(operand, tuple):
                    place = places.pop(operand[0])  # each result is used once; its place may take the step's own
                    free.append(place)
                    registers.append(inputs + place)
                elif isinstance(operand, str):
                    registers.append(self.names.index(operand))
                else:
                    registers.append(len(self.names) + known.index((type(operand), str(operand))))
            if (index - 1,) in operands and self.steps[index - 1][0] == MULTIPLY:
                operation, registers = _joined(operation, registers, operands.index((index - 1,)), code)
            if not free:
                return None
            places[index] = free.pop()
            code.append((operation, places[index], registers))
        return b"".join(bytes((operation, target, *[*registers, 0, 0][:3])) for operation, target, registers in code)


def _joined(operation: int, registers: list[int], product: int, code: list[tuple[int, int, list[int]]]) -> tuple[int, list[int]]:
    """Return a step that does the product before it, too, where there is one; the bits are the same, and a pass less is made."""
    if operation == ADD:
        _, _, factors = code.pop()
        return _MULTIPLY_ADD, [*factors, registers[1 - product]]
    if operation == SUBTRACT and product == 0:
        _, _, factors = code.pop()
        return _MULTIPLY_SUBTRACT, [*factors, registers[1]]
    return operation, registers


def compile_for(text: str, operands: Mapping[str, Any]) -> tuple[Program, Mapping[str, Any]]:
    """Return the program of an expression for these operands, and those that are its names'.

    Where numbers meet, they are part of the program, so that Python computes with them as NumPy has it do; it is then compiled for
    them. Else a number is an operand like an array, and another number needs no other program.

    Raises
    ------
    TypeError
        The expression is no text, or the operands are not those of its names.
    ValueError
        No operand is an array; or as `compile_expression`.
    """
    if not isinstance(text, str):
        raise TypeError(f"an expression is a text such as 'a*b + c', not {type(text).__name__}")
    program = compile_expression(text)
    program.require_operands(operands)
    if _NUMBERS.isdisjoint(map(type, operands.values())):
        return program, operands
    numbers = {name: value for name, value in operands.items() if type(value) in _NUMBERS}
    if len(numbers) == len(program.names):
        raise ValueError(f"expression {text!r} of numbers alone has no shape: give one array at least")
    if not program.joins_numbers(frozenset(numbers)):
        return program, operands
    program = compile_expression(text, tuple((name, repr(value), value) for name, value in numbers.items()))
    return program, {name: operands[name] for name in program.names}


@lru_cache(maxsize=256)
def compile_expression(text: str, numbers: tuple[tuple[str, str, Number], ...] = ()) -> Program:
    """Return the program of an expression, in which some names stand for numbers: each with its `repr`, by which 0.0 is not -0.0.

    Raises
    ------
    ValueError
        It is no expression, has something else than is allowed, names no array, or divides a number by 0.
    """
    compiler = _Compiler(text, {name: value for name, _, value in numbers})
    try:
        return compiler.program(compiler.visit(ast.parse(text.strip(), mode="eval").body))
    except SyntaxError as error:
        raise compiler.refuse(f"is none: {error.msg}") from None
    except (RecursionError, MemoryError):
        raise compiler.refuse("is nested too deeply") from None
