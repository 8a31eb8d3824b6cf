"""`scope` as a with-block: what one thread allocates inside, exactly; nested, in any order of ending, in threads, as pools end."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorcore as tc
from tensorcore import _runs, _scope_statistics

RunPython = Callable[..., str]


@pytest.fixture(autouse=True)
def _every_run_ends() -> Iterator[None]:
    """No test leaves a run open on this thread, and none sees the names of another."""
    _scope_statistics._sums.clear()
    yield
    gc.collect()
    assert _runs._thread.runs == []


def figures(scope: tc.Scope | tc.ScopeStatistics) -> tuple[int, int, int, int, int]:
    """Return requested, freed and peak bytes, allocations and deallocations."""
    statistics = scope.statistics if isinstance(scope, tc.Scope) else scope
    requested = statistics.requested
    assert requested.current == requested.total_allocated - requested.total_freed
    counts = statistics.allocation_count, statistics.deallocation_count
    return requested.total_allocated, requested.total_freed, requested.peak, *counts


def named(name: str) -> tc.ScopeStatistics:
    """Return the statistics of all runs of a name."""
    (found,) = [scope for scope in tc.statistics(machine=False).scopes if scope.name == name]
    return found


def use(pool: tc.MemoryPool, *sizes: int) -> None:
    """Allocate blocks of these sizes together and free them."""
    for address in [pool.allocate(nbytes) for nbytes in sizes]:
        pool.deallocate(address)


# ---- with-blocks -----------------------------------------------------------------------------------------------------------------


def test_a_block_measures_what_is_allocated_inside(pool: tc.MemoryPool) -> None:
    """Not what was there before, nor what comes after."""
    use(pool, 100_000, 5)
    before = pool.allocate(50_000)
    with tc.scope("work") as work:
        use(pool, 1000, 2000)
        kept = pool.allocate(500)
    use(pool, 70_000)
    assert figures(work) == (3500, 3000, 3000, 3, 2)
    assert work.statistics.requested.current == 500
    assert (work.statistics.name, work.statistics.runs) == ("work", 1)
    assert work.statistics.seconds > 0
    assert [part.device for part in work.statistics.devices] == ["cpu"]
    assert named("work") == work.statistics
    pool.deallocate(before)
    pool.deallocate(kept)


def test_arrays_under_the_hook_count_too(pool: tc.MemoryPool, hook: None) -> None:  # noqa: ARG001 - takes it away again
    import numpy as np

    with tc.installed(pool=pool), tc.scope("arrays") as arrays:
        a = np.ones(1_000_000)
        b = a * 2
        del a, b
    assert arrays.statistics.requested.peak >= 16_000_000
    assert arrays.statistics.requested.current == 0


def test_what_is_freed_inside_and_was_allocated_before_makes_current_negative(pool: tc.MemoryPool) -> None:
    """And no peak, which is above what was held at the entry."""
    address = pool.allocate(4000)
    with tc.scope("free") as free:
        pool.deallocate(address)
        use(pool, 3000)
    assert free.statistics.requested == tc.ByteStatistic(-4000, 0, 3000, 7000)


def test_an_empty_block_is_a_run_of_zeros() -> None:
    with tc.scope("nothing") as nothing:
        pass
    assert figures(nothing) == (0, 0, 0, 0, 0)
    assert (nothing.statistics.runs, nothing.statistics.devices) == (1, ())


def test_an_exception_inside_ends_the_run_and_passes(pool: tc.MemoryPool) -> None:
    work = tc.scope("fails")

    def fail() -> None:
        with work:
            use(pool, 10)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert figures(work) == (10, 10, 10, 1, 1)


def test_runs_of_one_name_are_added_up_and_the_peak_is_the_largest(pool: tc.MemoryPool) -> None:
    """Those of one object in its statistics, those of all objects in tensorcore.statistics()."""
    work = tc.scope("step")
    for nbytes in (100, 900, 300):
        with work:
            use(pool, nbytes)
    with tc.scope("step"):
        use(pool, 2000)
    assert (work.statistics.runs, figures(work)) == (3, (1300, 1300, 900, 3, 3))
    assert (named("step").runs, figures(named("step"))) == (4, (3300, 3300, 2000, 4, 4))


def test_many_runs_are_added_up_as_they_come(pool: tc.MemoryPool) -> None:
    """More than are kept pending."""
    work = tc.scope("often")
    for _ in range(1000):
        with work:
            use(pool, 64)
    assert len(work._sum._pending) <= 257
    assert (work.statistics.runs, figures(work)) == (1000, (64_000, 64_000, 64, 1000, 1000))


def test_nested_blocks_count_in_both_and_have_their_own_peaks(pool: tc.MemoryPool) -> None:
    with tc.scope("outer") as outer:
        use(pool, 5000)
        with tc.scope("inner") as inner:
            kept = pool.allocate(1000)
            use(pool, 2000)
        use(pool, 500)
        pool.deallocate(kept)
    assert figures(inner) == (3000, 2000, 3000, 2, 1)
    assert figures(outer) == (8500, 8500, 5000, 4, 4)


def test_an_inner_peak_is_the_outer_ones_too(pool: tc.MemoryPool) -> None:
    """On top of what the outer block holds by then."""
    with tc.scope("outer") as outer:
        held = pool.allocate(1000)
        with tc.scope("middle"), tc.scope("inner"):
            use(pool, 8000)
        pool.deallocate(held)
        use(pool, 4000)
    assert outer.statistics.requested.peak == 9000


def test_one_scope_may_be_entered_inside_itself(pool: tc.MemoryPool) -> None:
    """Each entry is a run."""
    work = tc.scope("again")
    with work:
        use(pool, 100)
        with work:
            use(pool, 300)
    assert (work.statistics.runs, figures(work)) == (2, (700, 700, 300, 3, 3))


def test_blocks_that_end_out_of_order_are_each_right(pool: tc.MemoryPool) -> None:
    """As two tasks of one thread end them."""
    first, second = tc.scope("first"), tc.scope("second")
    first.__enter__()
    a = pool.allocate(1000)
    second.__enter__()
    use(pool, 4000)
    first.__exit__(None, None, None)
    pool.deallocate(a)
    use(pool, 6000)
    second.__exit__(None, None, None)
    assert figures(first) == (5000, 4000, 5000, 2, 1)
    assert figures(second) == (10_000, 11_000, 5000, 2, 3)


STEPS = st.lists(st.tuples(st.sampled_from(["allocate", "free", "enter", "leave"]), st.integers(0, 1_000_000)), max_size=60)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_any_sequence_of_blocks_and_scopes_gives_the_figures_of_a_model(steps: list[tuple[str, int]]) -> None:
    """Scopes that end in any order; the model sees every single step."""
    with tc.MemoryPool() as pool:
        blocks: list[tuple[int, int]] = []
        open_scopes: list[tuple[tc.Scope, dict[str, int]]] = []
        ended = []

        def count(nbytes: int) -> None:
            for _, model in open_scopes:
                model["in" if nbytes > 0 else "out"] += abs(nbytes)
                model["peak"] = max(model["peak"], model["in"] - model["out"])

        for action, number in [*steps, *[("leave", 0)] * len(steps), *[("free", 0)] * len(steps)]:
            if action == "allocate":
                blocks.append((pool.allocate(number + 1), number + 1))
                count(number + 1)
            elif action == "free" and blocks:
                address, nbytes = blocks.pop(number % len(blocks))
                pool.deallocate(address)
                count(-nbytes)
            elif action == "enter":
                open_scopes.append((tc.scope("random").__enter__(), {"in": 0, "out": 0, "peak": 0}))
            elif action == "leave" and open_scopes:
                ended.append(open_scopes.pop(number % len(open_scopes)))
                ended[-1][0].__exit__(None, None, None)
        for scope, model in ended:
            assert figures(scope)[:3] == (model["in"], model["out"], model["peak"])


# ---- pools that come and go ------------------------------------------------------------------------------------------------------


def test_pools_made_closed_and_dropped_inside_count() -> None:
    """In the scopes of the thread that closes them, and once."""
    with tc.scope("outer") as outer, tc.MemoryPool() as around:
        use(around, 3000)
        with tc.scope("inner") as inner:
            with tc.MemoryPool() as closed:
                use(closed, 1000, 500)
            dropped = tc.MemoryPool()
            use(dropped, 200)
            del dropped
            with tc.MemoryPool() as again:  # perhaps at the address of a former one
                use(again, 50)
        use(around, 10)
    assert figures(inner) == (1750, 1750, 1750, 4, 4)
    assert figures(outer)[:2] == (4760, 4760)


def test_a_pool_that_was_used_before_and_is_closed_inside_counts_from_the_entry() -> None:
    pool = tc.MemoryPool()
    use(pool, 99_000)
    with tc.scope("closing") as closing:
        use(pool, 700)
        pool.close()
    assert figures(closing) == (700, 700, 700, 1, 1)


# ---- threads ---------------------------------------------------------------------------------------------------------------------


def test_other_threads_do_not_count(pool: tc.MemoryPool) -> None:
    """A block that they free stays allocated here."""
    with tc.scope("mine") as mine:
        address = pool.allocate(1000)
        for target, argument in ((use, 5000), (tc.MemoryPool.deallocate, address)):
            thread = threading.Thread(target=target, args=(pool, argument))
            thread.start()
            thread.join()
    assert figures(mine) == (1000, 0, 1000, 1, 0)


def test_one_scope_in_many_threads_at_once_loses_nothing(pool: tc.MemoryPool) -> None:
    """Threads that end, threads that take over their caches, and everybody's runs in one sum."""
    step = tc.scope("parallel")
    ready = threading.Barrier(8)

    def work() -> None:
        ready.wait()
        for _ in range(100):
            with step:
                use(pool, 1000, 3000)

    for _ in range(2):
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (step.statistics.runs, figures(step)) == (1600, (6_400_000, 6_400_000, 4000, 3200, 3200))
    assert named("parallel").runs == 1600


