"""The NumPy hook inside one process: which arrays come from the pool, and which ways in and out leave NumPy right."""

from __future__ import annotations

import concurrent.futures
import contextvars
import io
import pickle
import threading
import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy._core import multiarray

import tensorcore as tc
from tensorcore import _hook
from tensorcore._lib import address_of, find_block, native

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("hook")

N = 10_000


def pool_of(array: np.ndarray[Any, np.dtype[Any]]) -> int:
    """Return the address of the pool that an array's data lies in; 0 for none."""
    return address_of(find_block(array.ctypes.data).pool)


def is_in(array: np.ndarray[Any, np.dtype[Any]], pool: tc.MemoryPool) -> bool:
    """Return whether an array's data lies in a block of the pool."""
    return pool_of(array) == native.pool_address(pool)


# ---- which arrays ---------------------------------------------------------------------------------------------------------------

MAKERS: dict[str, Any] = {
    "empty": lambda: np.empty(N),
    "zeros": lambda: np.zeros(N),
    "a result": lambda: np.arange(N) * 2.0,
    "a copy": lambda: np.arange(N)[::2].copy(),
    "one element": lambda: np.empty(1),
    "no element": lambda: np.empty(0),
    "no element in one of two dimensions": lambda: np.zeros((3, 0)),
    "objects": lambda: np.array([object() for _ in range(100)]),
    "strings": lambda: np.array(["a", "bc"] * 100),
    "fromiter": lambda: np.fromiter(range(N), "f8"),
    "fromstring": lambda: np.fromstring("1 2 3 " * 1000, sep=" "),
    "loadtxt": lambda: np.loadtxt(io.StringIO("1 2\n" * 1000)),
    "resized": lambda: resized(),
}


def resized() -> np.ndarray[Any, np.dtype[Any]]:
    """Return an array that grew, with realloc, and shrank again."""
    array = np.arange(10.0)
    array.resize(N, refcheck=False)
    array.resize(N // 2, refcheck=False)
    return array


@pytest.mark.parametrize("name", MAKERS)
def test_an_array_made_while_installed_has_its_data_in_the_pool(pool: tc.MemoryPool, name: str) -> None:
    """It holds what it holds without the hook, and its block goes back when it is dropped."""
    plain = MAKERS[name]()
    tc.install(pool=pool)
    array = MAKERS[name]()
    assert is_in(array, pool)
    if name not in ("empty", "one element", "objects"):
        np.testing.assert_array_equal(array, plain)
    tc.uninstall()
    before = pool.deallocation_count
    del array
    assert pool.deallocation_count > before
    assert pool.statistics.requested.current == 0


def test_threads_and_executors_started_before_and_after_are_pooled(pool: tc.MemoryPool) -> None:
    """The hook is process-wide: a context variable would be empty there."""
    with concurrent.futures.ThreadPoolExecutor(1) as before:
        before.submit(lambda: None).result()
        tc.install(pool=pool)
        with concurrent.futures.ThreadPoolExecutor(1) as after:
            arrays = [executor.submit(np.ones, N).result() for executor in (before, after)]
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(is_in(np.ones(N), pool)))
    thread.start()
    thread.join()
    assert [is_in(array, pool) for array in arrays] + found == [True] * 3


def test_arrays_made_before_stay_as_they_are_and_can_be_resized_and_dropped(pool: tc.MemoryPool) -> None:
    """Their memory is NumPy's; realloc and free reach NumPy's own functions."""
    array = np.arange(N)
    small = np.arange(3)
    tc.install(pool=pool)
    assert pool_of(array) == 0
    array.resize(2 * N, refcheck=False)
    small.resize(N, refcheck=False)
    assert pool_of(array) == pool_of(small) == 0
    assert (array[:N] == np.arange(N)).all()
    assert not array[N:].any()
    del array, small
    assert pool.statistics.refused_deallocations == 0


