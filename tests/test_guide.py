"""The user guide tells the truth: its snippets run, and print what their comments say."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import tensorcore as tc

if TYPE_CHECKING:
    from collections.abc import Callable

GUIDE = Path(__file__).parent.parent / "docs/guide.md"
SNIPPET = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NEEDS = re.compile(r"^# needs (.+)$", re.MULTILINE)  # the first line of a snippet that stands for itself
EXPECTED = re.compile(r"^.*\bprint\(.*\)  # (.*)$", re.MULTILINE)


def run(snippet: str, names: dict[str, Any]) -> list[str]:
    """Run a snippet and return the lines it prints."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile(snippet, str(GUIDE), "exec"), names)
    return output.getvalue().splitlines()


@pytest.mark.usefixtures("hook")
def test_every_snippet_runs_and_prints_what_its_comments_say() -> None:
    """In order and in one namespace; a print in a loop has the words of all its lines behind it."""
    snippets = [snippet for snippet in SNIPPET.findall(GUIDE.read_text()) if NEEDS.match(snippet) is None]
    names: dict[str, Any] = {}
    for snippet in snippets:
        printed = run(snippet, names)
        for expected in EXPECTED.findall(snippet):
            assert expected in printed or expected == " ".join(printed[: len(expected.split())]), (snippet, printed)
    assert len(snippets) >= 15


@pytest.mark.parametrize("snippet", [snippet for snippet in SNIPPET.findall(GUIDE.read_text()) if NEEDS.match(snippet)])
def test_a_snippet_that_needs_a_gpu_runs_where_there_is_one(snippet: str, run_python: Callable[..., str]) -> None:
    """In a process of its own, since PyTorch keeps what is installed; elsewhere it compiles, and the test says what is missing."""
    compile(snippet, str(GUIDE), "exec")
    needs = NEEDS.match(snippet)
    assert needs is not None
    for need in needs[1].split(" and "):
        if need == "a GPU" and not tc.is_available("cuda"):
            pytest.skip("no GPU is usable here")
        if need != "a GPU":
            pytest.importorskip(need)
    printed = run_python(snippet).splitlines()
    assert all(expected in printed for expected in EXPECTED.findall(snippet))


def test_every_public_name_that_the_guide_uses_exists() -> None:
    """Outside the snippets too: in tables and sentences."""
    used = set(re.findall(r"\btc\.(\w+)", GUIDE.read_text()))
    assert used
    assert used <= set(dir(tc))


def test_the_table_of_errors_names_every_error_and_its_base() -> None:
    """Each with the builtin that it also is."""
    rows = re.findall(r"^\| `(\w+Error)` \| `(\w+)` \|", GUIDE.read_text(), re.MULTILINE)
    errors = {name for name in tc.__all__ if name.endswith("Error")} - {"TensorCoreError"}
    assert {name for name, _ in rows} == errors
    for name, base in rows:
        assert {base, "TensorCoreError"} <= {kind.__name__ for kind in getattr(tc, name).__mro__}
