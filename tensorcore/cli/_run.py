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
from importlib.abc import Loader, MetaPathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import tensorcore as tc
from tensorcore._units import parse_size
from tensorcore.cli import _program
from tensorcore.cli._report import Report, write_report

if TYPE_CHECKING:
    import argparse
    from importlib.machinery import ModuleSpec
    from types import ModuleType

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


class _Pooling(MetaPathFinder, Loader):
    """Puts the pool under NumPy as soon as NumPy has been imported, and then steps aside."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit  # bytes
        self._numpy_loader: Loader | None = None
        self._state = "not imported by the program"

    def begin(self) -> None:
        """Install now where NumPy is there already, else when it comes."""
        if "numpy" in sys.modules:
            self._install()
        else:
            sys.meta_path.insert(0, self)

    def end(self) -> str:
        """Wait for NumPy no longer; what became of it, in words."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        return self._state

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        """NumPy's own spec with this object as its loader; None for every other module."""
        if name != "numpy":
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            self._numpy_loader, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As NumPy's own loader does it."""
        assert self._numpy_loader is not None
        return self._numpy_loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Import NumPy, then install."""
        loader = self._numpy_loader
        assert loader is not None
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = loader
        loader.exec_module(module)
        # NumPy is whole now. The import system would say so only after this function, and until then make every other thread wait
        # that imports something of NumPy: the install's self-test has such a thread.
        module.__spec__._initializing = False  # type: ignore[attr-defined]
        self._install()

    def _install(self) -> None:
        try:
            tc.install(pool=None if self._limit is None else tc.MemoryPool(limit=self._limit, name="run"))
        except tc.TensorCoreError as problem:  # the program is right without the pool too
            self._state = f"not pooled: {problem}"
        else:
            self._state = f"pooled ({tc.hook_mode()})"
