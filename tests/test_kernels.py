"""The kernels of cuda/ that compute, and their Python face, run on the CPU and held against NumPy: element by element, reductions.

Copies and patterns are in test_kernel_memory.py, expressions in test_kernel_expressions.py.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from host_launcher import COMPILER, FLOATS, LAYOUTS, Array, Buffer, same, sample

import tensorcore as tc
from tensorcore import _kernels, kernels

if TYPE_CHECKING:
    from collections.abc import Callable

    from host_launcher import HostLauncher

pytestmark = [
    pytest.mark.skipif(COMPILER is None, reason="no C++ compiler: the kernels can't be compiled for the CPU"),
    pytest.mark.usefixtures("launcher"),
]


# ---- element by element ----------------------------------------------------------------------------------------------------------

LENGTHS = (0, 1, 7, 8, 15, 16, 17, 33, 255, 1000, 20_011)
BINARY: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "add": (kernels.vectorized_add, np.add),
    "subtract": (kernels.vectorized_subtract, np.subtract),
    "multiply": (kernels.vectorized_multiply, np.multiply),
    "divide": (kernels.vectorized_divide, np.divide),
}


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # overflow and division by zero are among the samples
def test_the_four_operations_give_numpys_bits(name: str, dtype: str, n: int) -> None:
    """At lengths with and without tails, infinities, NaN and subnormal results among them."""
    function, reference = BINARY[name]
    a, b, out = Buffer(sample(dtype, n, 1)), Buffer(sample(dtype, n, 2)), Buffer(np.zeros(n, dtype))
    assert function(a.array, b.array, out.array) is out.array
    assert same(out.array, reference(a.array, b.array))
    assert out.is_intact()
    assert same(function(a.array, b.array), reference(a.array, b.array))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("offsets", list(itertools.product((0, 1, 3), repeat=3)), ids=str)
def test_any_alignment_of_the_elements_is_right(dtype: str, offsets: tuple[int, int, int]) -> None:
    """Inputs and output each start at their own phase of 16 bytes; nothing beside the output is written."""
    size = np.dtype(dtype).itemsize
    a, b, out = (Buffer(np.arange(100, dtype=dtype) + i, offset * size) for i, offset in enumerate(offsets))
    kernels.vectorized_add(a.array, b.array, out.array)
    assert (out.array == a.array + b.array).all()
    assert out.is_intact()


@pytest.mark.parametrize("dtype", FLOATS)
def test_fma_scale_and_axpy_compute_in_the_wide_type_and_round_at_the_end(dtype: str) -> None:
    """float16 goes through float32, so the product is exact there; float32's fma is exact in float64 up to its last rounding."""
    x, y, z = (np.random.default_rng(seed).standard_normal(1001).astype(dtype) for seed in range(3))
    wide = np.dtype("f4" if dtype == "float16" else "f8" if dtype == "float32" else "f16")
    expected = (x.astype(wide) * y.astype(wide) + z.astype(wide)).astype(dtype)
    tolerance = float(np.finfo(dtype).eps) if dtype == "float64" else 0.0  # a longdouble has fewer bits than an exact product
    np.testing.assert_allclose(kernels.vectorized_fma(x, y, z), expected, rtol=tolerance, atol=tolerance)
    alpha = np.float32(1.7) if dtype != "float64" else np.float64(1.7)
    assert same(kernels.vectorized_scale(1.7, x), (alpha * x.astype("f4" if dtype == "float16" else dtype)).astype(dtype))
    exact = np.dtype("f8" if dtype == "float16" else wide)  # alpha has float32's digits, so the product has more than they
    axpy = (exact.type(alpha) * x.astype(exact) + y.astype(exact)).astype("f4" if dtype == "float16" else dtype).astype(dtype)
    np.testing.assert_allclose(kernels.vectorized_axpy(1.7, x, y), axpy, rtol=tolerance, atol=tolerance)


def test_fma_rounds_once() -> None:
    """(1 + e)(1 - e) - 1 is -e**2, which a product rounded first would lose."""
    e = np.float32(2.0**-12) * np.ones(5, "f4")
    assert (kernels.vectorized_fma(1 + e, 1 - e, -np.ones(5, "f4")) == -(2.0**-24)).all()