def test_a_block_that_is_left_on_another_thread_warns_and_is_not_counted(pool: tc.MemoryPool) -> None:
    """The thread that entered it goes on, and the scopes around it are right."""
    moved = tc.scope("moved")
    with tc.scope("outer") as outer:
        moved.__enter__()
        use(pool, 3000)
        with ThreadPoolExecutor(1) as executor:
            leaving = executor.submit(moved.__exit__, None, None, None)
            with pytest.raises(tc.TensorCoreWarning, match="left on another thread"):  # warnings are errors in tests
                leaving.result()
    assert moved.statistics.runs == 0
    assert figures(outer) == (3000, 3000, 3000, 1, 1)


def test_a_forked_child_measures_on(run_python: RunPython) -> None:
    """Inside a block that the parent entered, and with sums that another thread of the parent was making."""
    program = """
        import os, tensorcore as tc
        from tensorcore import _scope_statistics
        import threading
        pool = tc.MemoryPool()
        held, done = threading.Event(), threading.Event()
        def hold():
            with _scope_statistics._lock:
                held.set()
                done.wait()
        holder = threading.Thread(target=hold)
        holder.start()
        held.wait()
        with tc.scope("both") as both:
            pool.allocate(1000)
            child = os.fork()
            if child:
                done.set()
            else:
                pool.allocate(500)
        if child == 0:
            os._exit(int(both.statistics.requested.peak == 1500 and tc.statistics().scopes[0].runs == 1))
        holder.join()
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), both.statistics.requested.peak)
    """
    assert run_python(program, "-W", "ignore").split() == ["1", "1000"]  # Python 3.12 warns of any fork beside threads


