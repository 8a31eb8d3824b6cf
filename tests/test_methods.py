"""Methods of NumPy's arrays on tensors: the same elements and types, views where NumPy has views, and else memory of the pool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import tensorcore as tc

if TYPE_CHECKING:
    from collections.abc import Callable

METHODS: dict[str, Callable[[Any], Any]] = {
    "clip": lambda x: x.clip(1, 2),
    "clip, lower alone": lambda x: x.clip(min=1),
    "clip, upper alone": lambda x: x.clip(max=1),
    "clip by arrays": lambda x: x.clip(x[:, :1] * 0, x[:1]),
    "round": lambda x: x.round(),
    "round to tens": lambda x: x.round(-1),
    "conj": lambda x: x.conj(),
    "conjugate": lambda x: x.conjugate(),
    "take": lambda x: x.take([0, 2], axis=1),
    "take of all": lambda x: x.take([5, 0]),
    "real": lambda x: x.real,
    "imag": lambda x: x.imag,
    "squeeze": lambda x: x[:, :1, None].squeeze(),
    "squeeze an axis": lambda x: x[None, :, :1].squeeze(0),
    "squeeze axes": lambda x: x[None, :, :1].squeeze((0, -1)),
    "ravel": lambda x: x.ravel(),
    "ravel in F order": lambda x: x.ravel("F"),
    "ravel a transpose": lambda x: x.T.ravel(),
    "ravel a transpose as it lies": lambda x: x.T.ravel(order="K"),
    "flatten": lambda x: x.flatten(),
    "flatten in F order": lambda x: x.flatten(order="F"),
    "of one element": lambda x: x[1, 1].clip(0, 1).round().conj().squeeze().ravel(),
}


@pytest.mark.parametrize("dtype", ["i4", "f4", "f8", "c16"])
@pytest.mark.parametrize("name", METHODS)
def test_a_method_does_what_numpy_s_does(pool: tc.MemoryPool, name: str, dtype: str) -> None:
    """Also for the place: a view of the tensor's memory where NumPy's is one, else a block of its own."""
    array = np.array([[0.5, 1.5, -2.25], [13.0, -0.0, 5.5]]).astype(dtype) * (1 + 2j if dtype == "c16" else 1)
    tensor = tc.asarray(array, pool=pool, copy=True)
    found, wanted = METHODS[name](tensor), METHODS[name](array)
    np.testing.assert_array_equal(found.numpy(), wanted, strict=True)
    assert (type(found), found.pool) == (tc.Tensor, pool)
    assert np.shares_memory(found.numpy(), tensor.numpy()) == np.shares_memory(wanted, array)
    assert found.flags.writeable == wanted.flags.writeable


def test_real_and_imaginary_parts_can_be_assigned_to() -> None:
    """In place too; real numbers have no imaginary part to set."""
    tensor = tc.asarray([1 + 2j, 3 + 4j])
    tensor.imag *= 10
    tensor.real = 0
    assert tensor.tolist() == [20j, 40j]
    numbers = tc.asarray([1.0, 2.0])
    numbers.real += 1
    assert numbers.tolist() == [2, 3]
    with pytest.raises(TypeError, match="float64 have no imaginary part"):
        numbers.imag = 1


def test_a_method_of_a_fake_device_s_tensor_says_that_there_is_no_data() -> None:
    """As operators do."""
    tensor = tc.Tensor((1, 3), pool=tc.MemoryPool(device="cuda:0", upstream="fake"))
    for method in (METHODS["clip"], METHODS["real"], METHODS["round"]):
        with pytest.raises(tc.DeviceUnavailableError, match="holds no data"):
            method(tensor)
