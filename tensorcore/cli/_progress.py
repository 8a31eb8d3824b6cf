"""Progress of a long command on stderr: a bar on a terminal, one line a step elsewhere, nothing in the first two seconds.

Nothing is drawn while a step runs: the bar must not take CPU from what is being measured.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from types import TracebackType

SILENT_SECONDS = 2.0


class Steps:
    """Counts the steps of a command, as a context manager."""

    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0
        self._start = time.perf_counter()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=Console(stderr=True), auto_refresh=False, transient=True)
        self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> Steps:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def begin(self, words: str) -> None:
        """A step begins."""
        if sys.stderr.isatty() and self._late():
            self._bar.start()
            self._bar.update(self._task, description=words, completed=self._done, refresh=True)

    def end(self, words: str) -> None:
        """The step has ended; ``words`` say how."""
        self._done += 1
        if not sys.stderr.isatty() and self._late():
            print(f"{self._done} of {self._total}: {words}", file=sys.stderr, flush=True)

    def _late(self) -> bool:
        return time.perf_counter() - self._start > SILENT_SECONDS
