"""Tensors in other libraries: without a copy, alive as long as the last consumer, accepted by SciPy and scikit-learn."""

from __future__ import annotations

import array
import copy
import gc
import io
import mmap
import pickle
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import tensorcore as tc

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import RunPython


@pytest.fixture
def grid(pool: tc.MemoryPool) -> tc.Tensor:
    """A tensor of shape (3, 4) that holds 0 ... 11."""
    return tc.asarray(np.arange(12.0).reshape(3, 4), pool=pool, copy=True)


def live(pool: tc.MemoryPool) -> int:
    """The blocks of a pool that are in use."""
    gc.collect()
    return pool.allocation_count - pool.deallocation_count


def require(module: str) -> Any:
    """A library, or a skip that names it."""
    return pytest.importorskip(module, reason=f"{module} is not installed", exc_type=ImportError)


# ---- DLPack ---------------------------------------------------------------------------------------------------------------------

CONSUMERS: dict[str, tuple[str, Callable[[Any, tc.Tensor], Any]]] = {
    "NumPy": ("numpy", lambda library, tensor: library.from_dlpack(tensor)),
    "PyTorch": ("torch", lambda library, tensor: library.from_dlpack(tensor)),
    "JAX": ("jax.numpy", lambda library, tensor: library.from_dlpack(tensor)),
    "NumPy by the buffer protocol": ("numpy", lambda library, tensor: library.frombuffer(tensor)),
    "NumPy by the array interface": ("numpy", lambda library, tensor: library.asarray(tensor)),
    "PyTorch by NumPy": ("torch", lambda library, tensor: library.from_numpy(tensor.numpy())),
    "Arrow": ("pyarrow", lambda library, tensor: library.py_buffer(tensor)),
}


@pytest.mark.parametrize("name", CONSUMERS)
def test_a_consumer_keeps_the_storage_and_copies_nothing(pool: tc.MemoryPool, name: str) -> None:
    """The block lives until the consumer's last view is gone, and then it goes back at once."""
    library, take = CONSUMERS[name]
    module = require(library)
    tensor = tc.asarray(np.arange(1000.0), "f4" if name == "JAX" else "f8", pool=pool, copy=True)
    address = tensor.ptr
    taken = take(module, tensor)
    del tensor
    assert live(pool) == 1
    assert float(np.frombuffer(taken)[7] if name == "Arrow" else taken[7]) == 7.0
    found = taken.address if name == "Arrow" else np.asarray(taken).ctypes.data
    assert found == address
    view = taken[2:] if name != "JAX" else None  # whose slices are copies
    keeper = taken if name == "JAX" else None
    del taken
    assert live(pool) == 1
    del view, keeper
    assert live(pool) == 0


@pytest.mark.parametrize("library", ["torch", "jax.numpy"])
@pytest.mark.parametrize("dtype", ["bool", "int8", "int64", "uint8", "float16", "float32", "float64", "complex64"])
def test_a_tensor_keeps_what_another_library_made(library: str, dtype: str) -> None:
    """From its DLPack, without a copy; what is written shows there, unless it is read-only."""
    module = require(library)
    if library == "jax.numpy" and dtype in ("int64", "float64"):
        pytest.skip("JAX has 64-bit types only when told to")
    source = module.ones(5, dtype=getattr(module, dtype))
    address = source.data_ptr() if library == "torch" else source.unsafe_buffer_pointer()
    tensor = tc.from_dlpack(source)
    assert (tensor.ptr, tensor.dtype, tensor.pool) == (address, np.dtype(dtype), None)
    if library == "torch":
        tensor[2] = 0
        assert source[2].item() == 0
    del source
    gc.collect()
    assert int(np.real(tensor.numpy()).sum()) in (4, 5)


def test_pytorch_reads_a_tensor_s_type_by_the_ways_that_the_guide_names(grid: tc.Tensor) -> None:
    """And by `asarray` the buffer as its default type: once PyTorch does not, the warning in the guide can go."""
    torch = require("torch")
    for take in (torch.from_dlpack, torch.as_tensor, torch.tensor):
        assert take(grid).tolist() == grid.tolist()
    assert torch.from_dlpack(grid).data_ptr() == torch.as_tensor(grid).data_ptr() == grid.ptr
    assert torch.asarray(grid[0]).dtype == torch.float32


