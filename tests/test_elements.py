"""Elements of tensors: indices and what they select, values that are assigned, numbers and text."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import pytest

import tensorcore as tc

KEYS: list[Any] = [
    0,
    -1,
    (1, 2),
    slice(None, None, 2),
    (slice(1), slice(None, None, -1)),
    ...,
    (..., 0),
    None,
    (0, None),
    (1, 2, ...),
]


@pytest.mark.parametrize("key", KEYS, ids=repr)
def test_a_basic_index_is_a_view_of_the_same_storage(grid: tc.Tensor, key: Any) -> None:
    """It equals NumPy's, and writing to it writes to the tensor; one element is a view without dimensions."""
    view = grid[key]
    np.testing.assert_array_equal(view.numpy(), grid.numpy()[key])
    assert view.pool is grid.pool
    view.fill(-1)
    assert (grid.numpy()[key] == -1).all()
    assert grid.pool is not None
    assert grid.pool.allocation_count == 1


@pytest.mark.parametrize("key", [[0, 2], np.array([True, False, True]), (slice(None), [1, 1]), ([0, 1], [2, 3])], ids=repr)
def test_an_index_array_or_mask_gives_a_copy_in_the_same_pool(pool: tc.MemoryPool, grid: tc.Tensor, key: Any) -> None:
    """As in NumPy, but the copy's storage is a block too."""
    copied = grid[key]
    np.testing.assert_array_equal(copied.numpy(), grid.numpy()[key])
    assert pool.allocation_count - pool.deallocation_count == 2  # what NumPy makes of the key comes and goes
    copied.fill(-1)
    assert (grid.numpy() >= 0).all()


def test_tensors_serve_as_index_and_as_value(grid: tc.Tensor) -> None:
    """On the right of an assignment and as a mask."""
    mask = tc.Tensor((3, 4), "bool", pool=grid.pool)
    mask[...] = grid.numpy() > 5
    assert grid[mask].tolist() == [6, 7, 8, 9, 10, 11]
    grid[0] = grid[2]
    grid[mask] = 0
    assert grid.tolist() == [[8, 9, 10, 11], [4, 5, 0, 0], [0, 0, 0, 0]]


def test_length_iteration_and_numbers_are_those_of_the_elements(grid: tc.Tensor) -> None:
    """A tensor of no dimensions converts to Python's numbers, another one does not."""
    assert len(grid) == 3
    assert [row.tolist() for row in grid] == grid.tolist()
    five = grid[1, 1]
    assert (float(five), int(five), complex(five), bool(five), five.item()) == (5.0, 5, 5 + 0j, True, 5.0)
    whole = tc.Tensor((), "int64", pool=grid.pool)
    whole.fill(2)
    assert [10, 20, 30][whole] == 30
    for number in (int, float, complex):
        for tensor in (grid, grid[:1, :1]):
            with pytest.raises(TypeError, match=r"no dimensions.*item\(\) gives the only element"):
                number(tensor)
    with pytest.raises(ValueError, match="ambiguous"):
        bool(grid)


@pytest.mark.parametrize("source", [[1], True, 1.0, [1, 2]], ids=str)
def test_only_an_integer_of_no_dimensions_is_an_index(source: Any) -> None:
    """As with NumPy's arrays: a list refuses the others as an index, and range and shapes do."""
    tensor = tc.asarray(source)
    for ask in (lambda: [1, 2, 3][tensor], lambda: range(tensor), lambda: operator.index(tensor)):
        with pytest.raises(TypeError, match="only an integer tensor of no dimensions is an index"):
            ask()


def test_bytes_are_the_elements() -> None:
    """Of every number of them; a bytes object of that many zeros is for an integer of no dimensions, as with NumPy's arrays."""
    for count in (1, 2):
        tensor = tc.asarray([5, 6][:count], "u1")
        assert bytes(tensor) == bytearray(tensor) == b"\5\6"[:count]
    assert bytes(tc.asarray(2)) == bytes(2)


def test_a_tensor_prints_its_elements(grid: tc.Tensor) -> None:
    """With its type and device."""
    assert repr(grid[:2, :2]) == "Tensor([[0., 1.],\n        [4., 5.]], dtype=float64, device='cpu')"


@pytest.mark.parametrize(("value", "spec"), [(1.5, ".2f"), (3, "04d"), (1.5, ""), ("x", ">3"), (1 + 2j, ".1f")], ids=str)
def test_an_element_takes_a_format(value: Any, spec: str) -> None:
    """As NumPy's; a tensor of more dimensions has its text alone."""
    assert format(tc.asarray(np.array(value)), spec) == format(np.array(value), spec)
    tensor = tc.asarray([1.5])
    assert f"{tensor}" == str(tensor)
    with pytest.raises(TypeError, match="unsupported format string passed to Tensor"):
        format(tensor, ".2f")
    with pytest.raises(TypeError, match="__round__"):
        round(tensor)  # type: ignore[call-overload] # as of an array


def test_a_tensor_contains_what_any_element_equals(grid: tc.Tensor) -> None:
    """Of any number of dimensions; a sequence is broadcast, as NumPy does."""
    assert 5 in grid
    assert 5 in grid[1]
    assert 5.5 not in grid
    assert [3, 5, 0, 0] in grid  # the 5
    assert grid[2] in grid
    assert 0 in grid[0, 0]
    assert 0 not in grid[:0]


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0, 3)], ids=str)
def test_without_elements_a_tensor_prints_its_shape(shape: tuple[int, ...]) -> None:
    """Where `[]` does not tell it, as NumPy does."""
    text = repr(np.empty(shape)).removeprefix("array(").removesuffix("dtype=float64)")
    assert repr(tc.Tensor(shape)) == f"Tensor({text}dtype=float64, device='cpu')"
