"""How a copy between two layouts is put into dimensions for copy.cu."""

import pytest

from tensorcore._kernel_copies import make_layout, merge


def test_dimensions_that_follow_each_other_are_one() -> None:
    """A contiguous array of any shape is one run of bytes; a gap keeps two dimensions apart; an extent of 1 counts for nothing."""
    assert merge([(3, 160, 160), (1, 7, 9), (5, 32, 32), (4, 8, 8), (8, 1, 1)]) == [(480, 1, 1)]
    assert merge([(3, 200, 160), (20, 8, 8), (8, 1, 1)]) == [(3, 200, 160), (160, 1, 1)]
    assert merge([(3, -8, -8), (8, 1, 1)]) == [(3, -8, -8), (8, 1, 1)]


def test_a_copy_of_more_dimensions_than_the_kernels_take_is_refused() -> None:
    """33 that can't be merged; a contiguous array of as many is one dimension."""
    assert make_layout(merge([(2, 16 << i, 16 << i) for i in reversed(range(33))] + [(8, 1, 1)])[:-1])["dimensions"] == 1
    with pytest.raises(ValueError, match=r"the kernels take 32"):
        make_layout([(2, 1, 1)] * 33)