def test_arrays_of_jax_stay_as_they_are() -> None:
    """They are constants, which JAX's DLPack does not say: their tensors are read-only, a copy is not."""
    source = require("jax.numpy").arange(4.0)
    tensor = tc.asarray(source)
    with pytest.raises(ValueError, match="read-only"):
        tensor.fill(7)
    with pytest.raises(ValueError, match="read-only"):
        tensor += 1
    tc.asarray(source, copy=True).fill(7)
    assert source.tolist() == [0.0, 1.0, 2.0, 3.0]


def test_pytorch_computes_in_the_tensor_s_memory(grid: tc.Tensor) -> None:
    """In place, on a view with strides."""
    torch = require("torch")
    torch.from_dlpack(grid.T).mul_(2)
    assert grid.tolist() == (2 * np.arange(12.0).reshape(3, 4)).tolist()


def test_memory_that_pytorch_holds_at_the_end_of_the_program_harms_nothing(run_python: RunPython) -> None:
    """The capsule's deleter runs after Python's modules are gone, or never."""
    require("torch")
    run_python(
        """
        import torch, tensorcore as tc
        kept = torch.from_dlpack(tc.ones(1000))
        back = tc.from_dlpack(torch.ones(1000))
        """
    )


# ---- the buffer protocol, copies, pickles ---------------------------------------------------------------------------------------


def test_the_buffer_protocol_lends_the_memory(pool: tc.MemoryPool, grid: tc.Tensor) -> None:
    """With shape, strides and format; written through, and alive as long as the view."""
    view: Any = memoryview(grid.T)
    assert (view.shape, view.strides, view.format, view.readonly) == ((4, 3), (8, 32), "d", False)
    view[1, 2] = 90.0
    assert float(grid[2, 1]) == 90.0
    assert struct.unpack_from("d", grid, 8 * 9) == (90.0,)
    assert array.array("d", grid.numpy()[0].tobytes()).tolist() == [0, 1, 2, 3]
    del grid
    assert live(pool) == 1
    view.release()
    del view
    gc.collect()


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy], ids=["copy", "deepcopy"])
def test_copies_have_storage_of_their_own(pool: tc.MemoryPool, grid: tc.Tensor, duplicate: Any) -> None:
    again = duplicate(grid)
    again[...] = -1
    assert grid.tolist() == np.arange(12.0).reshape(3, 4).tolist()
    assert again.pool is pool
    kept: Any = {"tensor": grid, "again": [grid]}
    deep = copy.deepcopy(kept)
    assert deep["tensor"] is deep["again"][0]


DTYPES = ["bool", "i1", "f2", "f8", "c16", ">i4", "S5", "U3", "M8[s]", "V12", "i4,f8"]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)], ids=str)
def test_a_pickle_keeps_type_shape_and_elements(pool: tc.MemoryPool, protocol: int, dtype: str, shape: tuple[int, ...]) -> None:
    """In every protocol, into the current pool."""
    source = tc.Tensor(shape, dtype, pool=pool)
    source.numpy().reshape(-1).view("u1")[...] = 1 if dtype != "U3" else 0
    with pool.use():
        again = pickle.loads(pickle.dumps(source, protocol))
    assert (type(again), again.dtype, again.shape, again.pool) == (tc.Tensor, source.dtype, shape, pool)
    assert again.numpy().tobytes() == source.numpy().tobytes()


def test_protocol_5_hands_the_memory_on_without_a_copy(pool: tc.MemoryPool) -> None:
    """Out of band the pickle is small, the buffer is the tensor's block, and the loaded tensor lies over the buffer."""
    source = tc.asarray(np.arange(100_000.0), pool=pool, copy=True)
    address, count = source.ptr, pool.allocation_count
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(source, 5, buffer_callback=buffers.append)
    assert len(data) < 1000
    again = pickle.loads(data, buffers=buffers)
    assert (again.ptr, again.pool, pool.allocation_count) == (address, None, count)
    del source, buffers
    assert live(pool) == 1
    assert float(again[99_999]) == 99_999.0
    del again
    assert live(pool) == 0


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_keeps_the_order_of_the_elements_in_memory(pool: tc.MemoryPool, grid: tc.Tensor, protocol: int) -> None:
    """C and F order, as with NumPy's arrays; any other becomes C order."""
    cube = tc.asarray(np.arange(24.0).reshape(2, 3, 4), pool=pool)
    for source in (grid, grid.T, cube.T, grid[:, 1], grid[::2].T, grid[:0].T, cube.transpose(0, 2, 1)):
        with pool.use():
            again = pickle.loads(pickle.dumps(source, protocol))
        assert (again.shape, again.tolist(), again.pool) == (source.shape, source.tolist(), pool)
        assert (again.flags.fnc, again.flags.forc) == (source.flags.fnc, True)


