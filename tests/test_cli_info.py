"""``tensorcore info`` names what is there, says why something is missing, and never fails on a system that doesn't tell."""

import json
from pathlib import Path

import pytest

import tensorcore as tc
import tensorcore._machine
from tensorcore.cli import _machine, main
from tensorcore.cli._machine import _expand


def test_json_names_versions_backends_hook_and_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["packages"]["numpy"]
    assert "1 device" in facts["backends"]["cpu"]
    assert facts["backends"]["cuda"].startswith("missing: ")
    assert facts["page_bytes"] >= 4096
    assert facts["cpu"]["usable"] >= 1
    assert set(facts["limits"]) <= {"RLIMIT_AS", "RLIMIT_MEMLOCK"}
    assert facts["hook"]
    assert facts["statistics"].keys() == tc.statistics().as_dict().keys()
    assert facts["statistics"]["host"]["memory_bytes"] > 1 << 20


def test_tables_show_the_same_facts_without_colour_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    for words in ("tensorcore", "NumPy hook", "SIMD", "huge page", "NUMA nodes", "RLIMIT_MEMLOCK", "backend cuda"):
        assert words in text
    for words in ("cgroup", "page faults", "GPUs"):
        assert words in text
    assert "\x1b" not in text


def test_a_system_without_proc_and_sys_gives_unknown_and_no_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in (_machine, tensorcore._machine):
        monkeypatch.setattr(module, "read_text", lambda _: None)
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    assert "not offered by this system" in text
    assert "no cgroup" in text


@pytest.mark.parametrize(("ranges", "numbers"), [("0", [0]), ("0-2,5", [0, 1, 2, 5])])
def test_ranges_of_nodes_are_expanded(ranges: str, numbers: list[int]) -> None:
    assert _expand(ranges) == numbers


def test_a_file_that_is_not_there_reads_as_none(tmp_path: Path) -> None:
    assert tensorcore._machine.read_text(tmp_path / "missing") is None


@pytest.mark.parametrize(("flags", "level"), [("sse4_2 avx avx2 avx512f", "AVX-512"), ("sse4_2 avx", "AVX"), ("fpu", None)])
def test_simd_level_is_the_widest_that_the_cpu_names(monkeypatch: pytest.MonkeyPatch, flags: str, level: str | None) -> None:
    monkeypatch.setattr(_machine, "read_text", lambda _: f"flags\t\t: {flags}\n")
    assert _machine.simd_level() == level
