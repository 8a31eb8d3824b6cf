"""The examples over tensors: each runs on the CPU in small, computes what plain NumPy computes, and draws its picture."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tensorcore._backend import why_unavailable

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"
CASES = {
    "wave_equation.py": ("--size", "60", "--steps", "20"),
    "digits_kmeans.py": ("--rounds", "3", "--copies", "1", "--clusters", "12"),
    "image_filters.py": ("--size", "64"),
}


def run(name: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run an example in a process of its own."""
    command = [sys.executable, str(EXAMPLES / name), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("name", CASES)
def test_an_example_agrees_with_numpy_and_tells_memory_and_speed(name: str, tmp_path: Path) -> None:
    """To rounding at most; the picture is a PNG, of several frames where it is an animation."""
    if name == "digits_kmeans.py":
        pytest.importorskip("sklearn", reason="scikit-learn, whose digits these are, is not installed")
    result = run(name, *CASES[name], "--picture", str(tmp_path / "out" / "picture.png"))
    assert (result.returncode, result.stderr) == (0, "")
    (difference,) = re.findall(r"largest difference between the two: (\S+)", result.stdout)
    assert float(difference) < 1e-9
    assert re.search(r"tensorcore on cpu: [\d.]+ s, at most [\d.]+ MiB in use, [\d.]+ MiB held; [\d,]+ blocks", result.stdout)
    assert re.search(r"plain NumPy: [\d.]+ s, [\d.]+ times as long", result.stdout)
    picture = (tmp_path / "out" / "picture.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert picture.count(b"fcTL") == (20 if name == "wave_equation.py" else 0)


def test_every_example_that_compares_is_run() -> None:
    """A new one is in the list above."""
    assert {path.name for path in EXAMPLES.glob("*.py") if "compare(" in path.read_text()} == {*CASES, "support.py"}


@pytest.mark.parametrize("name", CASES)
def test_without_a_gpu_one_line_names_what_is_missing(name: str) -> None:
    """`--device cuda` does not fall back to the CPU."""
    reason = why_unavailable("cuda")
    if reason is None:
        pytest.skip("there is a GPU")
    result = run(name, "--device", "cuda")
    assert (result.returncode, result.stdout, result.stderr) == (2, "", f"{name}: {reason}\n")


def test_without_scikit_learn_the_digits_say_so(tmp_path: Path) -> None:
    """With the command that mends it."""
    (tmp_path / "sklearn.py").write_text("raise ImportError\n")
    command = [sys.executable, str(EXAMPLES / "digits_kmeans.py")]
    result = subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": str(tmp_path)}, timeout=120, check=False)
    assert (result.returncode, result.stderr.strip()) == (
        1,
        "the digits are scikit-learn's, which is not installed: pip install scikit-learn",
    )