def test_protocol_5_hands_on_memory_in_f_order_too(pool: tc.MemoryPool, grid: tc.Tensor) -> None:
    """Without a copy on either side."""
    buffers: list[pickle.PickleBuffer] = []
    count, source = pool.allocation_count, grid.T
    again = pickle.loads(pickle.dumps(source, 5, buffer_callback=buffers.append), buffers=buffers)
    assert (again.ptr, again.strides, again.tolist()) == (source.ptr, source.strides, source.tolist())
    assert pool.allocation_count == count


def test_buffers_that_crossed_processes_are_as_good(pool: tc.MemoryPool) -> None:
    """Bytes are copied into the pool and so can be written to; mapped memory is used where it is, read-only where it is that."""
    source = tc.asarray(np.arange(10.0), pool=pool, copy=True)
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(source, 5, buffer_callback=buffers.append)
    received = bytes(buffers[0].raw())
    copied = pickle.loads(data, buffers=[received])
    copied += 1
    assert copied.pool is not None
    with mmap.mmap(-1, 80) as mapped:
        mapped[:] = received
        shared = pickle.loads(data, buffers=[memoryview(mapped)])
        shared[0] = 5.0
        assert struct.unpack_from("d", mapped) == (5.0,)
        del shared
        gc.collect()
    read_only = pickle.loads(data, buffers=[memoryview(received)])
    with pytest.raises(ValueError, match="read-only"):
        read_only[0] = 1.0


# ---- files ----------------------------------------------------------------------------------------------------------------------


def test_numpy_saves_and_loads_tensors(pool: tc.MemoryPool, grid: tc.Tensor, tmp_path: Path) -> None:
    """`np.save` writes from the tensor's memory; a mapped file is a tensor without a copy; readinto fills pooled memory."""
    path, count = tmp_path / "grid.npy", pool.allocation_count
    np.save(path, grid)
    assert pool.allocation_count == count
    mapped = tc.Tensor.from_numpy(np.load(path, mmap_mode="r"))
    assert mapped.tolist() == grid.tolist()
    assert mapped.pool is None
    target = tc.empty((3, 4), pool=pool)
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        assert file.readinto(memoryview(target).cast("B")) == 96
    assert target.tolist() == grid.tolist()
    stream = io.BytesIO()
    np.savez(stream, grid=grid)
    stream.seek(0)
    assert np.load(stream)["grid"].tolist() == grid.tolist()


def test_safetensors_take_tensors_and_give_them(pool: tc.MemoryPool, grid: tc.Tensor, tmp_path: Path) -> None:
    """Written from a view by NumPy's name; read as views of one mapped file."""
    safetensors = require("safetensors.numpy")
    path = tmp_path / "model.safetensors"
    count = pool.allocation_count
    safetensors.save_file({"grid": grid.numpy(), "row": grid[1].numpy()}, path)
    assert pool.allocation_count == count
    loaded = {name: tc.Tensor.from_numpy(array) for name, array in safetensors.load_file(path).items()}
    assert loaded["grid"].tolist() == grid.tolist()
    assert loaded["row"].tolist() == grid[1].tolist()


def test_arrow_and_tensors_share_memory(pool: tc.MemoryPool) -> None:
    """A column over a tensor's block keeps it; a tensor over a column keeps that."""
    pyarrow = require("pyarrow")
    tensor = tc.asarray(np.arange(100.0), pool=pool, copy=True)
    address = tensor.ptr
    column = pyarrow.Array.from_buffers(pyarrow.float64(), 100, [None, pyarrow.py_buffer(tensor)])
    del tensor
    assert (live(pool), column[7].as_py(), column.buffers()[1].address) == (1, 7.0, address)
    back = tc.from_dlpack(column)
    del column
    assert (live(pool), back.ptr, float(back[7])) == (1, address, 7.0)
    del back
    assert live(pool) == 0