def test_arrays_of_the_pool_outlive_uninstall(pool: tc.MemoryPool) -> None:
    """They can be read, resized (inside the pool) and dropped; new ones are NumPy's."""
    tc.install(pool=pool)
    array = np.arange(N)
    tc.uninstall()
    assert pool_of(np.arange(N)) == 0
    array.resize(3 * N, refcheck=False)
    assert is_in(array, pool)
    assert (array[:N] == np.arange(N)).all()
    del array
    assert pool.statistics.requested.current == 0


def test_an_array_whose_pool_was_closed_moves_when_it_is_resized() -> None:
    """To NumPy's own memory, or to the pool that is installed by then."""
    first, second = tc.MemoryPool(), tc.MemoryPool()
    tc.install(pool=first)
    to_numpy, to_second = np.arange(N), np.arange(N)
    tc.install(pool=second)
    first.close()
    to_second.resize(100 * N, refcheck=False)
    assert is_in(to_second, second)
    tc.uninstall()
    to_numpy.resize(100 * N, refcheck=False)
    assert pool_of(to_numpy) == 0
    for array in (to_numpy, to_second):
        assert (array[:N] == np.arange(N)).all()


def test_an_array_may_be_dropped_in_another_thread(pool: tc.MemoryPool) -> None:
    """Its block goes back all the same."""
    tc.install(pool=pool)
    arrays = [np.ones(n) for n in range(1, 2000, 7)]
    thread = threading.Thread(target=arrays.clear)
    thread.start()
    thread.join()
    tc.uninstall()
    assert pool.statistics.requested.current == 0


def test_memory_of_others_passes_through(pool: tc.MemoryPool, tmp_path: Path) -> None:
    """Borrowed and mapped arrays keep their own memory; unpickled arrays are the pool's."""
    np.arange(N, dtype="f8").tofile(tmp_path / "numbers")
    tc.install(pool=pool)
    mapped = np.memmap(tmp_path / "numbers", "f8", "r+")
    borrowed = np.frombuffer(bytearray(8 * N))
    read = np.frombuffer(pickle.dumps(mapped[:]), "u1")
    again = pickle.loads(pickle.dumps(np.arange(N)))
    assert [pool_of(array) for array in (mapped, borrowed, read)] == [0, 0, 0]
    assert is_in(np.array(again), pool)
    assert (again == np.arange(N)).all()
    mapped[0] = 5
    del mapped, borrowed, read
    assert pool.statistics.refused_deallocations == 0


def test_an_object_array_starts_cleared_and_lets_its_objects_go(pool: tc.MemoryPool) -> None:
    """NumPy's reference counting works on pool memory, also on a block that was used before."""
    tc.install(pool=pool)
    np.full(1000, -1).sum()

    class Item:
        alive = 0

        def __init__(self) -> None:
            Item.alive += 1

        def __del__(self) -> None:
            Item.alive -= 1

    array = np.empty(1000, object)
    assert array[0] is None
    array[:] = [Item() for _ in range(1000)]
    array.resize(2000, refcheck=False)
    assert Item.alive == 1000
    del array
    assert Item.alive == 0


def test_tracemalloc_sees_pooled_arrays(pool: tc.MemoryPool) -> None:
    """NumPy's own wrapper reports them, whoever allocates."""
    tc.install(pool=pool)
    tracemalloc.start()
    try:
        array = np.empty(1 << 20, "u1")
        assert tracemalloc.get_traced_memory()[0] >= 1 << 20
        del array
        assert tracemalloc.get_traced_memory()[0] < 1 << 20
    finally:
        tracemalloc.stop()


def test_an_array_above_the_limit_is_a_memory_error() -> None:
    """NumPy's own, which names the shape; after it the pool serves smaller ones."""
    with tc.MemoryPool(limit="4MiB") as pool:
        tc.install(pool=pool)
        for make in (np.empty, np.zeros):
            with pytest.raises(MemoryError, match="Unable to allocate"):
                make(10**6)
        grown = np.arange(N)
        with pytest.raises(MemoryError):
            grown.resize(10**6, refcheck=False)
        assert (grown == np.arange(N)).all()
        assert is_in(grown, pool)
        tc.uninstall()
        del grown


