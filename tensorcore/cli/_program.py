"""Runs somebody's program inside this process as ``python program`` would have run it.

A fresh ``__main__``, ``sys.argv``, ``sys.path[0]``; the program's own exit code; tracebacks without a frame of ours. What cannot be
hidden: ``sys.modules`` already holds what the command line imported, and the frames below the program's first are this file's.
"""

from __future__ import annotations

import io
import runpy
import sys
import traceback
from importlib.machinery import SourceFileLoader
from pathlib import Path
from pkgutil import get_importer
from types import CodeType, ModuleType, TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_former_mains: list[ModuleType] = []  # kept: dropping a module clears its names while its functions still run


def run_module(name: str, arguments: list[str], before: Callable[[], None]) -> None:
    """Run ``name`` as ``python -m name arguments...`` does; ``before`` is called when all is set, before the program's first line.

    Raises SystemExit with the program's exit code unless it ends by itself with 0.
    """
    _replace_main()
    sys.argv[:] = ["-m", *arguments]
    _replace_path0(str(Path.cwd()))
    before()
    _guarded(lambda: _run_as_main(name, True))


def run_script(path: str, arguments: list[str], before: Callable[[], None]) -> None:
    """Run the file, directory or zip at ``path`` as ``python path arguments...`` does; ``before`` as in `run_module`.

    A path that can't be read gives the interpreter's own message and exit code 2.
    """
    absolute = path if path.startswith("/") else f"{Path.cwd()}/{path}"  # unlike pathlib the interpreter keeps './' in __file__
    if get_importer(absolute) is not None:
        _run_package(absolute, path, arguments, before)
        return
    try:
        with io.open_code(absolute) as file:
            source = file.read()
    except OSError as error:
        print(f"{sys.executable}: can't open file {absolute!r}: [Errno {error.errno}] {error.strerror}", file=sys.stderr)
        raise SystemExit(2) from None
    main = _replace_main()
    main.__dict__.update(__file__=absolute, __cached__=None, __loader__=SourceFileLoader("__main__", absolute))
    sys.argv[:] = [path, *arguments]
    _replace_path0(str(Path(path).resolve().parent))
    before()
    code = _guarded(lambda: compile(source, absolute, "exec", dont_inherit=True))
    assert isinstance(code, CodeType)
    _guarded(lambda: exec(code, main.__dict__))


def _run_package(absolute: str, path: str, arguments: list[str], before: Callable[[], None]) -> None:
    _replace_main()
    sys.argv[:] = [path, *arguments]
    if sys.flags.safe_path:
        sys.path.insert(0, absolute)
    else:
        _replace_path0(absolute)
    before()
    _guarded(lambda: _run_as_main("__main__", False))


def _run_as_main(name: str, alter_argv: bool) -> object:
    return runpy._run_module_as_main(name, alter_argv)  # type: ignore[attr-defined]  # what `python -m` itself calls, since 2.6


def _replace_main() -> ModuleType:
    main = ModuleType("__main__")
    names: dict[str, object] = {"__builtins__": sys.modules["builtins"]}
    if sys.version_info < (3, 14):  # made at first use there
        names["__annotations__"] = {}
    main.__dict__.update(names)
    _former_mains.append(sys.modules["__main__"])
    sys.modules["__main__"] = main
    return main


def _replace_path0(entry: str) -> None:
    """`sys.path[0]` is this command's own directory, unless the interpreter was told to put none there (-P)."""
    if not sys.flags.safe_path:
        sys.path[0] = entry


def _guarded(step: Callable[[], object]) -> object:
    try:
        return step()
    except SystemExit:
        raise  # the interpreter prints and translates it
    except BaseException as error:
        _report_uncaught(error, _without_own_frames(error.__traceback__))
        if isinstance(error, KeyboardInterrupt):
            sys.excepthook = _silent  # already shown; the interpreter itself then ends by SIGINT, after all atexit handlers
            raise
        raise SystemExit(1) from None


def _without_own_frames(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None and trace.tb_frame.f_code.co_filename == _guarded.__code__.co_filename:
        trace = trace.tb_next
    return trace


def _report_uncaught(error: BaseException, trace: TracebackType | None) -> None:
    """What the interpreter does with an uncaught exception: ``sys.last_*``, then ``sys.excepthook``, which may fail or exit."""
    error.__traceback__ = trace
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, trace
    if sys.version_info >= (3, 12):
        sys.last_exc = error
    try:
        sys.excepthook(type(error), error, trace)
    except SystemExit:
        raise
    except BaseException as second:
        second.__traceback__ = _without_own_frames(second.__traceback__)
        second.__context__ = None
        print("Error in sys.excepthook:", file=sys.stderr)
        traceback.print_exception(second)
        print("\nOriginal exception was:", file=sys.stderr)
        sys.__excepthook__(type(error), error, trace)


def _silent(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """An exception hook for what was shown already."""
