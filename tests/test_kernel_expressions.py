"""`kernels.evaluate`: a kernel for each structure of expression, with the bits of NumPy; run on the CPU, as in test_kernels.py."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from host_launcher import COMPILER, FLOATS, LAYOUTS, Array, Buffer, compiled, same, sample

from tensorcore import _cupy, _kernels, kernels
from tensorcore._kernel_expression import MOST_ARRAYS, MOST_NUMBERS, write_expression
from tensorcore._simd_expression import compile_expression

if TYPE_CHECKING:
    from collections.abc import Callable

    from host_launcher import HostLauncher

pytestmark = [
    pytest.mark.skipif(COMPILER is None, reason="no C++ compiler: the kernels can't be compiled for the CPU"),
    pytest.mark.usefixtures("launcher"),
]

# ---- the bits of NumPy -----------------------------------------------------------------------------------------------------------

EXPRESSIONS = (
    "a*b + c*d - e",
    "a",
    "-a",
    "2*a*a - a/4",
    "a*0 + a*0.0 - a*-0.0",
    "-(a - b)/(c + d*-(e))",
    "1e30*a*b/3 - -b",
)


def random_expression(leaves: int, source: random.Random) -> str:
    """Return an expression with so many names and numbers."""
    if leaves == 1:
        return source.choice(["a", "b", "c", "d", "e", "2", "0.1"])
    left = source.randint(1, leaves - 1)
    text = f"({random_expression(left, source)} {source.choice('+-*/')} {random_expression(leaves - left, source)})"
    return f"-{text}" if source.random() < 0.2 else text


RANDOM = tuple(f"a + {random_expression(leaves, random.Random(leaves))}" for leaves in (3, 8, 20))


def numpy_gives(text: str, names: dict[str, Any]) -> Any:
    with np.errstate(all="ignore"):
        return eval(text, dict(names))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("text", [*EXPRESSIONS, *RANDOM])
def test_an_expression_gives_numpys_bits(text: str, dtype: str) -> None:
    """At lengths with and without tails, at any phase of 16 bytes, infinities, NaN and subnormal results among them."""
    names = [name for name in "abcde" if name in text.replace("1e30", "")]
    for n, phases in ((0, (0, 0)), (1, (0, 0)), (17, (1, 0)), (1000, (0, 3)), (1003, (2, 2))):
        size = np.dtype(dtype).itemsize
        buffers = {name: Buffer(sample(dtype, n, ord(name)), phases[ord(name) % 2] * size) for name in names}
        arrays = {name: buffer.array for name, buffer in buffers.items()}
        expected = numpy_gives(text, arrays)
        out = Buffer(np.zeros(n, dtype), phases[0] * size)
        assert kernels.evaluate(text, out=out.array, **arrays) is out.array
        assert same(out.array, expected)
        assert out.is_intact()
        assert same(kernels.evaluate(text, **arrays), expected)


def test_a_product_and_a_sum_are_rounded_twice() -> None:
    """As NumPy's: (1 + e)(1 + e) is 1 + 2e + e**2, and fused the e**2 would be left."""
    e = 2.0**-13 * np.ones(9, "f4")
    assert (kernels.evaluate("a*b - c", a=1 + e, b=1 + e, c=1 + 2 * e) == 0).all()


def test_bfloat16_rounds_each_operation() -> None:
    """As the arrays of ml_dtypes do, and numbers are rounded to it, which ml_dtypes does not."""
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed: NumPy has no bfloat16")
    a, b = (np.random.default_rng(seed).standard_normal(501).astype(ml_dtypes.bfloat16) for seed in (1, 2))
    tenth = a.dtype.type(0.1)
    for text, expected in (("a*b + a/b", a * b + a / b), ("a - 0.1*b", a - tenth * b)):
        found = kernels.evaluate(text, a=a, b=b)
        assert (found.dtype, found.tobytes()) == (a.dtype, expected.tobytes())


# ---- arrays ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_arrays_of_any_strides_are_right(layout: str) -> None:
    """Beside a dense one, and into an output of that layout where it can be written."""
    a, b = LAYOUTS[layout](np.random.default_rng(0).random((6, 35, 5))), np.random.default_rng(1).random((6, 35, 5))
    expected = a * b + a
    assert (kernels.evaluate("a*b + a", a=a, b=b) == expected).all()
    if layout != "broadcast":
        out = LAYOUTS[layout](np.zeros(a.shape))
        kernels.evaluate("a*b + a", a=a, b=b, out=out)
        assert (out == expected).all()


def test_dense_arrays_take_one_pass(launcher: HostLauncher) -> None:
    """Whatever the length of the expression, in C order and in Fortran's."""
    for order in ("C", "F"):
        a = np.asarray(np.random.default_rng(0).random((10, 20)), order=order)
        launcher.launched.clear()
        result = kernels.evaluate("a*a*a + a*a - a/2", a=a)
        assert launcher.launched == ["evaluate"]
        assert result.flags[f"{order}_CONTIGUOUS"]


@pytest.mark.parametrize("shift", [-5, -1, 0, 1, 4, 40])
def test_an_output_may_be_an_input_or_overlap_some(shift: int) -> None:
    """It acts as if the inputs had been read first."""
    memory = np.arange(300, dtype="f4")
    x, y, out = memory[50:250], memory[40:240], memory[50 + shift : 250 + shift]
    expected = x * 2 - y
    kernels.evaluate("x*2 - y", x=x, y=y, out=out)
    assert (out == expected).all()


