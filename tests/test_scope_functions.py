"""`scope` as a decorator: functions, methods, generators, coroutines and async generators, which stay what they are."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

import tensorcore as tc
from tensorcore import _runs

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterator


@pytest.fixture(autouse=True)
def _every_run_ends() -> Iterator[None]:
    """No test leaves a run open on this thread."""
    yield
    gc.collect()
    assert _runs._thread.runs == []


def figures(scope: tc.Scope) -> tuple[int, int, int, int, int]:
    """Return requested, freed and peak bytes, allocations and deallocations."""
    statistics = scope.statistics
    requested = statistics.requested
    counts = statistics.allocation_count, statistics.deallocation_count
    return requested.total_allocated, requested.total_freed, requested.peak, *counts


def use(pool: tc.MemoryPool, *sizes: int) -> None:
    """Allocate blocks of these sizes together and free them."""
    for address in [pool.allocate(nbytes) for nbytes in sizes]:
        pool.deallocate(address)


# ---- functions -------------------------------------------------------------------------------------------------------------------


def test_a_decorated_function_is_measured_at_each_call_and_stays_itself(pool: tc.MemoryPool) -> None:
    """Name, documentation and signature; arguments, result and exceptions; calls of itself."""
    measured = tc.scope("calls")

    @measured
    def factorial(n: int, *, nbytes: int = 100) -> int:
        """Return n!."""
        use(pool, nbytes)
        return 1 if n == 0 else n * factorial(n - 1)

    assert factorial(3, nbytes=1000) == 6
    assert (factorial.__name__, factorial.__doc__) == ("factorial", "Return n!.")
    assert list(inspect.signature(factorial).parameters) == ["n", "nbytes"]
    assert measured.statistics.runs == 4
    assert measured.statistics.requested.peak == 1000
    with pytest.raises(TypeError):
        factorial()  # type: ignore[call-arg]
    assert measured.statistics.runs == 5


def test_methods_of_every_kind_can_be_measured(pool: tc.MemoryPool) -> None:
    measured = tc.scope("method")

    class Worker:
        @measured
        def plain(self) -> None:
            use(pool, 1)

        @classmethod
        @measured
        def of_class(cls) -> None:
            use(pool, 10)

        @staticmethod
        @measured
        def static() -> None:
            use(pool, 100)

    Worker().plain()
    Worker.of_class()
    Worker.static()
    assert figures(measured) == (111, 111, 100, 3, 3)


@pytest.mark.parametrize("wrong", [3, None, "", print, b"bytes"])
def test_a_scope_without_a_name_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"a scope has a name, .* not "):
        tc.scope(wrong)


@pytest.mark.parametrize("wrong", [3, int, classmethod(print)])
def test_what_is_no_function_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="a scope decorates a function or a method"):
        tc.scope("x")(wrong)


# ---- generators and coroutines ---------------------------------------------------------------------------------------------------


def test_a_generator_is_measured_while_it_runs_and_not_between(pool: tc.MemoryPool) -> None:
    """One run from its first step to its end; values, sent values, exceptions and the result pass."""
    measured = tc.scope("generator")

    @measured
    def accumulate(start: int) -> Generator[int, int, str]:
        total = start
        held = pool.allocate(1000)
        while total < 100:
            use(pool, 500)
            try:
                total += yield total
            except KeyError:
                total += 50
        pool.deallocate(held)
        return "done"

    assert inspect.isgeneratorfunction(accumulate)
    steps = accumulate(1)
    assert measured.statistics.runs == 0
    assert next(steps) == 1
    use(pool, 90_000)  # between: not the generator's
    assert steps.send(10) == 11
    assert steps.throw(KeyError()) == 61
    with pytest.raises(StopIteration) as end:
        steps.send(40)
    assert end.value.value == "done"
    assert (measured.statistics.runs, figures(measured)) == (1, (2500, 2500, 1500, 4, 4))


@pytest.mark.parametrize("end", ["close", "drop", "raise"])
def test_a_generator_that_ends_early_has_run_once_and_cleans_up(pool: tc.MemoryPool, end: str) -> None:
    measured = tc.scope("early")

    @measured
    def endless() -> Generator[int, None, None]:
        address = pool.allocate(1000)
        try:
            while True:
                yield 1
        finally:
            pool.deallocate(address)

    steps = endless()
    next(steps)
    if end == "close":
        steps.close()
    elif end == "raise":
        with pytest.raises(ValueError, match="mine"):
            steps.throw(ValueError("mine"))
    del steps
    gc.collect()
    assert (measured.statistics.runs, figures(measured)) == (1, (1000, 1000, 1000, 1, 1))


def test_a_generator_may_be_resumed_by_several_threads(pool: tc.MemoryPool) -> None:
    """Each stretch counts on the thread that it ran on; the peak follows what the generator holds."""
    measured = tc.scope("travels")

    @measured
    def hold() -> Generator[None, None, None]:
        for _ in range(4):
            pool.allocate(1000)
            yield

    steps = hold()
    for _ in range(4):
        with ThreadPoolExecutor(1) as executor:
            executor.submit(next, steps).result()
    with contextlib.suppress(StopIteration):
        next(steps)
    assert (measured.statistics.runs, figures(measured)) == (1, (4000, 0, 4000, 4, 0))


def test_a_decorated_generator_still_makes_a_context_manager(pool: tc.MemoryPool) -> None:
    measured = tc.scope("manager")

    @contextlib.contextmanager
    @measured
    def buffer() -> Generator[int, None, None]:
        address = pool.allocate(1000)
        yield address
        pool.deallocate(address)

    with buffer() as address:
        assert address % 64 == 0
    assert figures(measured) == (1000, 1000, 1000, 1, 1)


def test_coroutines_of_one_thread_do_not_count_for_each_other(pool: tc.MemoryPool) -> None:
    """They hold their blocks at the same time, and each has its own figures; results and cancellation pass."""
    small, large, cancelled = tc.scope("small"), tc.scope("large"), tc.scope("cancelled")

    async def hold(nbytes: int, seconds: float) -> int:
        address = pool.allocate(nbytes)
        try:
            for _ in range(3):
                await asyncio.sleep(seconds)
                use(pool, 10)
        finally:
            pool.deallocate(address)
        return nbytes

    async def both() -> tuple[int, int]:
        late = asyncio.create_task(cancelled(hold)(500, 60))
        one, other = await asyncio.gather(small(hold)(1000, 0), large(hold)(9000, 0))
        late.cancel()
        with pytest.raises(asyncio.CancelledError):
            await late
        return one, other

    assert inspect.iscoroutinefunction(small(hold))
    assert asyncio.run(both()) == (1000, 9000)
    assert (small.statistics.runs, figures(small)) == (1, (1030, 1030, 1010, 4, 4))
    assert (large.statistics.runs, figures(large)) == (1, (9030, 9030, 9010, 4, 4))
    assert (cancelled.statistics.runs, figures(cancelled)) == (1, (500, 500, 500, 1, 1))


def test_an_async_generator_passes_everything_on(pool: tc.MemoryPool) -> None:
    """Values, sent values, exceptions, an early close; measured between its own steps alone."""
    measured = tc.scope("async generator")

    @measured
    async def produce() -> AsyncGenerator[int, int]:
        address = pool.allocate(1000)
        try:
            value = 0
            while value < 10:
                await asyncio.sleep(0)
                try:
                    value += yield value
                except KeyError:
                    value += 5
        finally:
            pool.deallocate(address)

    async def consume() -> list[int]:
        steps = produce()
        values = [await steps.asend(None), await steps.asend(1)]  # type: ignore[arg-type]
        use(pool, 90_000)
        values.append(await steps.athrow(KeyError()))
        with pytest.raises(StopAsyncIteration):
            await steps.asend(4)
        early = produce()
        values.append(await anext(early))
        await early.aclose()
        return values

    assert inspect.isasyncgenfunction(produce)
    assert asyncio.run(consume()) == [0, 1, 6, 0]
    assert (measured.statistics.runs, figures(measured)) == (2, (2000, 2000, 1000, 2, 2))