# ---- libraries that compute -----------------------------------------------------------------------------------------------------


def test_scipy_takes_tensors(pool: tc.MemoryPool, grid: tc.Tensor) -> None:
    """As arrays, by NumPy's protocols, and by the array API where SciPy follows it."""
    require("scipy")
    from scipy import fft, linalg, ndimage, special, stats

    assert special.expit(grid).pool is pool  # a ufunc: the result is a tensor in the pool
    np.testing.assert_allclose(np.asarray(fft.fft(grid)), np.fft.fft(grid.numpy()))
    np.testing.assert_allclose(np.asarray(linalg.svdvals(grid)), np.linalg.svd(grid.numpy(), compute_uv=False))
    np.testing.assert_allclose(np.asarray(ndimage.gaussian_filter(grid, 1.0)), ndimage.gaussian_filter(grid.numpy(), 1.0))
    np.testing.assert_allclose(np.asarray(stats.zscore(grid)), stats.zscore(grid.numpy()))


def test_scipy_follows_the_array_api_with_tensors(run_python: RunPython) -> None:
    """With SCIPY_ARRAY_API set before the import, results are tensors."""
    require("scipy")
    output = run_python(
        """
        import os
        os.environ["SCIPY_ARRAY_API"] = "1"
        import tensorcore as tc
        from scipy import special, stats
        from scipy.linalg import toeplitz
        x = tc.asarray([[1.0, 2.0, 4.0], [3.0, 5.0, 9.0]])
        ranks = stats.spearmanr(x[0], tc.asarray([1.0, 3.0, 2.0])).statistic
        results = [special.logsumexp(x, axis=1), stats.zscore(x, axis=1), ranks]
        print({type(result).__name__ for result in results}, f"{ranks:.1f} {toeplitz(x[0])[1, 0]:.1f}")
        """
    )
    assert output.split() == ["{'Tensor'}", "0.5", "2.0"]


def test_scikit_learn_takes_tensors(grid: tc.Tensor) -> None:
    """An estimator fits and predicts as with arrays."""
    require("sklearn")
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LinearRegression

    x = grid + tc.asarray(np.random.default_rng(0).normal(size=(3, 4)))
    np.testing.assert_allclose(PCA(2).fit_transform(x), PCA(2).fit_transform(x.numpy()))
    assert (
        KMeans(2, n_init=1, random_state=0).fit_predict(x).tolist()
        == KMeans(2, n_init=1, random_state=0).fit_predict(x.numpy()).tolist()
    )
    np.testing.assert_allclose(
        LinearRegression().fit(x, grid[:, 0]).coef_, LinearRegression().fit(x.numpy(), grid.numpy()[:, 0]).coef_
    )


def test_scikit_learn_follows_the_array_api_with_tensors(run_python: RunPython) -> None:
    """With array_api_dispatch the components are tensors, made by tensorcore's functions."""
    require("sklearn")
    require("scipy")
    output = run_python(
        """
        import os
        os.environ["SCIPY_ARRAY_API"] = "1"
        import numpy as np, sklearn, tensorcore as tc
        from sklearn.decomposition import PCA
        from sklearn.metrics import r2_score
        from sklearn.neighbors import KNeighborsClassifier
        values = np.random.default_rng(0).normal(size=(50, 4))
        wanted = PCA(2, svd_solver="full").fit_transform(values)
        with sklearn.config_context(array_api_dispatch=True):
            found = PCA(2, svd_solver="full").fit_transform(tc.asarray(values))
            signs = tc.asarray(values[:, 0] > 0, "i8")
            near = KNeighborsClassifier(1).fit(tc.asarray(values), signs).predict(tc.asarray(values))
            mixed = r2_score(values[:, 0], tc.asarray(values[:, 0]))
        print(type(found).__name__, np.allclose(np.asarray(found), wanted), near.tolist() == signs.tolist(), mixed)
        """
    )
    assert output.split() == ["Tensor", "True", "True", "1.0"]
