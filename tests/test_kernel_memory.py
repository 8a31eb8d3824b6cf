"""The kernels of cuda/ that move and mark memory, run on the CPU: copies between layouts, fills, patterns, guard regions."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from host_launcher import COMPILER, FLOATS, LAYOUTS, Buffer

from tensorcore import kernels

if TYPE_CHECKING:
    from host_launcher import HostLauncher

pytestmark = [
    pytest.mark.skipif(COMPILER is None, reason="no C++ compiler: the kernels can't be compiled for the CPU"),
    pytest.mark.usefixtures("launcher"),
]


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
