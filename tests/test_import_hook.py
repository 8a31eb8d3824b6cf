"""What waits for a module is called once, after its import, by whomever; what was taken back is not."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

import pytest

from tensorcore._import_hook import when_imported

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module that was never imported."""
    (tmp_path / "waited_for.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    finders = list(sys.meta_path)
    yield "waited_for"
    sys.modules.pop("waited_for", None)
    assert sys.meta_path == finders


def test_a_module_that_is_there_calls_back_at_once() -> None:
    """And leaves nothing behind."""
    calls: list[int] = []
    when_imported("sys", lambda: calls.append(1))()
    assert calls == [1]


def test_a_module_that_comes_calls_back_when_it_is_whole(module: str) -> None:
    """Everybody who waits, once each; the module's loader is its own."""
    seen: list[int] = []
    for _ in range(2):
        when_imported(module, lambda: seen.append(sys.modules[module].value))
    found = importlib.import_module(module)
    importlib.reload(found)
    assert seen == [1, 1]
    assert type(found.__loader__).__module__ != "tensorcore._import_hook"
    assert found.__spec__ is not None
    assert found.__spec__.loader is found.__loader__


def test_what_was_taken_back_is_not_called(module: str) -> None:
    """Taking it back twice does nothing."""
    calls: list[int] = []
    stop = when_imported(module, lambda: calls.append(1))
    stop()
    stop()
    importlib.import_module(module)
    assert calls == []


def test_a_module_that_does_not_exist_is_missed_as_ever() -> None:
    """The import fails as Python's does, and nobody waits any longer."""
    when_imported("no_such_module_at_all", lambda: None)
    with pytest.raises(ModuleNotFoundError, match="no_such_module_at_all"):
        importlib.import_module("no_such_module_at_all")
    assert all(type(finder).__module__ != "tensorcore._import_hook" for finder in sys.meta_path)