def test_every_half_widens_to_numpys_float_and_floats_narrow_as_numpy_rounds() -> None:
    """The host's conversions, which stand in for the hardware's, are right; so what is computed on float16 above is a proof."""
    halves = np.arange(1 << 16, dtype="u2").view("f2")
    assert same(kernels.vectorized_scale(1.0, halves), halves)
    between = halves[np.isfinite(halves)].astype("f4")
    ties = ((between[:-1] + between[1:]) / 2)[::7]
    with np.errstate(over="ignore"):
        near = np.concatenate([np.nextafter(ties, np.float32(direction)) for direction in (-1e9, 1e9)] + [ties])
        # x * 1 + 0 in float32, then to float16: what axpy does with an alpha that no float16 holds
        assert same(kernels.vectorized_axpy(float(near[5]), np.ones(3, "f2"), np.zeros(3, "f2")), np.full(3, near[5]).astype("f2"))
        for alpha in near[::97]:
            assert same(kernels.vectorized_scale(float(alpha), np.ones(1, "f2")), np.full(1, alpha).astype("f2"))


def bfloat(values: Any) -> Array:
    """Round float32 to bfloat16, ties to even, as a float32 array; written without the kernels' trick."""
    scaled = np.asarray(values, "f4")
    mantissa, exponent = np.frexp(scaled.astype("f8"))
    rounded: Array = (np.rint(mantissa * 256) / 256 * 2.0**exponent).astype("f4")
    return rounded


@pytest.mark.parametrize("name", BINARY)
def test_bfloat16_computes_in_float32_and_rounds_to_even(name: str) -> None:
    """Beside an own rounding by frexp."""
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed: NumPy has no bfloat16")
    function, reference = BINARY[name]
    x, y = (bfloat(np.random.default_rng(seed).standard_normal(501)) for seed in (1, 2))
    found = function(x.astype(ml_dtypes.bfloat16), y.astype(ml_dtypes.bfloat16)).astype("f4")
    assert (found == bfloat(reference(x, y))).all()


@pytest.mark.parametrize("name", BINARY)
def test_a_python_number_is_an_operand_on_either_side(name: str) -> None:
    """Rounded to the dtype; an array's number is not one."""
    function, reference = BINARY[name]
    x = np.random.default_rng(0).random(33).astype("f4")
    assert same(function(x, 0.1), reference(x, np.float32(0.1)))
    assert same(function(3, x), reference(np.float32(3), x))
    with pytest.raises(TypeError, match="float64 is not in device memory"):
        function(x, np.float64(3))


def test_an_output_may_be_an_input() -> None:
    """In place, on either side."""
    a, b = np.arange(100, dtype="f4"), np.ones(100, "f4")
    expected = a - b
    kernels.vectorized_subtract(a, b, b)
    assert (b == expected).all()


@pytest.mark.parametrize("shift", [-5, -1, 1, 4, 40])
def test_an_output_that_overlaps_an_input_acts_as_if_the_inputs_were_read_first(shift: int) -> None:
    """Moved by some elements to either side."""
    memory = np.arange(300, dtype="f4")
    x, out = memory[50:250], memory[50 + shift : 250 + shift]
    expected = x * np.float32(2)
    kernels.vectorized_scale(2, x, out)
    assert (out == expected).all()


@pytest.mark.parametrize("layouts", list(itertools.product(LAYOUTS, LAYOUTS)), ids=str)
def test_operands_of_any_strides_are_right(layouts: tuple[str, str]) -> None:
    """Each layout with each other one, and with an output of the second one where it can be written."""
    a, b = (LAYOUTS[name](np.random.default_rng(i).random((6, 35, 5)).astype("f4")) for i, name in enumerate(layouts))
    assert (kernels.vectorized_add(a, b) == a + b).all()
    out = LAYOUTS[layouts[1]](np.zeros((6, 35, 5), "f4"))
    if layouts[1] != "broadcast":
        kernels.vectorized_add(a, b, out)
        assert (out == a + b).all()


def test_arrays_in_fortran_order_take_one_pass(launcher: HostLauncher) -> None:
    """No copy is made of them, and the result is in that order too."""
    a = np.asfortranarray(np.random.default_rng(0).random((10, 20)))
    result = kernels.vectorized_multiply(a, a)
    assert result.flags.f_contiguous
    assert launcher.launched == ["multiply_f64"]


# ---- reductions ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("n", [1, 3, 8, 255, 256, 257, 5000])
@pytest.mark.parametrize("offset", [0, 1, 3])
def test_sum_and_dot_are_as_exact_as_the_type_allows(dtype: str, n: int, offset: int) -> None:
    """Integers small enough that every order of additions gives the same."""
    size = np.dtype(dtype).itemsize
    x = Buffer(np.random.default_rng(n).integers(-3, 4, n).astype(dtype), offset * size).array
    y = Buffer(np.random.default_rng(n + 1).integers(-3, 4, n).astype(dtype)).array
    assert kernels.vectorized_sum(x) == x.astype("f8").sum()
    assert kernels.vectorized_dot(x, y) == (x.astype("f8") * y.astype("f8")).sum()
    assert kernels.vectorized_min(x) == x.min()
    assert kernels.vectorized_max(x) == x.max()


