"""The example program computes the same with and without the pool, keeps its balance of heat, and draws a picture."""

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parent.parent / "docs" / "examples" / "heat_equation.py"


def run_short(folder: Path, *command: str) -> str:
    """Run the example with a few steps; its output."""
    text = EXAMPLE.read_text().replace("STEPS = 400", "STEPS = 10")
    (folder / "short.py").write_text(text)
    return subprocess.run([*command, "short.py"], cwd=folder, capture_output=True, text=True, check=True, timeout=120).stdout


def test_result_is_the_same_to_the_bit_plain_and_pooled(tmp_path: Path) -> None:
    plain = run_short(tmp_path, sys.executable)
    picture = (tmp_path / "out" / "heat_equation.png").read_bytes()
    assert run_short(tmp_path, sys.executable, "-m", "tensorcore", "run") == plain
    assert "SHA-256" in plain
    assert picture == (tmp_path / "out" / "heat_equation.png").read_bytes()
    assert picture.startswith(b"\x89PNG")


def test_arguments_that_it_does_not_know_are_refused(tmp_path: Path) -> None:
    """Before anything is computed; `--device` was the name of a picture once."""
    command = [sys.executable, str(EXAMPLE), "--device", "cuda"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert (result.returncode, result.stdout) == (2, "")
    assert "unrecognized arguments: --device" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_heat_is_in_balance_to_rounding(tmp_path: Path) -> None:
    words = run_short(tmp_path, sys.executable).splitlines()[0].split()
    assert abs(float(words[-1])) < 1e-6
