"""Pools and tensors on a real GPU, with CuPy: run by `ci/gpu`, skipped elsewhere. The rest is in test_device_*.py."""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import tensorcore as tc
from tensorcore import simd

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.gpu
MIB = 1 << 20


@pytest.fixture
def cupy() -> Any:
    """CuPy, on GPU 0."""
    try:
        tc.device("cuda")
    except tc.DeviceUnavailableError as error:
        pytest.skip(str(error))
    return pytest.importorskip("cupy")


@pytest.fixture
def gpu(cupy: Any) -> Iterator[tc.MemoryPool]:
    """A pool of its own on GPU 0, the global one meanwhile, without a block afterwards."""
    pool = tc.MemoryPool(device="cuda:0", name="test")
    before = tc.set_global_memory_pool(pool)
    yield pool
    gc.collect()
    cupy.cuda.Device(0).synchronize()
    pool.drain()
    left = pool.total_allocated
    pool.check()
    pool.close()
    if before is not None:
        tc.set_global_memory_pool(before)
    assert left == 0


@pytest.mark.parametrize("upstream", ["cuda", "managed", "async"])
def test_memory_comes_from_the_card_and_goes_back(cupy: Any, upstream: Any) -> None:
    """As the driver counts it."""
    cupy.cuda.Device(0).synchronize()
    with tc.MemoryPool(device="cuda:0", upstream=upstream) as pool:
        for nbytes in (0, 1, 512, 80_000, 5 * MIB, 300 * MIB):
            block = pool.allocate(nbytes)
            assert block % 512 == 0
            cupy.cuda.runtime.memset(block, 1, nbytes)
            pool.deallocate(block, nbytes)
        assert pool.total_capacity >= 300 * MIB
        pool.trim()
        assert pool.total_capacity == 0
        pool.check()


def test_a_limit_is_a_fraction_of_the_card(cupy: Any) -> None:
    """Of its total memory."""
    _, total = cupy.cuda.runtime.memGetInfo()
    with tc.MemoryPool(device="cuda:0", limit=0.25) as pool:
        assert pool.limit == int(0.25 * total)


def test_more_than_the_card_has_is_cupy_s_out_of_memory_error(cupy: Any, gpu: tc.MemoryPool) -> None:
    """With the driver's words as its cause; afterwards the pool works."""
    with pytest.raises(cupy.cuda.memory.OutOfMemoryError) as caught:
        gpu.allocate(1 << 45)
    assert isinstance(caught.value, tc.OutOfMemoryError)
    gpu.deallocate(gpu.allocate(MIB))


def test_data_is_right_on_many_streams_with_reuse(cupy: Any, gpu: tc.MemoryPool) -> None:
    """Blocks wander between streams while kernels run; each tensor has its own values when it is read."""
    streams = [cupy.cuda.Stream(non_blocking=True) for _ in range(4)]
    results = []
    for i in range(200):
        with streams[i % 4]:
            x = tc.Tensor((256, 1024), "float32", device="cuda")
            array = x.cupy()
            array.fill(i)
            for _ in range(5):
                array += 1
            results.append((i, array.sum()))
            del x, array
    for stream in streams:
        stream.synchronize()
    assert all(float(total) == (i + 5) * 256 * 1024 for i, total in results)
    assert gpu.total_capacity < 200 * MIB


def test_a_recorded_stream_keeps_the_block(cupy: Any, gpu: tc.MemoryPool) -> None:
    """Until its kernels are done."""
    other = cupy.cuda.Stream(non_blocking=True)
    x = tc.zeros((64 * MIB,), "uint8", device="cuda")
    cupy.cuda.get_current_stream().synchronize()
    with other:
        array = x.cupy()
        for _ in range(50):
            array += 1
    x.record_stream(other)
    del x, array
    y = tc.Tensor((64 * MIB,), "uint8", device="cuda")
    assert gpu.total_capacity >= 128 * MIB
    other.synchronize()
    assert gpu.drain() == 64 * MIB
    del y


