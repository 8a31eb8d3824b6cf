"""tensorcore as a namespace of the array API standard: light to import, complete, and told from NumPy's by where results lie."""

from __future__ import annotations

import builtins
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import tensorcore as tc

if TYPE_CHECKING:
    from conftest import RunPython

ROOT = Path(__file__).parent.parent


def test_importing_the_package_imports_neither_numpy_nor_the_namespace(run_python: RunPython) -> None:
    """NumPy comes with the first name, array-api-compat with the first of the standard's."""
    output = run_python(
        """
        import sys
        import tensorcore as tc
        print("numpy" in sys.modules)
        x = tc.ones(3) + 1
        print("numpy" in sys.modules, "array_api_compat" in sys.modules)
        print(tc.sin(x).shape, "array_api_compat" in sys.modules)
        """
    )
    assert output.splitlines() == ["False", "True False", "(3,) True"]


def test_the_package_lists_the_namespace_and_a_star_import_keeps_python_s_names() -> None:
    """dir() has all of it; `__all__` leaves out the standard's names, of which eight are builtins."""
    strict_names = {"abs", "sum", "bool", "float32", "linalg", "fft", "pi", "unique_all", "take_along_axis", "isdtype", "newaxis"}
    assert strict_names <= set(dir(tc))
    assert not set(tc.__all__) & set(dir(builtins)) - {"__doc__", "__name__"}
    with pytest.raises(AttributeError, match="no attribute 'sine'"):
        _ = tc.sine


def test_types_and_constants_are_numpys_and_pythons() -> None:
    assert tc.ones(3, dtype=tc.float32).dtype == tc.float32
    assert tc.result_type(tc.ones(1, dtype="f4"), tc.int8, 1.0) == tc.float32
    assert tc.can_cast(tc.ones(1, dtype="i2"), tc.int32)
    assert not tc.can_cast(tc.float64, tc.int32)
    assert tc.isdtype(tc.ones(1).dtype, ("integral", "real floating"))
    assert (tc.newaxis, tc.pi, tc.inf) == (None, np.pi, np.inf)
    limits = tc.finfo(tc.ones(1, dtype=tc.complex64))
    assert (limits.bits, limits.dtype, limits.eps, type(limits.max)) == (32, np.dtype("f4"), 2.0**-23, float)
    assert (tc.iinfo(tc.uint8).max, tc.iinfo(tc.ones(1, dtype="i1")).min) == (255, -128)


def test_tensors_made_like_others_lie_in_their_pool(pool: tc.MemoryPool) -> None:
    """With their type and shape unless told otherwise."""
    x = tc.ones((2, 3), dtype="f4", pool=pool)
    for made in (tc.empty_like(x), tc.zeros_like(x), tc.ones_like(x), tc.full_like(x, 7)):
        assert (made.shape, made.dtype, made.pool) == ((2, 3), np.dtype("f4"), pool)
    assert tc.zeros_like(x, dtype="i2", device="cpu").dtype == np.int16
    assert tc.ones_like(tc.Tensor.from_numpy(np.ones(2))).pool is tc.get_global_memory_pool()
    with pool.use():
        assert {tensor.pool for tensor in (tc.eye(3), tc.linspace(0, 1, 5), tc.arange(4), tc.fft.fftfreq(4))} == {pool}


def test_the_namespace_tells_about_itself() -> None:
    """Devices, types by kind and for each device, capabilities; an unknown kind is refused."""
    info = tc.__array_namespace_info__()
    assert info.default_device() in info.devices()
    assert info.capabilities() == {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}
    assert info.default_dtypes(device="cpu")["real floating"] == np.float64
    assert list(info.dtypes(kind="complex floating")) == ["complex64", "complex128"]
    assert len(info.dtypes()) == 13
    assert list(info.dtypes(kind=("bool", "unsigned integer"))) == ["bool", "uint8", "uint16", "uint32", "uint64"]
    with pytest.raises(ValueError, match="not 'floating'"):
        info.dtypes(kind="floating")
    with pytest.raises((ValueError, tc.DeviceUnavailableError)):
        info.dtypes(device="nowhere")


def test_unstacked_parts_are_views(pool: tc.MemoryPool) -> None:
    """Elements too: writing to them writes to the tensor."""
    x = tc.asarray([[1.0, 2.0], [3.0, 4.0]], pool=pool)
    count = pool.allocation_count
    for part in (*tc.unstack(x, axis=1), *tc.unstack(x[0])):
        part += 10
    assert x.tolist() == [[21, 22], [13, 14]]
    assert pool.allocation_count == count
    with pytest.raises(ValueError, match="axis"):
        tc.unstack(x, axis=2)
    with pytest.raises(ValueError, match="axis"):
        tc.unstack(tc.asarray(1.0))


def test_a_tensor_names_its_namespace() -> None:
    """For each version of the standard so far; another one is refused."""
    x: Any = tc.ones(1)
    assert x.__array_namespace__() is x.__array_namespace__(api_version="2021.12") is tc
    with pytest.raises(ValueError, match=r"2025\.12 and before, not '2099\.12'"):
        x.__array_namespace__(api_version="2099.12")


def test_what_a_tensor_needs_for_the_standard_refuses_what_can_not_be() -> None:
    """A stream to the CPU, matrices of vectors, objects."""
    x = tc.ones(3)
    assert x.to_device("cpu") is x
    with pytest.raises(ValueError, match="stream"):
        x.to_device("cpu", stream=7)
    with pytest.raises(ValueError, match="no matrices"):
        _ = x.mT
    assert tc.ones((2, 3, 4)).mT.shape == (2, 4, 3)
    with pytest.raises(TypeError, match="Python objects"):
        tc.asarray([object()])
    with pytest.raises(ValueError, match="copy=False"):
        tc.asarray([1, 2], copy=False)


def test_nothing_mixes_between_devices_unasked() -> None:
    """Tensors of two devices, and an array of the CPU with a tensor on a GPU; a fake one has no elements to compute with."""
    pool = tc.MemoryPool(device="cuda:0", upstream=tc.FakeDeviceUpstream())
    there, here = tc.Tensor(3, pool=pool), tc.ones(3)
    mixed: list[Any] = [lambda: there + here, lambda: tc.concat([here, there]), lambda: np.add(here, there)]
    for operation in mixed:
        with pytest.raises(tc.DeviceMismatchError, match="cpu and cuda:0"):
            operation()
    computed: list[Any] = [lambda: there + 1, lambda: tc.sin(there), lambda: np.sum(there), lambda: there.sum()]
    for operation in computed:
        with pytest.raises(tc.DeviceUnavailableError, match="holds no data"):
            operation()


def test_the_job_of_the_standard_s_tests_names_what_it_needs() -> None:
    """Without a checkout it says so, with the fix, and installs nothing."""
    result = subprocess.run([ROOT / "ci/array-api", "/nowhere"], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "'/nowhere' is no checkout of data-apis/array-api-tests" in result.stderr
    assert "fix: git clone" in result.stderr


def test_every_exception_from_the_standard_has_a_reason() -> None:
    """The file's paragraphs begin with it, and no case stands twice."""
    paragraphs = (ROOT / "tests/array_api/xfails.txt").read_text().strip().split("\n\n")
    assert all(paragraph.startswith("# ") for paragraph in paragraphs)
    cases = [line for paragraph in paragraphs for line in paragraph.splitlines() if not line.startswith("#")]
    assert len(cases) == len(set(cases)) == 27
