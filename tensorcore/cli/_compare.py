"""``tensorcore run --compare``: one program plain and pooled in turn, each run in a process of its own, side by side.

The first plain run's output is shown; if it takes less than WARM_UP_SECONDS it is a warm-up and not counted. What it can't show: a
difference smaller than the spread between rounds, and what the program would do on an idle machine if this one is busy.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import statistics
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from tensorcore.cli._measure import Usage, exit_like, run_measured
from tensorcore.cli._progress import Steps
from tensorcore.cli._tables import Sheet, bytes_text, seconds_text, show

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

WARM_UP_SECONDS = 5.0  # a program that runs longer isn't run once more just to warm the caches

_FEW_FAULTS = 100  # a ratio of fewer says nothing

_ROWS: tuple[tuple[str, Callable[[Usage], float], Callable[[float], str]], ...] = (
    ("wall time", lambda u: u.wall_s, seconds_text),
    ("CPU time", lambda u: u.cpu_s, seconds_text),
    ("minor page faults", lambda u: float(u.minor_faults), lambda n: f"{n:,.0f}"),
    ("major page faults", lambda u: float(u.major_faults), lambda n: f"{n:,.0f}"),
    ("peak RSS", lambda u: float(u.peak_rss_bytes), bytes_text),
)


COMMAND = Path(__file__).parents[1] / "__main__.py"  # by its path: with -m a folder named tensorcore would be taken for ours


@dataclass(slots=True)
class Comparison:
    """The measured runs of one program, and whether its output was the same each time."""

    program: list[str]
    plain: list[Usage] = field(default_factory=list)
    pooled: list[Usage] = field(default_factory=list)
    same_output: bool = True
    exit_code: int = 0  # the first that isn't 0, as a shell gives it


def compare_command(options: argparse.Namespace, words: Sequence[str], report: Path | None) -> int:
    """Run, show the table on stderr, and return the program's exit code."""
    program = [*(["-m"] if options.module is not None else []), *words]
    own = ["--no-numpy"] * options.no_numpy + ([] if options.limit is None else ["--limit", options.limit])
    pooled = [str(COMMAND), "run", "--quiet", *own, *program]
    try:
        with _Runs([sys.executable, *program], [sys.executable, *pooled]) as runs:
            comparison = _measure_all(runs, options.rounds)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    comparison.program = program
    if not options.quiet:
        show([sheet(comparison)], sys.stderr)
    if report is not None:
        report.write_text(_to_json(comparison) if report.suffix == ".json" else _to_html(comparison), encoding="utf-8")
    return comparison.exit_code


def _measure_all(runs: _Runs, rounds: int) -> Comparison:
    comparison = Comparison([])
    with Steps(2 * rounds) as steps:
        steps.begin("plain")
        first = runs.plain(show_output=True)
        comparison.exit_code = exit_like(first.exit_code)
        if first.exit_code < 0:
            return comparison
        long = first.wall_s >= WARM_UP_SECONDS
        for number in range(rounds):
            for name, run, usages in (("plain", runs.plain, comparison.plain), ("pooled", runs.pooled, comparison.pooled)):
                steps.begin(name)
                usage = first if long and number == 0 and name == "plain" else run()
                usages.append(usage)
                steps.end(f"{name} {seconds_text(usage.wall_s)}")
                comparison.exit_code = comparison.exit_code or exit_like(usage.exit_code)
    comparison.same_output = runs.same_output
    return comparison