# ---- the list of names -----------------------------------------------------------------------------------------------------------


def test_the_newest_thousand_names_are_kept() -> None:
    """A name that is made up at each step can't fill the memory."""
    for number in range(1005):
        with tc.scope(f"step {number}"):
            pass
    scopes = tc.statistics(machine=False).scopes
    assert [scope.name for scope in scopes] == [f"step {number}" for number in range(5, 1005)]


def test_scopes_are_in_the_printed_table(pool: tc.MemoryPool) -> None:
    with tc.scope("a name of its own"):
        use(pool, 3 << 20)
    row = next(line for line in str(tc.statistics(machine=False)).splitlines() if line.startswith("a name of its own"))
    assert row.split()[5] == "1"
    assert row.endswith("3.00 MiB")


def test_a_run_that_the_collector_ends_inside_the_sum_is_counted(pool: tc.MemoryPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Merging is interrupted by a finaliser that ends another run of the same scope, as the garbage collector may do anywhere."""
    work, merge = tc.scope("interrupted"), _scope_statistics._merge
    interrupted: list[bool] = []

    def interrupting(statistics: Any, run: Any) -> Any:
        if not interrupted:
            interrupted.append(True)
            with work:
                use(pool, 5)
            assert work.statistics.runs == 0
        return merge(statistics, run)

    with work:
        use(pool, 10)
    monkeypatch.setattr(_scope_statistics, "_merge", interrupting)
    assert (work.statistics.runs, figures(work)) == (2, (15, 15, 10, 2, 2))
