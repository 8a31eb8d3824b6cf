"""The kernels of cuda/ and their Python face, on the CPU: compiled by the C++ compiler with tests/cuda/host.h, held against NumPy.

UBSan watches: a 16-byte access to an address that is no multiple of 16, which x86 allows and a GPU does not, is a failed test.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import tensorcore as tc
from tensorcore import _kernels, kernels
from tensorcore._kernel_operands import Operand

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tensorcore._kernel_operands import Order

Array = np.ndarray[Any, np.dtype[Any]]

HERE = Path(__file__).parent
COMPILER = shutil.which(os.environ.get("CXX", "c++"))
FLAGS = ["-std=c++17", "-O1", "-shared", "-fPIC", "-ffp-contract=off", "-fno-strict-aliasing", "-w"]
WATCH = ["-fsanitize=alignment,bounds,shift,signed-integer-overflow,pointer-overflow"]
FLOATS = ("float16", "float32", "float64")
GUARD_BYTES = 64

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler: the kernels can't be compiled for the CPU")


# ---- the second launcher ---------------------------------------------------------------------------------------------------------


def build(folder: Path, file: str) -> Path:
    """Compile one file of kernels with a table of them by name."""
    entries = "".join(f"ENTRY({kernel}) " for kernel in _kernels.KERNELS[file])
    source, library = folder / f"{file}.cpp", folder / f"{file}.so"
    source.write_text(
        f'#include "host.h"\n{_kernels.read_source(file)}\n'
        f"static const Entry entries[] = {{ {entries} {{NULL, NULL, 0}} }};\n"
        'extern "C" int run(const char *name, unsigned blocks, unsigned threads, void **arguments, unsigned long long count) {\n'
        "  return run_entry(entries, name, blocks, threads, arguments, count);\n}\n"
    )
    assert COMPILER is not None
    command = [COMPILER, *FLAGS, f"-I{HERE / 'cuda'}", str(source), "-o", str(library)]
    watched = subprocess.run([*command, *WATCH], capture_output=True, text=True, check=False)
    if watched.returncode:  # a compiler without UBSan's library
        subprocess.run(command, check=True)
    return library


class HostLauncher(_kernels.Launcher):
    """NumPy arrays as device arrays, the CPU as the device; few blocks, so that every kernel's grid-stride loop goes round."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._libraries: dict[str, ctypes.CDLL] = {}
        self.blocks = 3
        self.launched: list[str] = []

    def operand(self, array: Any) -> Operand:
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{type(array).__name__} is not in device memory")
        device = 1 if getattr(array, "on_device_1", False) else 0
        return Operand(array, array.ctypes.data, array.shape, array.strides, array.dtype, device)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any], device: int, order: Order = "C") -> Any:
        assert device == 0
        return np.full(shape, np.zeros((), dtype), order=order)

    def upload(self, array: Array, device: int) -> Any:
        assert device == 0
        return array.copy()

    def download(self, array: Any) -> Array:
        copy: Array = array.copy()
        return copy

    def current_device(self) -> int:
        return 0

    def max_blocks(self, device: int) -> int:
        assert device == 0
        return self.blocks

    def launch(self, kernel: str, blocks: int, arguments: Sequence[Any], device: int) -> None:
        assert device == 0
        file = _kernels.FILE_OF[kernel]
        if file not in self._libraries:
            self._libraries[file] = ctypes.CDLL(str(build(self._folder, file)))
        values = [np.atleast_1d(argument) for argument in arguments]
        pointers = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
        count = ctypes.c_ulonglong(len(values))
        assert self._libraries[file].run(kernel.encode(), blocks, _kernels.BLOCK, pointers, count) == 0, kernel
        self.launched.append(kernel)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> HostLauncher:
    """One launcher, and so one compilation, for the module."""
    return HostLauncher(tmp_path_factory.mktemp("kernels"))