def test_a_failing_array_climbs_the_ladder() -> None:
    """An on_out_of_memory callback frees what makes room for NumPy's array."""
    with tc.MemoryPool(limit="8MiB") as pool, tc.installed(pool=pool):
        held = [np.empty(5 << 20, "u1")]
        pool.on_out_of_memory(lambda *_: held.clear())
        assert is_in(np.empty(5 << 20, "u1"), pool)


def test_a_zeroed_array_on_used_memory_is_zero(pool: tc.MemoryPool) -> None:
    """For sizes of every kind of block."""
    tc.install(pool=pool)
    for nbytes in (1, 100, 5000, 100_000, 1 << 20, 9 << 20):
        np.full(nbytes, 255, "u1")
        assert not np.zeros(nbytes, "u1").any()


# ---- install and uninstall ------------------------------------------------------------------------------------------------------


def test_without_a_pool_the_global_one_is_installed() -> None:
    """installed_pool names it; uninstall takes it away, a second time does nothing."""
    tc.install()
    assert tc.installed_pool() is tc.get_global_memory_pool()
    tc.uninstall()
    tc.uninstall()
    assert tc.installed_pool() is None
    assert pool_of(np.empty(N)) == 0


def test_two_pools_in_turn_each_keep_their_arrays(pool: tc.MemoryPool) -> None:
    """A second install replaces the pool; one uninstall ends it."""
    with tc.MemoryPool() as other:
        arrays = []
        for current in (pool, other, pool):
            tc.install(pool=current)
            arrays.append(np.ones(N))
        assert [is_in(array, current) for array, current in zip(arrays, (pool, other, pool), strict=True)] == [True] * 3
        tc.uninstall()
        assert pool_of(np.ones(N)) == 0
        arrays.clear()
        assert pool.statistics.requested.current == other.statistics.requested.current == 0


@pytest.mark.parametrize("scope", ["process", "context"])
def test_nested_with_blocks_put_back_what_was_there(pool: tc.MemoryPool, scope: Any) -> None:
    """Also after an exception, and around an install."""
    with tc.MemoryPool() as other:
        with tc.installed(pool=pool, scope=scope) as outer:
            assert outer is pool
            with tc.installed(pool=other, scope=scope) as inner:
                assert inner is other
                assert is_in(np.ones(N), other)
            with pytest.raises(LookupError), tc.installed(pool=other, scope=scope):
                raise LookupError
            assert is_in(np.ones(N), pool)
        assert tc.installed_pool() is None
        assert pool_of(np.ones(N)) == 0


def test_numpy_false_leaves_numpy_alone(pool: tc.MemoryPool) -> None:
    """The with-block then yields None."""
    with tc.installed(numpy=False, pool=pool) as found:
        assert found is None
        assert pool_of(np.ones(N)) == 0


@pytest.mark.parametrize("library", ["cupy", "torch"])
def test_a_library_that_needs_a_gpu_is_refused_without_one(pool: tc.MemoryPool, library: str) -> None:
    """With the reason and the fix, before anything is installed."""
    with pytest.raises(tc.DeviceUnavailableError, match=f"{library}=True needs a GPU: .*or leave {library}=True out"):
        tc.install(pool=pool, **{library: True})  # type: ignore[arg-type]
    assert tc.installed_pool() is None


def test_a_pool_that_can_not_serve_numpy_is_refused(pool: tc.MemoryPool) -> None:
    """Closed, or with addresses that the CPU can't use; the scope must be one of two."""
    closed = tc.MemoryPool()
    closed.close()
    with pytest.raises(tc.PoolClosedError, match="can't be installed"):
        tc.install(pool=closed)
    with tc.MemoryPool(upstream=tc.FakeUpstream(None)) as made_up, pytest.raises(ValueError, match="CPU can't use"):
        tc.install(pool=made_up)
    with pytest.raises(ValueError, match="not 'thread'"):
        tc.install(pool=pool, scope="thread")  # type: ignore[arg-type]