def test_as_many_arrays_and_numbers_as_a_kernel_takes() -> None:
    """32 and 256."""
    arrays = {f"x{i}": np.arange(40.0) + i for i in range(MOST_ARRAYS)}
    text = " + ".join(arrays) + "".join(f" - {i}" for i in range(MOST_NUMBERS))
    assert (kernels.evaluate(text, **arrays) == eval(text, dict(arrays))).all()


# ---- numbers, and which kernels there are ----------------------------------------------------------------------------------------


def test_another_name_or_number_is_the_same_kernel(launcher: HostLauncher) -> None:
    """In the text or by keyword; another place for a number, or another dtype, is another."""
    x = np.linspace(0, 1, 100, dtype="f4")
    calls: list[tuple[str, dict[str, Any]]] = [("2*x + k", {"x": x, "k": 3}), ("n*y + 0.5", {"y": x, "n": -0.0})]
    for text, names in (*calls, ("2*x + k", {"x": x, "k": x}), ("2*x + k", {"x": x.astype("f8"), "k": 3})):
        assert (kernels.evaluate(text, **names) == eval(text, dict(names))).all()
    first, second, *others = launcher.expressions
    assert first == second
    assert len({first, *others}) == 3


def test_a_zero_s_sign_is_not_lost_between_expressions_that_are_equal_but_for_it() -> None:
    """0.0 == -0.0, so their programs are equal too."""
    a = np.array([-0.0, 0.0])
    for text in ("a*1 + 0.0 + 0.0 + -0.0", "a*1 + -0.0 + -0.0 + -0.0", "a*1 + -0.0 + 0.0 + -0.0"):
        assert same(kernels.evaluate(text, a=a), eval(text))


def test_a_number_takes_the_dtype_of_the_arrays() -> None:
    """Rounded to it, infinite where it is too large."""
    x = np.ones(3, "f2")
    assert (kernels.evaluate("x*0.1", x=x) == x * 0.1).all()
    assert np.isinf(kernels.evaluate("x*k", x=x, k=1e300)).all()
    assert (kernels.evaluate("x - k", x=np.ones(3), k=2**70) == 1.0 - 2**70).all()


def test_cupy_compiles_an_expression_once_for_each_device_and_keeps_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """The least recently used one goes first."""
    made: list[str] = []
    monkeypatch.setattr(_cupy, "module", lambda: None)
    monkeypatch.setattr(_kernels, "_MOST_EXPRESSIONS", 2)
    monkeypatch.setattr(_kernels.CupyLauncher, "_compile", lambda _, expression, device: made.append(f"{expression}{device}"))
    launcher = _kernels.CupyLauncher()
    for expression, device in (("a", 0), ("a", 0), ("a", 1), ("b", 0), ("a", 0)):
        launcher._find_expression(expression, device)
    assert made == ["a0", "a1", "b0", "a0"]


# ---- refusals --------------------------------------------------------------------------------------------------------------------

ONE = np.ones(4, "f4")
MANY = {f"x{i}": ONE for i in range(33)}


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: kernels.evaluate("a + b", a=ONE, b=np.ones(5, "f4")), ValueError, "shapes differ"),
        (lambda: kernels.evaluate("a + b", a=ONE, b=np.ones(4)), ValueError, "dtypes differ"),
        (lambda: kernels.evaluate("a + b", a=ONE, b=[1.0]), TypeError, "list is not in device memory"),
        (lambda: kernels.evaluate("a + 1", a=ONE.astype("i4")), TypeError, "no kernel for int32"),
        (lambda: kernels.evaluate("a + 1", a=ONE, out=np.broadcast_to(ONE[:1], (4,))), ValueError, "elements share memory"),
        (lambda: kernels.evaluate("a * k", a=ONE, k=np.float64(2)), TypeError, r"k is of type float64.* float\(k\)"),
        (lambda: kernels.evaluate("a * k", a=ONE, k=True), TypeError, "k is of type bool"),
        (lambda: kernels.evaluate("a * k", a=ONE, k=10**400), OverflowError, "too large"),
        (lambda: kernels.evaluate("k + 1", k=2, out=ONE), ValueError, "one array at least"),
        (lambda: kernels.evaluate(" + ".join(MANY), **MANY), ValueError, "33 arrays and 0 numbers; a kernel takes 32 and 256"),
        (lambda: kernels.evaluate("a" + "+1" * 257, a=ONE), ValueError, "1 arrays and 257 numbers"),
        (lambda: kernels.evaluate("a ** 2", a=ONE), ValueError, "has 'a"),
        (lambda: kernels.evaluate("a + b", a=ONE), TypeError, "no array for b"),
    ],
)
def test_what_can_not_be_evaluated_is_refused_before_any_launch(
    call: Callable[[], Any], error: type[Exception], message: str, launcher: HostLauncher
) -> None:
    """A typed error that names the values and the fix."""
    with pytest.raises(error, match=message):
        call()
    assert launcher.launched == []


def test_the_text_of_an_expression_is_a_function_of_elements() -> None:
    """What NVRTC is given; a step of the program is a line."""
    assert write_expression(compile_expression("2*x + k"), ("x",), "f32").splitlines() == [
        "typedef float T;",
        "enum { ARRAYS = 1, NUMBERS = 2 };",
        "__device__ inline Value<T> expression(const Value<T> *x, const Value<T> *s) {",
        "  const Value<T> t0 = s[0] * x[0];",
        "  const Value<T> t1 = t0 + s[1];",
        "  return t1;",
        "}",
    ]


def test_the_compiler_runs_once_for_each_source() -> None:
    """In these tests too: their time is the compiler's."""
    a: Array = np.ones(3)
    kernels.evaluate("a*7", a=a)
    before = compiled.cache_info().misses
    kernels.evaluate("b*8", b=a)
    assert compiled.cache_info().misses == before
