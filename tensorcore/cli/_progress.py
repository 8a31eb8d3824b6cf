"""Progress of a long command on stderr: a bar on a terminal, elsewhere a line at most every two seconds, and none before.

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
        self._shown = time.perf_counter()  # when a line was last printed, or the start
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=Console(stderr=True), auto_refresh=False, transient=True)
        self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> Steps:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar.live.is_started:
            self._bar.stop()

    def begin(self, words: str) -> None:
        """A step begins."""
        if sys.stderr.isatty() and (self._bar.live.is_started or self._late()):
            self._bar.start()
            self._bar.update(self._task, description=words, completed=self._done, refresh=True)

    def end(self, words: str) -> None:
        """The step has ended; ``words`` say how."""
        self._done += 1
        if not sys.stderr.isatty() and self._late():
            print(f"{self._done} of {self._total}: {words}", file=sys.stderr, flush=True)
            self._shown = time.perf_counter()

    def _late(self) -> bool:
        return time.perf_counter() - self._shown > SILENT_SECONDS
