"""The command line: ``tensorcore run | info | bench``. Only the arguments are read here; each command's module is imported at use.

Start-up counts: a program under ``tensorcore run`` waits for every import, so rich and NumPy are left for later.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        The words after ``tensorcore``; ``sys.argv[1:]`` by default.

    Raises
    ------
    SystemExit
        With 2 for arguments that can't be understood; with the program's own exit code from ``run``.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command == "run":
        from tensorcore.cli._run import run_command

        return run_command(options, parser.error)
    if options.command == "bench":
        from tensorcore.cli._bench import bench_command

        try:
            return bench_command(options, parser.error)
        except KeyboardInterrupt:
            return 130  # as a shell gives it
    from tensorcore.cli._info import info_command

    return info_command(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tensorcore", description="One memory pool under NumPy arrays.", allow_abbrev=False)
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_run(commands)
    _add_bench(commands)
    info = commands.add_parser("info", help="what this machine and this installation offer", allow_abbrev=False)
    info.add_argument("--json", action="store_true", help="machine-readable, on stdout")
    return parser


def _add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    run = commands.add_parser(
        "run",
        help="run an unmodified program on pooled memory, with a report at the end",
        usage="tensorcore run [options] (script.py | -m module) [arguments...]",
        allow_abbrev=False,
    )
    run.add_argument("--compare", action="store_true", help="run it plain and pooled in turn and show both side by side")
    run.add_argument("--rounds", type=_positive, default=3, metavar="N", help="with --compare: measured runs of each kind (3)")
    run.add_argument("--mode", choices=("fast", "checked", "hardened"), help="what the pools check: docs/modes.md")
    run.add_argument("--limit", metavar="SIZE", help="cap on the memory the pool may hold, e.g. 4GiB")
    run.add_argument("--report", metavar="FILE", help="also write the report to FILE.html or FILE.json")
    run.add_argument("--quiet", action="store_true", help="no report on stderr")
    run.add_argument("--no-numpy", action="store_true", help="leave NumPy's own allocator in place")
    run.add_argument("-m", dest="module", nargs=argparse.REMAINDER, metavar="module", help="run a module, as python -m does")
    run.add_argument("program", nargs=argparse.REMAINDER, help="the script and its arguments")


def _add_bench(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    bench = commands.add_parser("bench", help="measure allocators and NumPy on this machine", allow_abbrev=False)
    parts = ["host", "modes", "memory", "curves", "device", "python", "array", "numpy", "simd", "all"]
    bench.add_argument("part", nargs="?", choices=parts, default="all", help="what to measure (all)")
    bench.add_argument(
        "--against",
        default="glibc,mimalloc,jemalloc,tcmalloc",
        metavar="LIST",
        help="the peers, separated by commas (glibc,mimalloc,jemalloc,tcmalloc)",
    )
    bench.add_argument("--rounds", type=_positive, default=None, metavar="N", help="interleaved rounds (5; 1 with --quick)")
    bench.add_argument("--quick", action="store_true", help="short runs: the tables' shape, not their figures")
    bench.add_argument(
        "--operations", type=_positive, default=10_000_000, metavar="N", help="memory: of the long run whose sizes drift (10000000)"
    )
    bench.add_argument("--json", metavar="FILE", help="write every figure to FILE")
    bench.add_argument(
        "--plot", metavar="FILE", help="draw the times: .png, .svg (needs matplotlib: pip install tensorcore[bench])"
    )


class _Version(argparse.Action):
    """``--version``: the core is loaded only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from tensorcore import __version__

        print(f"tensorcore {__version__}")
        parser.exit()


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)