def test_float32_is_added_up_in_float64() -> None:
    """The sum is the exact one, rounded; adding in float32 would lose the small terms."""
    x = np.tile(np.array([1e8, 1.0, -1e8, 1.0], "f4"), 1000)
    assert kernels.vectorized_sum(x) == 2000


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("place", [0, 1, 777, 998, 999])
def test_min_and_max_find_an_element_anywhere_and_a_nan_wins(dtype: str, place: int) -> None:
    """As NumPy's do."""
    x = np.random.default_rng(0).random(1000).astype(dtype)
    x[place] = -2
    assert kernels.vectorized_min(x) == -2
    x[place] = 2
    assert kernels.vectorized_max(x) == 2
    x[place] = np.nan
    assert np.isnan(kernels.vectorized_min(x))
    assert np.isnan(kernels.vectorized_max(x))
    assert kernels.vectorized_min(np.full(5, np.inf, dtype)) == np.inf  # what the reduction starts with is no element
    assert kernels.vectorized_max(np.full(5, -np.inf, dtype)) == -np.inf


def test_reductions_without_elements_are_zero_or_refused() -> None:
    """A sum of nothing is 0; nothing has no least element."""
    empty = np.zeros((3, 0), "f4")
    assert kernels.vectorized_sum(empty) == 0
    assert kernels.vectorized_dot(empty, empty) == 0
    for function, name in ((kernels.vectorized_min, "min"), (kernels.vectorized_max, "max")):
        with pytest.raises(ValueError, match=rf"shape \(3, 0\) has no {name}"):
            function(empty)


def test_reductions_of_strided_arrays_are_right() -> None:
    """Through a dense copy."""
    x = np.arange(60.0).reshape(6, 10)[::2, ::3]
    assert kernels.vectorized_sum(x) == x.sum()
    y = np.arange(100.0).reshape(10, 10).T[:3, :4]
    assert kernels.vectorized_dot(x, y) == (x * y).sum()


# ---- refusals --------------------------------------------------------------------------------------------------------------------

ONE = np.ones(4, "f4")


class OnAnotherDevice(np.ndarray[Any, np.dtype[Any]]):
    on_device_1 = True


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: kernels.vectorized_add(ONE, np.ones(5, "f4")), ValueError, r"shapes differ: \(4,\) and \(5,\)"),
        (lambda: kernels.vectorized_add(ONE, np.ones(4)), ValueError, "dtypes differ: float32 and float64"),
        (lambda: kernels.vectorized_add(ONE, ONE.view(OnAnotherDevice)), ValueError, "devices 0 and 1"),
        (lambda: kernels.vectorized_add([1.0], ONE), TypeError, "list is not in device memory"),
        (lambda: kernels.vectorized_add(ONE.astype("i4"), ONE.astype("i4")), TypeError, "no kernel for int32"),
        (lambda: kernels.vectorized_sum(ONE.astype(">f4")), TypeError, "no kernel for >f4"),
        (lambda: kernels.vectorized_add(ONE, ONE, np.ones((2, 2), "f4")), ValueError, "shapes differ"),
        (lambda: kernels.vectorized_copy(ONE, np.broadcast_to(ONE[:1], (4,))), ValueError, "elements share memory"),
        (lambda: kernels.vectorized_add(ONE, ONE, np.broadcast_to(ONE[:1], (4,))), ValueError, "elements share memory"),
        (lambda: kernels.vectorized_sum(np.zeros(17, "u1")[1:].view("f4")), ValueError, "not aligned to 4 bytes"),
        (lambda: kernels.vectorized_fill(ONE, [1, 2]), ValueError, r"one value, not with an array of shape \(2,\)"),
        (lambda: kernels.fill_pattern(ONE.ctypes.data, 4, b"abc"), ValueError, "1, 2, 4, 8 or 16 bytes, not 3"),
        (lambda: kernels.fill_pattern(ONE.ctypes.data, 4, b""), ValueError, "not 0"),
    ],
)
def test_what_does_not_go_together_is_refused_before_any_launch(
    call: Callable[[], Any], error: type[Exception], message: str, launcher: HostLauncher
) -> None:
    """A typed error that names the values; no kernel ran."""
    with pytest.raises(error, match=message):
        call()
    assert launcher.launched == []


def test_without_a_gpu_the_face_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is the device's own, at the call, not at the import."""
    monkeypatch.setattr(kernels, "find_launcher", _kernels.find_launcher)
    if tc.is_available("cuda"):
        pytest.skip("there is a GPU")
    with pytest.raises(tc.DeviceUnavailableError, match="cuda"):
        kernels.vectorized_add(ONE, ONE)
