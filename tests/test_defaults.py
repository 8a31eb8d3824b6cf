"""What is meant where nothing is named: default devices and pools, by scope, thread and task, process and environment."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

import pytest

import tensorcore as tc
from tensorcore import _defaults

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import RunPython


@pytest.fixture
def gpu() -> Iterator[tc.MemoryPool]:
    """A fake GPU's pool as the global one of cuda:0; the process's default device is put back."""
    before = tc.get_default_device()
    pool = tc.MemoryPool(device="cuda:0", upstream="fake")
    tc.set_global_memory_pool(pool)
    yield pool
    pool.close()
    tc.set_default_device(before)
    assert (_defaults._scopes, tc.get_default_device()) == (0, tc.Device("cpu"))


@pytest.mark.usefixtures("gpu")
def test_a_default_device_holds_inside_its_scope() -> None:
    """For tensors, creation functions and allocations; scopes nest, and an error ends one too."""
    with tc.default_device("cuda") as where:
        assert where == tc.get_default_device() == tc.Tensor(3).device == tc.zeros(3).device == tc.Device("cuda", 0)
        assert tc.PooledAllocation(3).pool is tc.Tensor(3, "f4").pool is tc.current_pool()
        with contextlib.suppress(KeyError), tc.default_device(tc.Device("cpu")):
            assert str(tc.arange(3).device) == "cpu"
            raise KeyError
        assert str(tc.Tensor((2, 2)).device) == "cuda:0"
        assert str(tc.Tensor(3, device="cpu").device) == "cpu"
    assert str(tc.Tensor(3).device) == "cpu"


@pytest.mark.usefixtures("gpu")
def test_the_process_s_default_device_holds_in_every_thread() -> None:
    """The setter returns the old one; a scope goes before it."""
    assert tc.set_default_device("cuda") == tc.Device("cpu")
    seen: list[str] = []
    thread = threading.Thread(target=lambda: seen.append(str(tc.Tensor(3).device)))
    thread.start()
    thread.join()
    assert seen == ["cuda:0"]
    with tc.default_device("cpu"):
        assert str(tc.Tensor(3).device) == "cpu"
    assert str(tc.set_default_device("cpu")) == "cuda:0"
    assert str(tc.Tensor(3).device) == "cpu"


@pytest.mark.usefixtures("gpu")
def test_a_scope_is_its_thread_s_alone() -> None:
    """Another thread keeps the CPU meanwhile, with the full and the short way of construction."""
    seen: list[tuple[str, bool]] = []
    pool = tc.MemoryPool()

    def look() -> None:
        tensor = tc.Tensor((2, 3))
        seen.append((str(tensor.device), tensor.pool is tc.get_global_memory_pool()))

    with tc.default_device("cuda"), pool.use():
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    look()
    assert seen == [("cpu", True)] * 2


def test_a_scope_is_its_task_s_alone() -> None:
    """Two asyncio tasks on one thread take memory from their own pools."""
    pools = [tc.MemoryPool(), tc.MemoryPool()]

    async def work(pool: tc.MemoryPool) -> bool:
        with pool.use():
            await asyncio.sleep(0)
            tensor = tc.Tensor(3)
            await asyncio.sleep(0)
            return tensor.pool is tc.current_pool("cpu") is pool

    async def both() -> list[bool]:
        return await asyncio.gather(*(work(pool) for pool in pools))

    assert asyncio.run(both()) == [True, True]
    assert _defaults._scopes == 0


def test_a_pool_is_the_one_of_its_device_inside_its_with_block() -> None:
    """And is closed at the end of it; what it handed out stays."""
    with tc.MemoryPool() as pool:
        tensor, block = tc.Tensor((2, 3)), tc.PooledAllocation(10)
        assert tensor.pool is block.pool is tc.current_pool() is pool
        assert tc.get_global_memory_pool() is not pool
        tensor.fill(3)
    assert pool.closed
    assert tensor.numpy().sum() == 18
    assert tc.Tensor(3).pool is tc.get_global_memory_pool()


def test_a_pool_that_is_used_in_a_scope_stays_open() -> None:
    """It can be used again; scopes nest, the innermost one counts; the outermost with-block closes."""
    outer, inner = tc.MemoryPool(), tc.MemoryPool()
    for _ in range(2):
        with outer.use() as used:
            with inner.use():
                assert tc.Tensor(3).pool is inner
            assert tc.Tensor(3).pool is used is outer
    with outer:
        with outer:
            pass
        assert not outer.closed
        assert tc.Tensor(3).pool is outer
    assert outer.closed


def test_a_pool_of_another_device_does_not_change_the_cpu_s() -> None:
    """A scope is for its device."""
    with tc.MemoryPool(device="cuda:1", upstream="fake") as pool:
        assert tc.Tensor(3).pool is tc.get_global_memory_pool()
        assert tc.Tensor(3, device="cuda:1").pool is pool
        with pytest.raises(tc.DeviceUnavailableError):
            tc.Tensor(3, device="cuda:0")


def test_a_pool_closed_inside_its_scope_is_passed_over() -> None:
    """The next outer one is taken."""
    with tc.MemoryPool() as pool:
        pool.close()
        assert tc.Tensor(3).pool is tc.get_global_memory_pool()


def test_a_scope_that_ends_in_another_context_ends() -> None:
    """A generator that was begun in one thread and is finished in another one leaves nothing behind."""
    pool = tc.MemoryPool()

    def scoped() -> Iterator[None]:
        with pool.use():
            yield

    generator = scoped()
    thread = threading.Thread(target=lambda: next(generator))
    thread.start()
    thread.join()
    list(generator)
    assert tc.Tensor(3).pool is tc.get_global_memory_pool()


@pytest.mark.parametrize(("name", "error"), [("gpu!", ValueError), ("tpu", tc.DeviceUnavailableError)])
def test_a_name_that_is_no_device_is_refused_at_once(name: str, error: type[Exception]) -> None:
    """And the default stays."""
    for use in (tc.set_default_device, lambda name: tc.default_device(name).__enter__()):
        with pytest.raises(error):
            use(name)
    assert tc.get_default_device() == tc.Device("cpu")


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        ("", "cpu cpu"),
        ("cpu", "cpu cpu"),
        ("cuda:1", "cuda:1 cuda:1"),
        ("tpu", "TENSORCORE_DEVICE='tpu' in the environment: there is no device kind 'tpu'; known here: cpu, cuda, pinned"),
        ("a b", "TENSORCORE_DEVICE='a b' in the environment: a device is named like 'cpu' or 'cuda:1', not 'a b'"),
    ],
)
def test_the_environment_names_the_default_device(
    run_python: RunPython, monkeypatch: pytest.MonkeyPatch, value: str, printed: str
) -> None:
    """A wrong name is told at the first use, not at the import; another device can still be named."""
    monkeypatch.setenv("TENSORCORE_DEVICE", value)
    got = run_python(
        """
        import tensorcore as tc

        tc.set_global_memory_pool(tc.MemoryPool(device="cuda:1", upstream="fake"))
        assert str(tc.Tensor(3, device="cpu").device) == "cpu"
        try:
            print(tc.get_default_device(), tc.Tensor(3).device)
        except (ValueError, tc.DeviceUnavailableError) as error:
            print(error)
        """
    )
    assert got == printed + "\n"
