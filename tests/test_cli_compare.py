"""``tensorcore run --compare`` shows the program's output once, its exit code, and what plain and pooled runs of it used."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tensorcore.cli._compare import Comparison, _spread, sheet
from tensorcore.cli._measure import Usage, exit_like, run_measured
from tensorcore.cli._tables import seconds_text

RUN = [sys.executable, "-m", "tensorcore", "run"]
COMPARE = [*RUN, "--compare", "--rounds", "1"]
ARRAYS = "import numpy as np\na = np.ones(1_000_000)\nfor _ in range(20): b = a * 2 + a\nprint(b.sum(), flush=True)\n"


def execute(command: list[str], folder: Path, words: str = "") -> tuple[int, str, str]:
    """Return the exit code and what was printed to stdout and stderr; `words` are the standard input."""
    done = subprocess.run(command, cwd=folder, input=words, capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, done.stdout, done.stderr


def write(folder: Path, text: str) -> str:
    (folder / "program.py").write_text(text)
    return "program.py"


def test_output_is_shown_once_and_the_table_has_a_ratio_for_each_figure(tmp_path: Path) -> None:
    code, output, table = execute([*COMPARE, write(tmp_path, ARRAYS), "x"], tmp_path)
    assert (code, output) == (0, "3000000.0\n")
    for words in ("wall time", "CPU time", "minor page faults", "major page faults", "peak RSS", "x as fast pooled"):
        assert words in table
    assert "the same each time" in table


def test_module_arguments_and_input_reach_every_run(tmp_path: Path) -> None:
    write(tmp_path, "import sys; print(sys.argv[1:], sys.stdin.read())")
    code, output, table = execute([*COMPARE, "-m", "program", "--", "-m"], tmp_path, "words")
    assert (code, output) == (0, "['--', '-m'] words\n")
    assert "the same each time" in table


def test_output_that_differs_is_said(tmp_path: Path) -> None:
    _, _, table = execute([*COMPARE, write(tmp_path, "import time; print(time.time_ns())")], tmp_path)
    assert "DIFFERED" in table


def test_exit_code_that_is_not_zero_is_passed_on(tmp_path: Path) -> None:
    code, output, _ = execute([*COMPARE, write(tmp_path, "print('out'); raise SystemExit(4)")], tmp_path)
    assert (code, output) == (4, "out\n")


def test_failure_of_the_pooled_run_alone_is_shown_and_passed_on(tmp_path: Path) -> None:
    text = "import sys\nif 'tensorcore' in sys.modules: raise ValueError('only pooled')\n"
    code, _, errors = execute([*COMPARE, write(tmp_path, text)], tmp_path)
    assert code == 1
    assert "ValueError: only pooled" in errors


def test_program_that_dies_by_a_signal_ends_the_comparison_with_the_shells_code(tmp_path: Path) -> None:
    text = "import os, signal\nprint('once', flush=True)\nos.kill(os.getpid(), signal.SIGKILL)\n"
    code, output, errors = execute([*COMPARE, write(tmp_path, text)], tmp_path)
    assert (code, output) == (137, "once\n")
    assert "nothing to compare" in errors


def test_interrupt_ends_the_program_too(tmp_path: Path) -> None:
    name = write(
        tmp_path, "import os, time\nopen('pid', 'w').write(str(os.getpid()))\nos.rename('pid', 'started')\ntime.sleep(60)\n"
    )
    with subprocess.Popen([*COMPARE, name], cwd=tmp_path, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while not (tmp_path / "started").exists():
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
        assert process.communicate()[1] == ""
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "started").read_text()), 0)


def test_reports_hold_every_run(tmp_path: Path) -> None:
    name = write(tmp_path, ARRAYS)
    assert execute([*RUN, "--compare", "--rounds", "2", "--quiet", "--report", "r.json", name], tmp_path)[0] == 0
    report = json.loads((tmp_path / "r.json").read_text())
    assert len(report["plain"]) == len(report["pooled"]) == 2
    assert report["same_output"] is True
    assert execute([*COMPARE, "--quiet", "--report", "r.html", name], tmp_path)[0] == 0
    assert "<svg" in (tmp_path / "r.html").read_text()


def test_peak_memory_is_the_programs_and_not_what_its_starter_had() -> None:
    ballast = bytearray(200 << 20)
    small = run_measured([sys.executable, "-c", "pass"])
    large = run_measured([sys.executable, "-c", "b = bytearray(300 << 20); b[::4096] = bytes(len(b[::4096]))"])
    assert len(ballast) > small.peak_rss_bytes
    assert large.peak_rss_bytes > 300 << 20
    assert large.minor_faults > small.minor_faults


@pytest.mark.parametrize(("text", "code"), [("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 15)", -15)])
def test_measured_exit_code_is_the_commands(text: str, code: int) -> None:
    assert run_measured([sys.executable, "-c", text]).exit_code == code


def test_command_that_is_not_there_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="/no/such/command could not be started"):
        run_measured(["/no/such/command"])


def test_shells_exit_code_of_a_signal_is_128_more() -> None:
    assert [exit_like(code) for code in (0, 3, -2, -15)] == [0, 3, 130, 143]


def test_table_shows_medians_spreads_and_ratios() -> None:
    def usage(wall: float) -> Usage:
        return Usage(exit_code=0, wall_s=wall, user_s=wall, system_s=0.0, minor_faults=10, major_faults=0, peak_rss_bytes=1 << 20)

    table = sheet(Comparison(["p.py"], [usage(2.0), usage(4.0), usage(9.0)], [usage(1.0), usage(2.0), usage(3.0)]))
    assert table.rows[0] == ["wall time", "4.00 s (2.00 - 9.00)", "2.00 s (1.00 - 3.00)", "2.00"]
    assert table.rows[4][1] == "1.00 MiB (1.00 - 1.00)"
    assert table.rows[3][-1] == "-"  # no major faults: nothing to divide by
    assert "2.00 x as fast" in table.notes[-1]


def test_a_spread_over_two_units_names_both() -> None:
    assert _spread([0.5, 2.0, 3.0], seconds_text) == "2.00 s (500 ms - 3.00 s)"
