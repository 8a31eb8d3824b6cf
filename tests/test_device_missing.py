# ruff: noqa: N802 - CUDA's names
"""Where there is no GPU, driver or CuPy: what is said, and that nothing is imported for it."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any

import pytest

import tensorcore as tc
from tensorcore import _cupy

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import RunPython

MIB = 1 << 20


class Failing:
    """A runtime whose driver answers with an error."""

    def __init__(self, status: int, version: int = 0) -> None:
        self.status, self.version = status, version

    def getDeviceCount(self) -> int:
        error = RuntimeError(f"cudaError {self.status}")
        error.status = self.status  # type: ignore[attr-defined]
        raise error

    def driverGetVersion(self) -> int:
        return self.version


def raise_missing() -> Any:
    raise ModuleNotFoundError("No module named 'cupy'", name="cupy")


def raise_broken() -> Any:
    raise ImportError("libcudart.so.13: cannot open shared object file")


UNAVAILABLE = [
    (raise_missing, "CuPy is not installed: pip install 'tensorcore\\[cuda13\\]'"),
    (raise_broken, "CuPy can't be imported \\(libcudart.so.13.*pip install --force-reinstall"),
    (lambda: Failing(35), "the NVIDIA driver is missing: apt install nvidia-driver-580"),
    (
        lambda: Failing(35, 12040),
        "the NVIDIA driver \\(for CUDA 12.4\\) is older than this CuPy needs.*pip install 'tensorcore\\[cuda12\\]'",
    ),
    (lambda: Failing(100), "the driver finds no GPU: nvidia-smi -L"),
    (lambda: Failing(3), "forked after its parent used CUDA: .*get_context\\('spawn'\\)"),
    (lambda: Failing(999), "the CUDA driver does not work \\(cudaError 999\\): nvidia-smi"),
    (lambda: types.SimpleNamespace(getDeviceCount=lambda: 0), "the driver finds no GPU"),
]


@pytest.mark.parametrize(("runtime", "message"), UNAVAILABLE)
def test_what_is_missing_is_said_with_the_command_that_mends_it(
    monkeypatch: pytest.MonkeyPatch, runtime: Callable[[], Any], message: str
) -> None:
    """By every way to ask for the device."""
    monkeypatch.setattr(_cupy, "runtime", runtime)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert not tc.is_available("cuda")
    assert tc.devices() == (tc.Device("cpu"),)
    for ask in (
        lambda: tc.MemoryPool(device="cuda"),
        lambda: tc.MemoryPool(device="pinned"),
        lambda: tc.MemoryPool(device="cuda:1", upstream="async"),
        lambda: tc.Tensor(3, device="cuda"),
        lambda: tc.zeros(3, device="cuda:0"),
        lambda: tc.Tensor(3).cuda(),
        lambda: tc.PooledAllocation(3, device="cuda"),
        lambda: tc.device("cuda"),
    ):
        with pytest.raises(tc.DeviceUnavailableError, match=message):
            ask()


def test_gpus_that_are_hidden_are_named_as_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the value of the variable."""
    monkeypatch.setattr(_cupy, "runtime", lambda: Failing(100))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    with pytest.raises(tc.DeviceUnavailableError, match="CUDA_VISIBLE_DEVICES is '-1': unset CUDA_VISIBLE_DEVICES"):
        tc.device("cuda")


def test_cupy_is_not_imported_with_the_package_nor_by_a_fake_device(run_python: RunPython) -> None:
    """It costs 0.3 s and may not be there."""
    run_python(
        """
        import sys
        import tensorcore as tc

        tc.Tensor(3, pool=tc.MemoryPool(device="cuda:0", upstream="fake")).T
        assert "cupy" not in sys.modules
        """
    )
