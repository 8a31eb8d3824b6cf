"""``tensorcore run``: one program in this process, on pooled memory, with a report when everything else has ended.

NumPy is hooked right after the program has imported it, not before: a program may set OMP_NUM_THREADS and its like first. The
report is the first atexit handler, so it runs last. Limit: no report where the process ends by a signal, os._exit or os.exec.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import tensorcore as tc
from tensorcore._import_hook import when_imported
from tensorcore._units import parse_size
from tensorcore.cli import _program
from tensorcore.cli._report import Report, write_report

if TYPE_CHECKING:
    import argparse

ErrorFunction = Callable[[str], NoReturn]


def run_command(options: argparse.Namespace, error: ErrorFunction) -> int:
    """Carry out ``tensorcore run``; ``error`` ends the process with a message and exit code 2.

    Returns 0 where the program ended by itself. SystemExit carries the program's own exit code.
    """
    words = [*(options.module or []), *options.program]
    if not words:
        error("run: which program? tensorcore run [options] (script.py | -m module) [arguments...]")
    report_path = _report_path(options.report, error)
    if options.mode:
        os.environ["TENSORCORE_MODE"] = options.mode  # for every pool of the program, and of the programs that it starts
    if options.compare:
        from tensorcore.cli._compare import compare_command

        return compare_command(options, words, report_path)
    pooling = _Pooling(_limit(options.limit, error)) if not options.no_numpy else None
    report = Report(words if options.module is None else ["-m", *words])
    before = _preparation(pooling, report, report_path, options.quiet)
    run = _program.run_script if options.module is None else _program.run_module
    run(words[0], words[1:], before)
    return 0


def _report_path(text: str | None, error: ErrorFunction) -> Path | None:
    if text is None:
        return None
    path = Path(text).absolute()  # the program may change the directory
    if path.suffix not in (".html", ".json"):
        error(f"run: --report {text}: the name must end in .html or .json")
    if not path.parent.is_dir():
        error(f"run: --report {text}: there is no directory {path.parent}")
    return path


def _limit(text: str | None, error: ErrorFunction) -> int | None:
    if text is None:
        return None
    try:
        return parse_size(text, "a limit")
    except ValueError as problem:
        error(f"run: --limit {text}: {problem}")


def _preparation(pooling: _Pooling | None, report: Report, path: Path | None, quiet: bool) -> Callable[[], None]:
    """What is done when the program is known to exist and before its first line."""
    stderr, process = sys.stderr, os.getpid()

    def at_exit() -> None:
        if os.getpid() != process:  # a forked child that came to its end as Python does
            return
        if getattr(sys.modules.get("__main__"), "__file__", None) is None:  # -m with a module that isn't there
            return
        state = pooling.end() if pooling else "left alone (--no-numpy)"
        with contextlib.suppress(OSError, ValueError):  # the program may have closed stderr
            write_report(report.finish(state), path, None if quiet else stderr)

    def before() -> None:
        if not quiet or path is not None:
            atexit.register(at_exit)
        report.start()
        if pooling is not None:
            pooling.begin()

    return before


class _Pooling:
    """Puts pools under NumPy and CuPy as soon as each has been imported."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit  # bytes
        self._stop_waiting: Callable[[], None] = lambda: None
        self._state = "not imported by the program"

    def begin(self) -> None:
        """Install now where NumPy is there already, else when it comes; CuPy may come at any time after it."""
        self._stop_waiting = when_imported("numpy", self._install)

    def end(self) -> str:
        """Wait for NumPy no longer; what became of it, in words."""
        self._stop_waiting()
        hook = sys.modules.get("tensorcore._cupy_hook")  # there once something was installed
        return f"{self._state}; CuPy pooled" if hook is not None and hook.cupy_state().faces is not None else self._state

    def _install(self) -> None:
        try:
            tc.install(pool=None if self._limit is None else tc.MemoryPool(limit=self._limit, name="run"))
        except tc.TensorCoreError as problem:  # the program is right without the pool too
            self._state = f"not pooled: {problem}"
        else:
            self._state = f"pooled ({tc.hook_mode()})"