class _Runs:
    """Starts the two commands with the same input, and compares what they print."""

    def __init__(self, plain: list[str], pooled: list[str]) -> None:
        self._commands = {"plain": plain, "pooled": pooled}
        self._folder = tempfile.TemporaryDirectory(prefix="tensorcore-")
        self._input: Path | None = None
        self._first_output: Path | None = None
        self.same_output = True

    def __enter__(self) -> _Runs:
        if not sys.stdin.isatty():  # each run reads all of it; a terminal is handed on as it is
            self._input = Path(self._folder.name) / "stdin"
            with self._input.open("wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
        return self

    def __exit__(self, *error: object) -> None:
        self._folder.cleanup()

    def plain(self, *, show_output: bool = False) -> Usage:
        return self._run("plain", show_output)

    def pooled(self) -> Usage:
        return self._run("pooled", False)

    def _run(self, name: str, show_output: bool) -> Usage:
        output, errors = Path(self._folder.name) / "stdout", Path(self._folder.name) / "stderr"
        with contextlib.ExitStack() as stack:
            usage = run_measured(
                self._commands[name],
                stdin=stack.enter_context(self._input.open("rb")) if self._input else None,
                stdout=stack.enter_context(output.open("wb")),
                stderr=stack.enter_context(errors.open("wb")),
            )
        if show_output:
            _copy(output, sys.stdout)
            _copy(errors, sys.stderr)
        elif usage.exit_code != 0 and name == "pooled":
            _copy(errors, sys.stderr)
        self._check_output(output)
        return usage

    def _check_output(self, output: Path) -> None:
        if self._first_output is None:
            self._first_output = output.rename(output.with_name("first"))
        else:
            self.same_output &= output.read_bytes() == self._first_output.read_bytes()


def _copy(source: Path, stream: TextIO) -> None:
    with source.open("rb") as file:
        stream.flush()
        shutil.copyfileobj(file, stream.buffer)
        stream.flush()


# ---- what is shown --------------------------------------------------------------------------------------------------------------


def sheet(comparison: Comparison) -> Sheet:
    """One row per figure: median (least-most) plain and pooled, and their ratio."""
    table = Sheet(f"plain and pooled: {' '.join(comparison.program)}", ["", "plain", "pooled", "plain / pooled"])
    table.notes.append(
        f"{len(comparison.plain)} + {len(comparison.pooled)} runs in turn: median (least - most); the program's output "
        + ("was the same each time" if comparison.same_output else "DIFFERED between runs")
    )
    if not comparison.plain or not comparison.pooled:
        table.notes[0] = f"the program ended with exit code {comparison.exit_code}; nothing to compare"
        return table
    for name, figure, text in _ROWS:
        plain, pooled = [figure(u) for u in comparison.plain], [figure(u) for u in comparison.pooled]
        above, below = statistics.median(plain), statistics.median(pooled)
        too_few = "faults" in name and max(above, below) < _FEW_FAULTS
        ratio = "-" if too_few or not below else f"{above / below:.2f}"
        table.rows.append([name, _spread(plain, text), _spread(pooled, text), ratio])
    wall = [statistics.median(u.wall_s for u in usages) for usages in (comparison.plain, comparison.pooled)]
    table.notes.append(f"wall time {seconds_text(wall[0])} -> {seconds_text(wall[1])}: {wall[0] / wall[1]:.2f} x as fast pooled")
    return table


def _spread(values: list[float], text: Callable[[float], str]) -> str:
    """'2.03 s (1.94 - 2.85)': the unit is said once where it is the same."""
    middle, least, most = (text(value) for value in (statistics.median(values), min(values), max(values)))
    units = {words.partition(" ")[2] for words in (middle, least, most)}
    if len(units) == 1:
        least, most = (words.partition(" ")[0] for words in (least, most))
    return f"{middle} ({least} - {most})"


def _to_json(comparison: Comparison) -> str:
    data: dict[str, Any] = asdict(comparison)
    return json.dumps(data, indent=1) + "\n"


def _to_html(comparison: Comparison) -> str:
    from tensorcore.cli._report import bars, html_page
    from tensorcore.cli._tables import to_html

    chart = []
    for name, figure, text in _ROWS:
        for kind, usages in (("plain", comparison.plain), ("pooled", comparison.pooled)):
            if name == "wall time" and usages:
                median = statistics.median(map(figure, usages))
                chart.append((f"{name}, {kind}", median, text(median)))
    return html_page("tensorcore run --compare", to_html(sheet(comparison)) + bars(chart, "wall time"))
