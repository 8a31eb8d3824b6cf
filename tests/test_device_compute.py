"""Computing on a device, over doubles of CuPy and its runtime: CuPy's functions carry it out, in the device's pool."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest

import tensorcore as tc
from tensorcore import _device_compute


@pytest.fixture
def pool(gpu_double: tc.MemoryPool) -> tc.MemoryPool:
    """The global pool of a GPU whose memory is the host's; no block is left in it."""
    return gpu_double


OPERATIONS: list[Any] = [
    lambda x, y, _xp: x + y,
    lambda x, _y, _xp: 2 - x,
    lambda x, y, _xp: x @ y.T,
    lambda x, _y, _xp: -(x**2),
    lambda x, y, _xp: (x < y) | (x > 3),
    lambda x, _y, _xp: x.sum(axis=0),
    lambda x, _y, _xp: x.max(),
    lambda x, _y, _xp: x.astype("f4"),
    lambda x, _y, _xp: x.T.reshape(-1),
    lambda x, _y, _xp: x.clip(1, max=4).round().conj(),
    lambda x, _y, _xp: x[:, :1].squeeze(1),
    lambda x, _y, _xp: x.T.ravel(),
    lambda x, _y, _xp: x.real[0],
    lambda x, _y, _xp: x.imag,
    lambda x, y, _xp: np.concatenate([x, y]),
    lambda x, _y, _xp: np.add.reduce(x, axis=1),
    lambda x, _y, _xp: np.sin(x)[0],
    lambda x, y, xp: xp.concat([x, y], axis=1),
    lambda x, _y, xp: xp.sort(x, axis=0, descending=True),
    lambda x, _y, xp: xp.acos(x / 100),
    lambda x, _y, xp: xp.unique_values(x),
    lambda x, y, xp: xp.where(x > 1, x, y),
    lambda x, _y, xp: xp.broadcast_to(x, (2, 2, 3)),
    lambda x, _y, xp: x[xp.asarray([1, 0])],
]


@pytest.mark.parametrize("operation", OPERATIONS, ids=range(len(OPERATIONS)))
def test_a_result_lies_in_the_device_s_pool(pool: tc.MemoryPool, operation: Any) -> None:
    """What NumPy gives on the host, with its storage a block of the GPU's pool."""
    import array_api_compat.numpy as standard

    a, b = np.arange(6.0).reshape(2, 3), np.arange(6.0)[::-1].reshape(2, 3)
    with tc.default_device("cuda"):
        x, y = tc.asarray(a), tc.asarray(b)
        found = operation(x, y, tc)
    assert (str(found.device), found.pool) == ("cuda:0", pool)
    np.testing.assert_allclose(found.cpu().numpy(), operation(a, b, standard))
    del x, y
    gc.collect()
    assert pool.total_allocated > 0  # the result, or the block that it is a view of


def test_an_operator_in_place_writes_where_the_tensor_lies(pool: tc.MemoryPool) -> None:
    """The same tensor, the same address, and out= likewise."""
    x: Any = tc.asarray(np.arange(3.0), device="cuda")
    same, address = x, x.ptr
    x += 1
    x **= 2
    assert np.multiply(x, 2, out=x) is x
    assert (x is same, x.ptr, x.pool) == (True, address, pool)
    assert x.tolist() == [2.0, 8.0, 18.0]


def test_several_results_are_several_tensors(pool: tc.MemoryPool) -> None:
    """Tuples are wrapped part by part."""
    x = tc.asarray(np.array([3.0, 1.0, 3.0]), device="cuda")
    values, counts = tc.unique_counts(x)
    assert (values.tolist(), counts.tolist()) == ([1.0, 3.0], [1, 2])
    assert values.pool is counts.pool is pool


def test_an_array_of_the_host_is_refused_with_the_fix(pool: tc.MemoryPool) -> None:  # noqa: ARG001 - the device
    """Nothing is copied to a device unasked."""
    x = tc.asarray(np.ones(3), device="cuda")
    operations: list[Any] = [lambda: x + np.ones(3), lambda: np.ones(3) + x, lambda: tc.where(np.ones(3) > 0, x, x)]
    for operation in operations:
        with pytest.raises(tc.DeviceMismatchError, match=r"asarray\(array, device=...\)"):
            operation()


def test_what_cupy_has_not_is_told(pool: tc.MemoryPool) -> None:  # noqa: ARG001 - the device
    """With the way out."""
    x = tc.asarray(np.ones(3), device="cuda")
    with pytest.raises(TypeError, match=r"CuPy has no counterpart of .*apply_along_axis.*x\.cpu\(\)"):
        np.apply_along_axis(np.sum, 0, x)


def test_a_cupy_array_is_no_operand_on_the_host(pool: tc.MemoryPool) -> None:  # noqa: ARG001 - the device
    """CuPy's own refusal would name no fix."""
    there = tc.asarray(np.ones(3), device="cuda").cupy()
    with pytest.raises(tc.DeviceMismatchError, match=r"array\.get\(\)"):
        tc.ones(3) + there


def test_without_room_on_the_device_its_pool_says_so(pool: tc.MemoryPool) -> None:  # noqa: ARG001 - the device
    """The error is the pool's, with its figures, and the operands are whole."""
    with tc.MemoryPool(device="cuda:0", limit="8MiB") as small:
        x = tc.asarray(np.ones(500_000), device="cuda", pool=small)
        with pytest.raises(tc.OutOfMemoryError, match=r"could not hand out 7\.63 MiB") as caught:
            tc.concat([x + 1, x])
        assert caught.value.limit == 8 << 20
        assert float(x.sum()) == 500_000
        del x, caught
        gc.collect()


def test_every_function_of_the_standard_has_its_counterpart_by_name() -> None:
    """What array-api-compat has for NumPy is looked up under the same name for CuPy."""
    names = _device_compute._standard_names()
    import array_api_compat.numpy as standard

    wanted = {
        (("array_api_compat.cupy"), name) for name in ("acos", "concat", "unique_all", "sort", "astype", "cumulative_sum", "matmul")
    }
    assert wanted <= set(names.values())
    assert names[id(standard.linalg.vector_norm)] == ("array_api_compat.cupy.linalg", "vector_norm")
    assert names[id(standard.fft.rfft)] == ("array_api_compat.cupy.fft", "rfft")
