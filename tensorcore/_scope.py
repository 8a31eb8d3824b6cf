"""`scope`: measures what one thread allocates inside a with-block, or inside the calls of a decorated function.

What runs inside costs nothing more than before; a run costs about 10 µs (see `_runs`).
"""

from __future__ import annotations

import functools
import inspect
import warnings
from typing import TYPE_CHECKING, Any, Self, TypeVar

from ._errors import TensorCoreWarning
from ._runs import NOTHING, Parts, Run, enter, find_run, leave
from ._scope_statistics import FinishedRun, RunSum, ScopeStatistics, sum_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from types import TracebackType

_Function = TypeVar("_Function", bound="Callable[..., Any]")


class Scope:
    """What `scope` returns: a context manager and a decorator, to be used once or often, inside itself, and by several threads."""

    __slots__ = ("_name", "_open", "_sum")

    def __init__(self, name: str) -> None:
        if not name or not isinstance(name, str):
            raise TypeError(f"a scope has a name, a string that is not empty, not {name!r}: @scope('name') or with scope('name')")
        self._name = name
        self._open: list[Run] = []  # of with-blocks, on all threads
        self._sum = RunSum(name)

    @property
    def name(self) -> str:
        """The name under which its runs are added up."""
        return self._name

    @property
    def statistics(self) -> ScopeStatistics:
        """The finished runs of this very object; `tensorcore.statistics().scopes` has those of all objects of its name."""
        return self._sum.read()

    def __enter__(self) -> Self:
        self._open.append(enter(self))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        run = find_run(self)
        if run is None:
            if self._open:
                self._open.pop().abandoned = True
            warnings.warn(
                f"scope {self._name!r} was left on another thread than it was entered on, and this run is not counted: "
                "decorate the function, generator or coroutine with it instead",
                TensorCoreWarning,
                stacklevel=2,
            )
            return
        self._open.remove(run)
        self._finish(*leave(run))

    def _finish(self, seconds: float, parts: Parts) -> None:
        run = FinishedRun(seconds, parts)
        self._sum.add(run)
        sum_of(self._name).add(run)

    def __call__(self, function: _Function) -> _Function:
        """Return the function, generator function or coroutine function with each of its calls measured.

        Of a generator or coroutine what runs between resumption and suspension counts, on whatever thread, and nothing between.
        """
        if inspect.isclass(function) or not callable(function):
            raise TypeError(f"a scope decorates a function or a method, below @classmethod and @staticmethod, not {function!r}")
        if inspect.isasyncgenfunction(function):
            measured: Any = _measure_async_generator(self, function)
        elif inspect.iscoroutinefunction(function):
            measured = _measure_coroutine(self, function)
        elif inspect.isgeneratorfunction(function):
            measured = _measure_generator(self, function)
        else:
            measured = _measure_function(self, function)
        functools.update_wrapper(measured, function)
        return measured  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"<scope {self._name!r}>"


def scope(name: str) -> Scope:
    """Measure what the calling thread allocates inside a with-block, or inside the calls of a decorated function.

    Parameters
    ----------
    name
        Runs of the same name are added up in `tensorcore.statistics().scopes`, which keeps the 1,000 newest names.

    Returns ------- Scope A context manager and a decorator, whose `statistics` are those of its own finished runs: bytes requested,
    with a peak above what was held at the entry, and counts of blocks. A block that another thread frees stays allocated here; what
    this one frees for others counts as freed. Pools that another thread closes meanwhile are left out.

    Raises
    ------
    TypeError
        The name is not a string.

    Examples
    --------
    >>> with scope("load") as loading:
    ...     data = Tensor((1000, 1000))
    >>> loading.statistics.requested.peak
    8000000
    """
    return Scope(name)


class _Pieces:
    """The stretches of one generator or coroutine, added up."""

    __slots__ = ("_run", "parts", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0
        self.parts: Parts = {"": NOTHING}

    def __enter__(self) -> None:
        self._run = enter()

    def __exit__(self, *_: object) -> None:
        seconds, parts = leave(self._run)
        self.seconds += seconds
        for device, part in parts.items():
            self.parts[device] = self.parts.get(device, NOTHING).then(part)


def _resume(inner: Any, pieces: _Pieces) -> Generator[Any, Any, Any]:
    """Drive a generator, coroutine or step of an async generator as whoever drives this one does; each stretch is measured."""
    resume, argument = inner.send, None
    while True:
        with pieces:
            try:
                value = resume(argument)
            except StopIteration as end:
                return end.value
        try:
            resume, argument = inner.send, (yield value)
        except GeneratorExit:
            with pieces:
                inner.close()
            raise
        except BaseException as error:
            resume, argument = inner.throw, error


class _Resumed:
    """The same as an awaitable."""

    __slots__ = ("_inner", "_pieces")

    def __init__(self, inner: Any, pieces: _Pieces) -> None:
        self._inner, self._pieces = inner, pieces

    def __await__(self) -> Generator[Any, Any, Any]:
        return _resume(self._inner, self._pieces)


def _measure_function(scope: Scope, function: Callable[..., Any]) -> Callable[..., Any]:
    def measured(*arguments: Any, **options: Any) -> Any:
        run = enter()
        try:
            return function(*arguments, **options)
        finally:
            scope._finish(*leave(run))

    return measured


def _measure_generator(scope: Scope, function: Callable[..., Any]) -> Callable[..., Any]:
    def measured(*arguments: Any, **options: Any) -> Generator[Any, Any, Any]:
        pieces = _Pieces()
        try:
            return (yield from _resume(function(*arguments, **options), pieces))
        finally:
            scope._finish(pieces.seconds, pieces.parts)

    return measured


def _measure_coroutine(scope: Scope, function: Callable[..., Any]) -> Callable[..., Any]:
    async def measured(*arguments: Any, **options: Any) -> Any:
        pieces = _Pieces()
        try:
            return await _Resumed(function(*arguments, **options), pieces)
        finally:
            scope._finish(pieces.seconds, pieces.parts)

    return measured


def _measure_async_generator(scope: Scope, function: Callable[..., Any]) -> Callable[..., Any]:
    async def measured(*arguments: Any, **options: Any) -> AsyncGenerator[Any, Any]:
        pieces = _Pieces()
        inner = function(*arguments, **options)
        step = inner.asend(None)
        try:
            while True:
                try:
                    value = await _Resumed(step, pieces)
                except StopAsyncIteration:
                    return
                try:
                    step = inner.asend((yield value))
                except GeneratorExit:
                    await _Resumed(inner.aclose(), pieces)
                    raise
                except BaseException as error:
                    step = inner.athrow(error)
        finally:
            scope._finish(pieces.seconds, pieces.parts)

    return measured
