"""`tensorcore.simd` on a GPU, over doubles of CuPy and its runtime: new results are tensors in the pool of the operands.

The kernels run on the CPU; that they are right is shown in test_kernels.py and test_kernel_expressions.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cupy_double
import numpy as np
import pytest
from host_launcher import COMPILER

import tensorcore as tc
from tensorcore import simd

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler: the kernels can't be compiled for the CPU")

X, Y = np.arange(1.0, 13.0).reshape(3, 4), np.arange(12.0)[::-1].reshape(3, 4)


@pytest.fixture
def pool(gpu_double: tc.MemoryPool) -> tc.MemoryPool:
    """The global pool of a GPU whose memory is the host's; no block is left in it."""
    return gpu_double


def there(array: Any, **kwargs: Any) -> tc.Tensor:
    return tc.asarray(array, device="cuda", **kwargs)


# ---- new results -----------------------------------------------------------------------------------------------------------------

CALLS: dict[str, tuple[Callable[[Any, Any], Any], Any]] = {
    "add": (simd.vectorized_add, X + Y),
    "subtract": (simd.vectorized_subtract, X - Y),
    "multiply": (simd.vectorized_multiply, X * Y),
    "divide": (lambda x, y: simd.vectorized_divide(y, x), Y / X),
    "fma": (lambda x, y: simd.vectorized_fma(x, y, x), X * Y + X),
    "scale": (lambda x, _: simd.vectorized_scale(2.5, x), 2.5 * X),
    "axpy": (lambda x, y: simd.vectorized_axpy(2.5, x, y), 2.5 * X + Y),
    "copy": (lambda x, _: simd.vectorized_copy(x.T), X.T),
    "sum": (lambda x, _: simd.vectorized_sum(x), X.sum()),
    "dot": (simd.vectorized_dot, (X * Y).sum()),
    "min": (lambda x, _: simd.vectorized_min(x), X.min()),
    "max": (lambda x, _: simd.vectorized_max(x), X.max()),
    "evaluate": (lambda x, y: simd.evaluate("x*y + k*x - y/4", x=x, y=y, k=3), X * Y + 3 * X - Y / 4),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_new_result_is_a_tensor_in_the_pool_of_the_first_tensor(pool: tc.MemoryPool, name: str) -> None:
    """A reduction too: a tensor of no dimension, as a number of the host would have to wait for the stream."""
    call, expected = CALLS[name]
    with tc.MemoryPool(device="cuda:0") as own:
        result = call(there(X, pool=own), there(Y))
        assert (type(result), result.pool, result.shape) == (tc.Tensor, own, np.shape(expected))
        np.testing.assert_array_equal(result.cpu().numpy(), expected)
        assert simd.vectorized_add(there(X).cupy(), there(X, pool=own)).pool is own
        del result
    assert pool.total_allocated == 0


def test_without_a_tensor_the_result_is_in_the_current_pool_of_the_device(pool: tc.MemoryPool) -> None:
    """CuPy arrays alone."""
    x, y = there(X).cupy(), there(Y).cupy()
    assert simd.vectorized_add(x, y).pool is pool
    with tc.MemoryPool(device="cuda:0") as own, own.use():
        result = simd.evaluate("x*y + x", x=x, y=y)
        assert result.pool is own
        assert result.tolist() == (X * Y + X).tolist()
        del result


def test_what_is_needed_on_the_way_comes_from_the_pool_too(pool: tc.MemoryPool) -> None:
    """Dense copies of strided operands, and a reduction's partial results; they go back."""
    x = there(X)
    before = pool.allocation_count
    result = simd.vectorized_add(x[:, ::2], x[:, 1::2])
    assert pool.allocation_count - before == 3
    assert result.tolist() == (X[:, ::2] + X[:, 1::2]).tolist()
    total = simd.vectorized_sum(x)
    assert (float(total), float(total + 1)) == (X.sum(), X.sum() + 1)
    before = pool.total_allocated
    del result, total
    assert pool.total_allocated < before


def test_a_pool_that_has_no_more_says_so(pool: tc.MemoryPool) -> None:  # noqa: ARG001 - the device
    """With its figures."""
    with tc.MemoryPool(device="cuda:0", limit="8MiB") as small:
        x = there(np.ones(900_000), pool=small)
        with pytest.raises(tc.OutOfMemoryError, match=r"could not hand out 6\.87 MiB"):
            simd.vectorized_add(x, x)
        del x


# ---- outputs and operands --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("pool")
def test_an_output_is_returned_as_it_was_given() -> None:
    """A tensor, a CuPy array, an allocation; it may be an input."""
    x, y = there(X), there(Y)
    for out in (there(np.zeros((3, 4))), there(np.zeros((3, 4))).cupy()):
        assert simd.vectorized_add(x, y, out=out) is out
        assert out.tolist() == (X + Y).tolist()
        assert simd.evaluate("x*x - y", x=x, y=y, out=out) is out
        assert out.tolist() == (X * X - Y).tolist()
        assert simd.vectorized_fill(out, 2) is out
        assert out.tolist() == np.full((3, 4), 2.0).tolist()
    assert simd.evaluate("x*2 + y", x=x, y=y, out=y) is y
    assert y.tolist() == (X * 2 + Y).tolist()


def test_allocations_on_the_device_are_arrays_like_the_others(pool: tc.MemoryPool) -> None:
    """Of the shape and dtype of the first array; a pool to take the result from, too."""
    x = there(X)
    with tc.MemoryPool(device="cuda:0") as own, tc.PooledAllocation(X.nbytes, pool=own) as block:
        result = simd.vectorized_add(x.cupy(), block)
        assert result.pool is own
        del result
    with tc.PooledAllocation(X.nbytes, pool=pool) as block:
        assert simd.vectorized_add(x, x, out=block) is block
        assert simd.evaluate("x - block", x=x, block=block).tolist() == (-X).tolist()
        assert simd.vectorized_fill(block, 255) is block
        assert block.array().tolist() == [255] * X.nbytes
        with pytest.raises(TypeError, match="no kernel for uint8"):
            simd.vectorized_add(block, block)


@pytest.mark.usefixtures("pool")
def test_bfloat16_stays_bfloat16() -> None:
    """Which the array interface has no name for."""
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed: NumPy has no bfloat16")
    x = there(X.astype(ml_dtypes.bfloat16))
    assert simd.evaluate("x*x", x=x.cupy()).dtype == x.dtype


@pytest.mark.parametrize(
    "call",
    [
        lambda x: simd.vectorized_add(x, X),
        lambda x: simd.vectorized_add(tc.asarray(X), x),
        lambda x: simd.vectorized_add(x, x, out=np.zeros((3, 4))),
        lambda x: simd.evaluate("x + y", x=x, y=tc.asarray(X)),
        lambda x: simd.evaluate("x + y", x=x.cupy(), y=X),
        lambda x: simd.vectorized_add(x, tc.asarray(X, device="cuda:1")),
        lambda x: simd.vectorized_add(x.cupy(), tc.asarray(X, device="cuda:1").cupy()),
        lambda x: simd.vectorized_dot(x, tc.PooledAllocation(96, device="cpu")),
    ],
)
@pytest.mark.usefixtures("pool")
def test_operands_of_several_devices_are_refused_with_the_fix(call: Callable[[Any], Any]) -> None:
    """Nothing is copied unasked."""
    with pytest.raises(tc.DeviceMismatchError, match=r"x\.to\('cpu'\)|asarray\(array, device=...\)"):
        call(there(X))
    assert cupy_double.double.launched == []


@pytest.mark.parametrize(
    "make", [lambda: [2.0, 3.0], lambda: there(X[0]), lambda: None, lambda: "2"], ids=["list", "tensor", "None", "text"]
)
@pytest.mark.usefixtures("pool")
def test_a_factor_is_one_number(make: Callable[[], Any]) -> None:
    x, alpha = there(X[0]), make()
    with pytest.raises(TypeError, match="alpha is one number for all elements"):
        simd.vectorized_scale(alpha, x)
    with pytest.raises(TypeError, match="alpha is one number for all elements"):
        simd.vectorized_axpy(alpha, x, x)


@pytest.mark.usefixtures("pool")
def test_the_kernels_rules_hold() -> None:
    """Nothing is broadcast or cast, and the dtype has kernels."""
    with pytest.raises(ValueError, match="shapes differ"):
        simd.vectorized_add(there(X), there(X[0]))
    with pytest.raises(TypeError, match="no kernel for int32"):
        simd.evaluate("x + 1", x=there(X.astype("i4")))


# ---- compilation and devices -----------------------------------------------------------------------------------------------------


def test_an_expression_is_compiled_at_its_first_use_and_in_a_way_that_fuses_nothing(pool: tc.MemoryPool) -> None:  # noqa: ARG001 - the device
    """Another name or number compiles nothing."""
    x = there(X)
    simd.evaluate("x*2 + 1", x=x)
    simd.evaluate("y*5 + k", y=x, k=7)
    assert [options for _, options in cupy_double.double.compiled] == [("--std=c++17", "-default-device", "-fmad=false")]
    assert cupy_double.double.launched == [("evaluate", 0)] * 2


@pytest.mark.usefixtures("pool")
def test_work_is_done_on_the_operands_device() -> None:
    """Whichever is the current one."""
    x = tc.asarray(X, device="cuda:1")
    result = simd.evaluate("x*x", x=x)
    assert str(result.device) == "cuda:1"
    assert cupy_double.double.launched == [("evaluate", 1)]
    del x, result
    tc.get_global_memory_pool("cuda:1").close()