def test_an_installed_pool_can_not_be_closed_and_is_kept_alive() -> None:
    """The message names uninstall; dropping every reference keeps it working."""
    tc.install(pool=tc.MemoryPool(name="kept"))
    pool = tc.installed_pool()
    assert pool is not None
    with pytest.raises(ValueError, match=r"'kept' is installed under NumPy: call tensorcore.uninstall\(\)"):
        pool.close()
    array = np.ones(N)
    assert is_in(array, pool)
    tc.uninstall()
    pool.close()
    assert array.sum() == N


# ---- context-local --------------------------------------------------------------------------------------------------------------


def test_the_context_scope_is_seen_by_this_context_only(pool: tc.MemoryPool) -> None:
    """A new thread has NumPy's own allocator; a copied context has the pool, and keeps it after uninstall."""
    tc.install(pool=pool, scope="context")
    assert tc.installed_pool() is pool
    assert is_in(np.ones(N), pool)
    elsewhere: list[int] = []
    thread = threading.Thread(target=lambda: elsewhere.append(pool_of(np.ones(N))))
    thread.start()
    thread.join()
    assert elsewhere == [0]
    copied = contextvars.copy_context()
    tc.uninstall(scope="context")
    assert pool_of(np.ones(N)) == 0
    assert is_in(copied.run(np.ones, N), pool)


def test_an_array_of_the_context_scope_keeps_its_pool_alive_and_outlives_it() -> None:
    """A handler whose pool was closed refuses; its arrays stay valid and can be resized."""
    with tc.installed(pool=tc.MemoryPool(name="local"), scope="context") as pool:
        assert pool is not None
        array = np.arange(N)
        context = contextvars.copy_context()
    pool.close()
    with pytest.raises(MemoryError):
        context.run(np.ones, N)
    array.resize(100 * N, refcheck=False)
    assert pool_of(array) == 0
    assert (array[:N] == np.arange(N)).all()


def test_both_scopes_at_once_keep_their_own_pools(pool: tc.MemoryPool) -> None:
    """The context's pool goes before the process's."""
    with tc.MemoryPool() as local:
        tc.install(pool=pool)
        with tc.installed(pool=local, scope="context"):
            inside = np.ones(N)
        outside = np.ones(N)
        assert (is_in(inside, local), is_in(outside, pool)) == (True, True)
        del inside


# ---- the way in -----------------------------------------------------------------------------------------------------------------


def test_this_numpy_allows_the_first_way() -> None:
    """The functions inside NumPy's default handler are replaced in place; its name stays."""
    assert tc.hook_mode() == "process"
    assert multiarray.get_handler_name() == "default_allocator"


def test_where_the_hook_works_in_the_context_only_install_says_so(pool: tc.MemoryPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """And uninstall takes it away from the context."""
    monkeypatch.setattr(_hook, "_mode", "context")
    with pytest.warns(tc.HookWarning, match="threads started later are not pooled"):
        tc.install(pool=pool)
    assert is_in(np.ones(N), pool)
    tc.uninstall()
    assert pool_of(np.ones(N)) == 0


@pytest.mark.parametrize(
    ("writable", "working", "mode"),
    [
        (True, [False, True], "process"),
        (True, [True], "capsule"),
        (False, [True], "capsule"),
        (True, [], "context"),
    ],
)
def test_the_first_way_that_passes_its_test_is_chosen(
    monkeypatch: pytest.MonkeyPatch, writable: bool, working: list[bool], mode: str
) -> None:
    """In place where the handler can be written to, else through the capsule, else in the context."""
    monkeypatch.setattr(_hook, "_is_writable", lambda _: writable)
    monkeypatch.setattr(_hook, "_works", lambda repoint: repoint in working)
    assert _hook._choose_mode() == mode
