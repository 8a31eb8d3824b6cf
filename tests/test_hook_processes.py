"""The hook and the pool across processes and at the end of one: fork, spawn, interpreter exit, the second way in, start-up."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import RunPython

BEGIN = """
    import numpy as np, tensorcore as tc
    from tensorcore._lib import find_block, address_of, native
    def pooled(array): return address_of(find_block(array.ctypes.data).pool) != 0
"""


def test_the_second_way_in_serves_every_thread_too(run_python: RunPython) -> None:
    """With the default handler's capsule re-pointed: arrays of before, new threads, uninstall, the choice of another pool."""
    program = """
    from tensorcore import _hook
    import threading
    _hook._is_writable = lambda address: False
    old = np.arange(10_000)
    tc.install()
    out = [tc.hook_mode(), pooled(np.ones(1000))]
    thread = threading.Thread(target=lambda: out.append(pooled(np.ones(1000)))); thread.start(); thread.join()
    old.resize(20_000, refcheck=False); out.append(pooled(old)); del old
    kept = np.ones(1000)
    tc.uninstall(); out.append(pooled(np.ones(1000)))
    kept.resize(5000, refcheck=False); out.append(pooled(kept)); del kept
    tc.install(pool=tc.MemoryPool()); out.append(pooled(np.zeros(1000)))
    print(*out)
    """
    assert run_python(BEGIN + program) == "capsule True True False False True True\n"


def test_a_forked_child_has_the_hook_and_its_own_memory(run_python: RunPython) -> None:
    """It computes with arrays of before and after the fork while the parent's other threads allocate, and exits cleanly."""
    program = """
    import os, threading
    tc.install()
    before = np.arange(100_000)
    stop = threading.Event()
    def work():
        while not stop.is_set():
            np.ones(50_000) + np.ones(50_000); np.ones(10); tc.get_global_memory_pool().statistics
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads: thread.start()
    for _ in range(20):
        child = os.fork()
        if child == 0:
            total = (before + np.ones(100_000)).sum()
            tc.get_global_memory_pool().check()
            grandchild = threading.Thread(target=lambda: np.ones(1000)); grandchild.start(); grandchild.join()
            os._exit(0 if total == 100_000 * 99_999 // 2 + 100_000 and pooled(np.ones(1000)) else 1)
        assert os.waitpid(child, 0)[1] == 0
    stop.set()
    for thread in threads: thread.join()
    tc.get_global_memory_pool().check()
    print("done")
    """
    options = ["-W", "ignore::DeprecationWarning"]  # Python 3.12 warns of fork in a process with threads
    assert run_python(BEGIN + program, *options) == "done\n"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_passes_arrays_both_ways(run_python: RunPython, method: str) -> None:
    """A worker made by fork has the hook, one made by the other methods has not; both work."""
    program = f"""
    import multiprocessing, operator
    tc.install()
    context = multiprocessing.get_context({method!r})
    with context.Pool(2) as workers:
        results = workers.starmap(np.multiply, [(np.arange(10_000), i) for i in range(8)])
        mode = workers.map(operator.methodcaller("__len__"), [np.ones(3)])
    print(sum(int(result.sum()) for result in results), mode, pooled(results[0] + 1))
    """
    options = ["-W", "ignore::DeprecationWarning"]
    assert run_python(BEGIN + program, *options) == f"{28 * 10_000 * 9_999 // 2} [3] True\n"


@pytest.mark.parametrize(
    "alive",
    [
        "keep = np.ones(100_000); keep2 = [np.ones(n) for n in range(1000)]",
        "tc.uninstall(); keep = tc.Tensor((100, 100)); view = keep[3:]",
        "keep = tc.PooledAllocation(1000); view = keep.array()",
        "import sys; sys.keep = np.ones(100_000); import builtins; builtins.keep = tc.Tensor(10)",
        "pool = tc.MemoryPool(); pool.allocate(1000); cycle = [np.ones(1000)]; cycle.append(cycle)",
        "class A:\\n    def __del__(self): np.ones(1000); tc.Tensor(10)\\nkeep = A()",
        "import atexit; atexit.register(lambda: np.ones(100_000).sum()); keep = np.ones(10)",
        "pool = tc.MemoryPool(upstream='fake'); keep = tc.Tensor(1000, pool=pool)",
        "pool = tc.MemoryPool(limit='1MiB'); pool.on_out_of_memory(print); pool.warn_at(0.5, print); keep = pool.allocate(10)",
        "import threading; threading.Thread(target=lambda: [np.ones(i % 100) for i in range(10_000)], daemon=True).start()",
    ],
)
def test_a_program_ends_cleanly_with_blocks_alive(run_python: RunPython, alive: str) -> None:
    """Nothing is freed twice and nothing is printed, whatever Python drops in which order."""
    program = "import numpy as np, tensorcore as tc\ntc.install()\n" + alive.replace("\\n", "\n") + "\nprint('end')\n"
    assert run_python(program) == "end\n"


def test_the_stand_in_for_an_unknown_array_layout_gives_blocks_back(run_python: RunPython) -> None:
    """An owner object behind the array: the same shapes, types and views, and every block comes back."""
    program = """
    from tensorcore import _cpu, _pool
    _cpu.arrays_can_own_blocks = _pool.arrays_can_own_blocks = False
    pool = tc.MemoryPool()
    tc.set_global_memory_pool(pool)
    tensor = tc.Tensor((100, 100)); tensor.fill(2); view = tensor[3]
    empty = tc.Tensor((3, 0)); names = tc.Tensor(4, "U5")
    with tc.PooledAllocation(800) as block: array = block.array("f8", (10, 10))
    zeros = pool._make_zeros(pool, (50, 50), "c8")
    print(tensor.numpy().sum(), empty.shape, names.itemsize, array.shape, zeros.any(), pool.allocation_count)
    del tensor, block, empty, names, zeros
    print(view.numpy().sum(), pool.deallocation_count)
    del view, array
    print(pool.deallocation_count)
    """
    assert run_python(BEGIN + program) == "20000.0 (3, 0) 20 (10, 10) False 5\n200.0 3\n5\n"


def test_import_takes_neither_cupy_nor_rich_nor_matplotlib(run_python: RunPython) -> None:
    """Nor any other package than NumPy and cffi's backend."""
    program = """
    import sys, numpy
    before = {name.split(".")[0] for name in sys.modules}
    import tensorcore
    tensorcore.MemoryPool  # everything is loaded at the first use of a name
    new = {name.split(".")[0] for name in sys.modules} - before
    print(sorted(name for name in new if name not in sys.stdlib_module_names))
    """
    assert run_python(program) == "['_cffi_backend', 'tensorcore']\n"


@pytest.mark.skipif(not hasattr(sys, "_is_gil_enabled"), reason="before Python 3.13 there is always a GIL")
def test_import_does_not_bring_the_gil_back(run_python: RunPython) -> None:
    """On free-threaded Python it stays off; elsewhere it is on as ever."""
    program = "import sys; a = sys._is_gil_enabled(); import tensorcore; tensorcore.MemoryPool; print(a == sys._is_gil_enabled())"
    assert run_python(program) == "True\n"
