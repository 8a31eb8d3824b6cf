"""Our pools under CuPy, PyTorch and Numba, and the kernels, on a real GPU: run by `ci/gpu`, skipped elsewhere."""

from __future__ import annotations

import gc
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import tensorcore as tc
from tensorcore import kernels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.gpu
FLOATS = ("float16", "float32", "float64")


@pytest.fixture
def cupy() -> Any:
    """CuPy, on GPU 0."""
    if not tc.is_available("cuda"):
        pytest.skip("no GPU is usable here")
    return pytest.importorskip("cupy")


@pytest.fixture
def gpu(cupy: Any) -> Iterator[tc.MemoryPool]:
    """A pool under CuPy, whole and empty afterwards."""
    pool = tc.MemoryPool(device="cuda", name="under CuPy")
    with tc.installed(numpy=False, cupy=True, pool=pool):
        yield pool
    gc.collect()
    cupy.cuda.Device(0).synchronize()
    assert pool.total_allocated == 0
    pool.check()
    pool.close()


# ---- CuPy ------------------------------------------------------------------------------------------------------------------------


def test_cupys_arrays_and_temporaries_come_from_the_pool(cupy: Any, gpu: tc.MemoryPool) -> None:
    """Results are right, figures agree with CuPy's face, pinned transfers too."""
    x = np.random.default_rng(0).random((500, 500))
    y = cupy.asarray(x)
    result = cupy.asnumpy((y * 2 + y).sum(axis=0))
    np.testing.assert_allclose(result, (x * 3).sum(axis=0))
    assert gpu.total_allocated >= x.nbytes
    assert cupy.get_default_memory_pool().used_bytes() == gpu.total_allocated
    assert isinstance(cupy.get_default_pinned_memory_pool(), tc.CupyPinnedMemoryPool)


def test_cupys_error_is_raised_and_the_pool_goes_on(cupy: Any, gpu: tc.MemoryPool) -> None:
    """By the limit, and by the card itself; through CuPy's own C wrapper."""
    gpu.limit = 64 << 20
    with pytest.raises(cupy.cuda.memory.OutOfMemoryError) as caught:
        cupy.empty(1 << 30, "u1")
    assert isinstance(caught.value, tc.OutOfMemoryError)
    gpu.limit = None
    with pytest.raises(cupy.cuda.memory.OutOfMemoryError):
        cupy.empty(1 << 45, "u1")
    assert int(cupy.arange(10).sum()) == 45


def test_no_data_is_lost_between_streams_and_threads(cupy: Any, gpu: tc.MemoryPool) -> None:
    """Each thread computes on its own stream with many temporaries; a block handed over early would show in the sums."""
    failures: list[float] = []

    def work(seed: int) -> None:
        with cupy.cuda.Stream(non_blocking=True):
            for i in range(200):
                a = cupy.full(100_000 + 1000 * (i % 7), seed, "f4")
                b = a + 1
                total = float((b * 2 - a).sum())
                if total != a.size * (seed + 2):
                    failures.append(total)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert gpu.statistics.allocation_count > 1000


def test_cupys_hooks_hear_of_every_allocation(cupy: Any, gpu: tc.MemoryPool) -> None:
    """CuPy's own profiling hook sees what the pool hands out."""
    with cupy.cuda.memory_hooks.LineProfileHook() as hook:
        kept = cupy.empty(1 << 20, "u1")
    assert gpu.total_allocated == kept.nbytes
    assert hook._memory_frames


# ---- kernels ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("n", [0, 1, 15, 1000, 1_000_003])
@pytest.mark.parametrize("offset", [0, 1])
def test_kernels_give_numpys_bits(cupy: Any, dtype: str, n: int, offset: int) -> None:
    """Element by element on any alignment; the hardware rounds as NumPy does."""
    x, y = (np.random.default_rng(seed).standard_normal(n + offset).astype(dtype) for seed in (1, 2))
    a, b = cupy.asarray(x)[offset:], cupy.asarray(y)[offset:]
    x, y = x[offset:], y[offset:]
    assert (cupy.asnumpy(kernels.vectorized_add(a, b)) == x + y).all()
    assert (cupy.asnumpy(kernels.vectorized_subtract(a, b)) == x - y).all()
    assert (cupy.asnumpy(kernels.vectorized_multiply(a, b)) == x * y).all()
    assert (cupy.asnumpy(kernels.vectorized_divide(a, b)) == x / y).all()
    wide = np.dtype("f4" if dtype == "float16" else dtype).type
    assert (cupy.asnumpy(kernels.vectorized_scale(3.0, a)) == (wide(3) * x.astype(wide)).astype(dtype)).all()
    np.testing.assert_allclose(
        cupy.asnumpy(kernels.vectorized_fma(a, b, a)),
        (x.astype("f8") * y + x).astype(dtype),
        rtol=4 * float(np.finfo(dtype).eps),
        atol=1e-6,
    )


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("offset", [0, 1])
def test_a_kernel_of_an_expression_gives_numpys_bits(cupy: Any, dtype: str, offset: int) -> None:
    """The hardware rounds each operation and fuses none."""
    x, y = (np.random.default_rng(seed).standard_normal(100_003).astype(dtype)[offset:] for seed in (1, 2))
    a, b = (cupy.asarray(np.concatenate([z[:1]] * offset + [z]))[offset:] for z in (x, y))
    assert (a.data.ptr % 16 != 0) == bool(offset)
    for text in ("a*b + a*a - b", "-(a - b)/(b*b + 1) + 0.1*a", "a*k"):
        names = {"a": a, "b": b} if "b" in text else {"a": a, "k": 3}
        found = cupy.asnumpy(kernels.evaluate(text, **names))
        assert (found == eval(text, {"a": x, "b": y, "k": 3})).all()
    kernels.evaluate("x*2 - y", x=a[1:], y=a[:-1], out=a[1:])
    assert (cupy.asnumpy(a[1:]) == x[1:] * 2 - x[:-1]).all()