@pytest.mark.usefixtures("gpu")
def test_per_thread_default_streams_are_kept_apart(cupy: Any) -> None:
    """Eight threads, each on its own default stream, with blocks that wander."""
    wrong: list[int] = []

    def work(value: int) -> None:
        with cupy.cuda.Device(0), cupy.cuda.Stream.ptds:
            for _ in range(50):
                array = tc.Tensor((MIB,), "uint8", device="cuda").cupy()
                array.fill(value)
                if int(array.max()) != value or int(array.min()) != value:
                    wrong.append(value)

    threads = [threading.Thread(target=work, args=(value,)) for value in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("non_blocking", [False, True])
def test_a_tensor_comes_back_from_the_card_as_it_went(cupy: Any, non_blocking: bool) -> None:
    """Of several layouts; many at once through pinned memory."""
    model = np.random.default_rng(1).random((500, 400))
    for view in (model, model.T, model[::2, 1:], model[:0], model[3, 4]):
        there = [tc.asarray(np.asarray(view)).to("cuda", non_blocking=non_blocking) for _ in range(10)]
        back = [tensor.cpu(non_blocking=non_blocking) for tensor in there]
        cupy.cuda.get_current_stream().synchronize()
        for tensor in back:
            np.testing.assert_array_equal(tensor.numpy(), view)


@pytest.mark.usefixtures("gpu")
def test_elements_are_used_on_the_card(cupy: Any) -> None:
    """Views, index arrays, masks, assignment, fill, zeros, pickle, repr."""
    model = np.arange(24.0).reshape(4, 6)
    x = tc.asarray(model, device="cuda")
    np.testing.assert_array_equal(x[1:3, ::2].cpu().numpy(), model[1:3, ::2])
    np.testing.assert_array_equal(x[[0, 3]].cpu().numpy(), model[[0, 3]])
    np.testing.assert_array_equal(x[cupy.asarray(model > 5)].cpu().numpy(), model[model > 5])
    np.testing.assert_array_equal(x.T.reshape(-1).cpu().numpy(), model.T.reshape(-1))
    x[1] = 7
    x[2] = x[3]
    assert (x[1, 5].item(), x[2].tolist()) == (7, model[3].tolist())
    x[1:] = x[:-1]
    x[::-1] = x
    assert x[0].tolist() == model[3].tolist()
    x.fill(2)
    assert float(x.cupy().sum()) == 48
    assert tc.zeros(5, device="cuda").tolist() == [0] * 5
    assert pickle.loads(pickle.dumps(x)).tolist() == x.tolist()
    assert repr(tc.ones(2, device="cuda")) == "Tensor([1., 1.], dtype=float64, device='cuda:0')"


@pytest.mark.usefixtures("gpu")
def test_memory_is_shared_with_cupy(cupy: Any) -> None:
    """Both ways, by each protocol."""
    x = tc.full((3, 4), 5.0, device="cuda")
    for array in (x.cupy(), cupy.asarray(x), cupy.from_dlpack(x)):
        array[0, 0] += 1
    assert x[0, 0].item() == 8
    source = cupy.arange(12.0).reshape(3, 4).T
    for tensor in (tc.Tensor.from_cupy(source), tc.from_dlpack(source), tc.asarray(source)):
        assert (tensor.ptr, tensor.tolist()) == (source.data.ptr, source.tolist())


def test_kernels_called_through_simd_compute_into_the_pool(cupy: Any, gpu: tc.MemoryPool) -> None:
    """Results are tensors there, reductions too; on the current stream, and right when it is waited for."""
    model = np.random.default_rng(1).random((300, 401), dtype="f4")
    with cupy.cuda.Stream(non_blocking=True) as stream:
        x = tc.asarray(model, device="cuda")
        results = [
            simd.evaluate("x*x + 2*x - x/3", x=x),
            simd.vectorized_add(x, x[::-1]),
            simd.vectorized_multiply(x, 2.5),
            simd.vectorized_copy(x.T),
            simd.vectorized_max(x),
            simd.vectorized_sum(x.cupy()),
        ]
        stream.synchronize()
        third, two = np.float32(3), np.float32(2)
        expected = [model * model + two * model - model / third, model + model[::-1], model * np.float32(2.5), model.T, model.max()]
        for result, wanted in zip(results, [*expected, model.sum(dtype="f8").astype("f4")], strict=True):
            assert (type(result), result.pool) == (tc.Tensor, gpu)
            np.testing.assert_array_equal(result.cpu().numpy(), wanted)
        out = tc.zeros_like(x)
        assert simd.evaluate("x*x", x=x, out=out) is out
        with pytest.raises(tc.DeviceMismatchError):
            simd.evaluate("x*y", x=x, y=tc.asarray(model))
        del x, out, result, results


def test_an_expression_runs_on_every_card(cupy: Any) -> None:
    """A kernel for each of them, whichever is the current one."""
    for index in range(cupy.cuda.runtime.getDeviceCount()):
        x = tc.asarray(np.arange(5.0), device=f"cuda:{index}")
        assert simd.evaluate("x*x + 1", x=x).tolist() == [1.0, 2.0, 5.0, 10.0, 17.0]


def test_a_copy_between_cards_arrives(cupy: Any) -> None:
    """Where there are two."""
    if cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("one GPU only")
    x = tc.asarray(np.arange(1e6), device="cuda:0").to("cuda:1")
    assert str(x.device) == "cuda:1"
    np.testing.assert_array_equal(x.cpu().numpy(), np.arange(1e6))


@pytest.mark.usefixtures("cupy")
def test_a_forked_child_is_told() -> None:
    """By the parent's pool and by a new one, and the child ends in silence."""
    program = """
import os, sys
import tensorcore as tc
x = tc.zeros(10, device="cuda")
child = os.fork()
if child == 0:
    for ask in (lambda: tc.Tensor(3, device="cuda"), lambda: tc.MemoryPool(device="cuda")):
        try:
            ask()
        except tc.DeviceUnavailableError as error:
            assert "fork" in str(error), error
        else:
            raise SystemExit("no error")
    sys.exit()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=os.environ)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