@pytest.fixture(autouse=True)
def launcher(host: HostLauncher, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[HostLauncher]:
    """Let the face find the host's launcher; UBSan must have nothing to say afterwards."""
    monkeypatch.setattr(kernels, "find_launcher", lambda: host)
    host.launched.clear()
    host.blocks = 3
    yield host
    assert "runtime error" not in capfd.readouterr().err


class Buffer:
    """Memory with guard bytes around an array in it that starts `offset` bytes past a multiple of 64."""

    def __init__(self, values: Array, offset: int = 0) -> None:
        self._raw = np.full(values.nbytes + offset + 2 * GUARD_BYTES + 64, 0xA5, "u1")
        start = -self._raw.ctypes.data % 64 + GUARD_BYTES + offset
        self._span = slice(start, start + values.nbytes)
        self.array: Array = self._raw[self._span].view(values.dtype).reshape(values.shape)
        self.array[...] = values

    def is_intact(self) -> bool:
        """Whether the bytes around the array are as they were."""
        return bool((self._raw[: self._span.start] == 0xA5).all() and (self._raw[self._span.stop :] == 0xA5).all())


def sample(dtype: str, n: int, seed: int) -> Array:
    """Numbers of both signs with some that are special."""
    generator = np.random.default_rng(seed)
    values: Array = generator.standard_normal(n).astype(dtype)
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, np.finfo(dtype).max, np.finfo(dtype).tiny, 1e-7], dtype)
    values[:: max(1, n // 16)] = generator.choice(special, len(values[:: max(1, n // 16)]))
    return values


def same(found: Array, expected: Array) -> bool:
    """Whether all bits agree, any NaN being as good as another."""
    assert found.dtype == expected.dtype
    bits = f"u{found.dtype.itemsize}"
    return bool(np.all((found.view(bits) == expected.view(bits)) | (np.isnan(found) & np.isnan(expected))))


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


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "C": lambda a: a,
    "F": np.asfortranarray,
    "reversed": lambda a: a[::-1, :, ::-1],
    "strided": lambda a: np.repeat(a, 3, axis=1)[:, ::3],
    "permuted": lambda a: np.ascontiguousarray(a.transpose(1, 0, 2)).transpose(1, 0, 2),
    "broadcast": lambda a: np.broadcast_to(a[:1], a.shape),
}


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


# ---- copies and fills ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["i1", "f2", "f4", "f8", "c16", "S3", "V12"])
@pytest.mark.parametrize("layouts", list(itertools.product(LAYOUTS, LAYOUTS)), ids=str)
def test_a_copy_between_any_two_layouts_is_exact(dtype: str, layouts: tuple[str, str]) -> None:
    """For every size of element, odd ones too; compared byte by byte."""
    shape = (4, 9, 70)
    raw = np.random.default_rng(3).integers(0, 255, (*shape, np.dtype(dtype).itemsize), "u1")
    source = LAYOUTS[layouts[0]](raw.view(dtype)[..., 0])
    out = LAYOUTS[layouts[1]](np.zeros(shape, dtype))
    if layouts[1] != "broadcast":
        kernels.vectorized_copy(source, out)
        assert out.tobytes() == source.tobytes()
    assert kernels.vectorized_copy(source).tobytes() == source.tobytes()


@pytest.mark.parametrize(("source_offset", "target_offset"), list(itertools.product((0, 1, 2, 4, 8), repeat=2)))
def test_bytes_are_copied_from_any_phase_to_any_other(source_offset: int, target_offset: int) -> None:
    """In the widest unit that both are aligned to."""
    source = Buffer(np.random.default_rng(0).integers(0, 255, 5003, "u1"), source_offset)
    target = Buffer(np.zeros(5003, "u1"), target_offset)
    kernels.vectorized_copy(source.array, target.array)
    assert (source.array == target.array).all()
    assert target.is_intact()


def test_rows_are_copied_in_the_widest_unit_that_strides_allow(launcher: HostLauncher) -> None:
    """A column block of a matrix: 16 bytes where everything is a multiple of 16, fewer else; a transposition goes by elements."""
    memory = Buffer(np.zeros((40, 1024), "f4")).array
    for columns, kernel in ((slice(0, 512), "copy_rows_16"), (slice(2, 514), "copy_rows_8"), (slice(1, 512), "copy_rows_4")):
        launcher.launched.clear()
        kernels.vectorized_copy(memory[:, columns], Buffer(memory[:, columns].copy()).array)
        assert launcher.launched == [kernel]
    launcher.launched.clear()
    kernels.vectorized_copy(memory.T)
    assert launcher.launched == ["copy_elements_4"]


def test_a_copy_upon_itself_acts_as_if_it_were_read_first() -> None:
    """Reversing in place, through a view with negative strides."""
    a = np.arange(1000, dtype="f8")
    kernels.vectorized_copy(a[::-1], a)
    assert (a == np.arange(1000)[::-1]).all()


@pytest.mark.parametrize("dtype", ["?", "i1", "f2", "f4", "f8", "c16", "S3"])
@pytest.mark.parametrize("offset", [0, 1, 5])
def test_fill_sets_every_element_and_nothing_else(dtype: str, offset: int) -> None:
    """At any alignment of the element, for sizes that divide a pattern's 16 bytes and for one that doesn't."""
    value: Any = b"abc" if dtype == "S3" else np.float64(1.5).astype(dtype)
    target = Buffer(np.zeros(1001, dtype), offset * np.dtype(dtype).itemsize)
    kernels.vectorized_fill(target.array, value)
    assert (target.array == value).all()
    assert target.is_intact()
    every_other = np.zeros((20, 30), dtype)
    kernels.vectorized_fill(every_other[::2, 1::3], value)
    assert (every_other[::2, 1::3] == value).all()
    assert np.count_nonzero(every_other) == 100


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


# ---- patterns and guards ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", [b"\x5a", b"ab", b"abcd", b"abcdefgh", b"0123456789abcdef"])
@pytest.mark.parametrize("offset", [0, 1, 7, 8, 13])
@pytest.mark.parametrize("nbytes", [0, 1, 15, 16, 40, 4099])
def test_a_pattern_is_written_from_the_address_on_and_found_again(pattern: bytes, offset: int, nbytes: int) -> None:
    """Wherever the region starts and ends; the byte that was changed is the one that is reported."""
    region = Buffer(np.zeros(nbytes, "u1"), offset)
    address = region.array.ctypes.data
    kernels.fill_pattern(address, nbytes, pattern)
    assert region.array.tobytes() == (pattern * nbytes)[:nbytes]
    assert region.is_intact()
    assert kernels.check_pattern(address, nbytes, pattern) is None
    for place in sorted({0, nbytes // 2, nbytes - 1} & set(range(nbytes))):
        region.array[place:] ^= 1
        assert kernels.check_pattern(address, nbytes, pattern) == place
        region.array[place:] ^= 1


def test_poison_is_a_nan_in_every_type() -> None:
    """A program that computes with freed memory gets NaN."""
    memory = np.zeros(64, "u1")
    kernels.fill_pattern(memory.ctypes.data, memory.nbytes)
    assert all(np.isnan(memory.view(dtype)).all() for dtype in FLOATS)
    assert np.isnan((memory.view("u2").astype("u4") << 16).view("f4")).all()  # bfloat16


def test_guard_regions_are_set_and_checked_all_at_once() -> None:
    """More regions than blocks, of different sizes, one empty; each overwritten one is reported with its first byte."""
    memory = np.zeros(100 * 64, "u1")
    regions = [(memory.ctypes.data + 64 * i + i % 5, (7 * i) % 50) for i in range(100)]
    kernels.set_guards(regions)
    assert kernels.check_guards(regions) == [None] * 100
    memory[64 * 3 + 3 + 20 :][:1] ^= 255
    memory[64 * 99 + 4 :][:40] ^= 255
    found = kernels.check_guards(regions)
    assert (found[3], found[99]) == (20, 0)
    assert found[:3] + found[4:99] == [None] * 98
    kernels.set_guards([])
    assert kernels.check_guards([]) == []


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