@pytest.mark.parametrize("dtype", FLOATS)
def test_kernel_reductions_and_copies_are_right(cupy: Any, dtype: str) -> None:
    """Sums of small integers are exact; strided and transposed copies too."""
    x = np.random.default_rng(0).integers(-3, 4, (301, 517)).astype(dtype)
    a = cupy.asarray(x)
    wide = x.astype("f8")
    assert float(kernels.vectorized_sum(a)) == np.dtype(dtype).type(wide.sum())
    assert float(kernels.vectorized_dot(a, a)) == np.dtype(dtype).type((wide * wide).sum())
    assert (float(kernels.vectorized_min(a)), float(kernels.vectorized_max(a))) == (x.min(), x.max())
    for mine, theirs in ((a.T, x.T), (a[::2, ::-3], x[::2, ::-3]), (a[:, 5:400], x[:, 5:400])):
        assert (cupy.asnumpy(kernels.vectorized_copy(mine)) == theirs).all()
    a[0, 0] = np.nan
    assert np.isnan(float(kernels.vectorized_max(a)))


def test_kernel_patterns_and_guards_find_what_was_overwritten(cupy: Any, gpu: tc.MemoryPool) -> None:
    """Poison in a block, guard regions around it."""
    block = gpu.allocate(10_000)
    kernels.fill_pattern(block, 10_000)
    assert kernels.check_pattern(block, 10_000) is None
    regions = [(block, 64), (block + 9_000, 500)]
    kernels.set_guards(regions)
    assert kernels.check_guards(regions) == [None, None]
    cupy.cuda.runtime.memset(block + 9_100, 0, 3)
    assert kernels.check_guards(regions) == [None, 100]
    assert kernels.check_pattern(block, 10_000) == 0
    gpu.deallocate(block)


def test_kernel_launches_follow_the_current_stream(cupy: Any) -> None:
    """Work on a stream is in order there."""
    with cupy.cuda.Stream(non_blocking=True) as stream:
        a = cupy.zeros(1 << 22, "f4")
        for _ in range(20):
            kernels.vectorized_axpy(1.0, cupy.ones_like(a), a, a)
        stream.synchronize()
        assert float(a.min()) == float(a.max()) == 20


# ---- PyTorch and Numba -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("cupy")
def test_pytorch_allocates_from_the_pool(run_python: Callable[..., str]) -> None:
    """Results are right; a refusal raises; memory is the pool's."""
    pytest.importorskip("torch")
    output = run_python("""
        import sys
        import tensorcore as tc
        sys.unraisablehook = lambda what: print(type(what.exc_value).__name__)
        pool = tc.MemoryPool(device="cuda", name="torch", limit="2GiB")
        tc.install(numpy=False, cupy=False, torch=True, pool=pool)
        import torch
        x = torch.arange(1000, device="cuda", dtype=torch.float32)
        print(float((x * 2).sum()), pool.total_allocated >= 4000)
        try:
            torch.empty(1 << 40, dtype=torch.uint8, device="cuda")
        except RuntimeError:
            print("refused")
        with torch.cuda.stream(torch.cuda.Stream()):
            y = x + 1
            x.record_stream(torch.cuda.current_stream())
        torch.cuda.synchronize()
        print(float(y[-1]))
    """)
    assert output.splitlines() == ["999000.0 True", "OutOfMemoryError", "refused", "1000.0"]


@pytest.mark.usefixtures("cupy")
def test_numba_allocates_from_the_pool(run_python: Callable[..., str]) -> None:
    """By its environment variable alone."""
    pytest.importorskip("numba.cuda")
    output = run_python("""
        import os
        os.environ["NUMBA_CUDA_MEMORY_MANAGER"] = "tensorcore.numba_plugin"
        import numpy as np
        import tensorcore as tc
        from numba import cuda
        x = cuda.to_device(np.arange(1000.0))
        print(x.copy_to_host().sum(), tc.get_global_memory_pool("cuda").total_allocated >= 8000)
    """)
    assert output == "499500.0 True\n"
