"""``tensorcore bench`` measures every case of each part, names the peers that are missing, and writes what it found.

No figure is judged here: the runs are short and the machine may be busy.
"""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tensorcore import simd
from tensorcore.cli import _bench_device_python, _peers, main
from tensorcore.cli._bench_host import find_driver
from tensorcore.cli._bench_results import Section, plot, to_json, to_sheet
from tensorcore.cli._peers import peer_environments, preload_failed


def run_driver(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(find_driver()), *words], capture_output=True, text=True, check=False, timeout=120)


def test_host_driver_gives_each_allocator_the_same_rows() -> None:
    labels = {}
    for mode in ("malloc", "aligned", "tensorcore"):
        done = run_driver(mode, "--quick", "--case", "mixed")
        assert done.returncode == 0, done.stderr
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert all(row["ns"] > 0 for row in rows)
        labels[mode] = [row["label"] for row in rows]
    assert len(labels["malloc"]) == 9  # three ranges of sizes in three orders of freeing
    assert labels["malloc"] == labels["aligned"] == labels["tensorcore"]


def test_host_driver_runs_no_case_that_writes_memory_on_the_empty_harness() -> None:
    assert run_driver("harness", "--quick", "--case", "live").stdout == ""


@pytest.mark.parametrize("words", [[], ["other"], ["malloc", "--unknown"]], ids=str)
def test_host_driver_refuses_what_it_does_not_know(words: list[str]) -> None:
    done = run_driver(*words)
    assert done.returncode == 2
    assert "usage" in done.stderr


def test_batches_of_large_blocks_say_how_many_there_were() -> None:
    rows = [json.loads(line) for line in run_driver("tensorcore", "--quick", "--case", "batch").stdout.splitlines()]
    notes = {row["label"]: row["note"] for row in rows}
    assert notes["10,000 of 64 B, FIFO"] == ""
    assert notes["10,000 of 64 MiB, FIFO"].startswith("64 blocks")


def test_eight_live_blocks_of_eight_mebibytes_fault_no_page_in_the_steady_state() -> None:
    rows = {row["label"]: row for row in map(json.loads, run_driver("tensorcore", "--case", "live").stdout.splitlines())}
    pages = (8 << 20) / 4096
    assert rows["8 live of 8 MiB, touched"]["faults"] < 0.01 * pages


def test_quick_device_tables_from_python_have_the_floor_or_say_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without CuPy the table says so; with it, and without a GPU, a fake device stands in."""
    monkeypatch.setattr(_bench_device_python, "find_spec", lambda _: None)
    (empty,) = _bench_device_python.bench_device_python(1, quick=True)
    assert "CuPy is not installed" in empty.notes[0]
    monkeypatch.undo()
    pytest.importorskip("cupy")
    first, *_ = _bench_device_python.bench_device_python(1, quick=True)
    assert {"floor", "tensorcore"} <= set(first.columns)
    assert all(row.median("tensorcore") for row in first.rows)
    assert len(first.rows) == 5
    capsys.readouterr()


def test_quick_host_tables_show_the_floor_and_write_json_and_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    found, picture = tmp_path / "b.json", tmp_path / "b.png"
    assert main(["bench", "host", "--quick", "--against", "glibc", "--json", str(found), "--plot", str(picture)]) == 0
    text = capsys.readouterr().out
    assert "harness" in text
    assert "glibc / tensorcore" in text
    data = json.loads(found.read_text())
    pairs = next(section for section in data["sections"] if section["name"] == "host pair")
    assert len(pairs["rows"]) == 21  # 64 B to 64 MiB
    assert set(pairs["rows"][0]["values"]) == {"harness", "tensorcore", "glibc", "glibc aligned"}
    assert data["machine"]["cpu"]["name"]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_memory_tables_put_the_aims_beside_the_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "memory", "--quick", "--against", "glibc", "--json", str(tmp_path / "b.json")]) == 0
    text = capsys.readouterr().out
    assert "≤ 1.1" in text
    assert "200,000 operations" in text
    sections = {section["name"]: section["rows"] for section in json.loads((tmp_path / "b.json").read_text())["sections"]}
    assert list(sections) == ["host residency", "host fragmentation", "host drift", "host records"]
    residency = {row["label"]: row for row in sections["host residency"]}
    idle = residency["RSS over the start, all freed and 1.5 s idle"]
    assert (idle["unit"], idle["most"], set(idle["values"])) == ("MiB", 20.0, {"tensorcore", "glibc"})
    lost = sections["host fragmentation"]
    assert all({"tensorcore", "tensorcore (no learning)"} <= set(row["values"]) for row in lost)
    assert all(0 <= row["values"]["tensorcore"]["median"] <= row["most"] for row in lost)
    assert all(set(row["values"]) == {"tensorcore"} and row["most"] == 1.5 for row in sections["host records"])


def gives_back_beside_a_loop_that_never_faults() -> bool:
    done = run_driver("tensorcore", "--quick", "--case", "residency", "--decay", "1")
    figures = {row["label"]: row["value"] for row in map(json.loads, done.stdout.splitlines())}
    kept = max(figures["RSS over the start, all freed and 1.5 s idle"], figures["the same beside a loop over 8 MiB of temporaries"])
    return bool(kept <= 20 and figures["page faults of that loop a pass of 8 MiB"] == 0)


def test_freed_memory_goes_back_while_a_loop_beside_it_never_faults() -> None:
    """Within 1.5 s at a decay of 1 s; a machine so busy that a thread stands still for a second gets another chance."""
    assert any(gives_back_beside_a_loop_that_never_faults() for _ in range(3))


def test_curves_are_a_table_for_each_thing_that_grows_and_a_picture_that_is_svg(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    found, picture = tmp_path / "b.json", tmp_path / "b.svg"
    assert main(["bench", "curves", "--quick", "--against", "glibc", "--json", str(found), "--plot", str(picture)]) == 0
    assert "64 threads" in capsys.readouterr().out
    sections = {section["name"]: section for section in json.loads(found.read_text())["sections"]}
    live = [row["label"] for row in sections["host live-blocks pair"]["rows"]]
    assert live == ["pair, 1000 live", "pair, 10000 live", "pair, 100000 live"]
    threads = sections["host thread-counts batch"]["rows"]
    assert [row["label"].split(", ")[1] for row in threads] == ["1 thread", "2 threads", "8 threads", "64 threads"]
    assert set(sections["host pools pair"]["rows"][0]["values"]) == {"tensorcore"}
    assert "<svg" in picture.read_text()
    assert "64 threads" in picture.read_text()


def test_device_tables_show_the_curve_over_streams_and_what_traces_reserve(tmp_path: Path) -> None:
    assert main(["bench", "device", "--quick", "--json", str(tmp_path / "b.json")]) == 0
    pairs, replaced, traces, *from_python = json.loads((tmp_path / "b.json").read_text())["sections"]
    assert from_python[0]["name"] == "device python"
    assert len(pairs["rows"]) == len(replaced["rows"]) == 16  # four sizes, on 1, 10, 100 and 1,000 streams
    assert set(pairs["rows"][0]["values"]) == {"harness", "tensorcore"}
    assert all(row["unit"] == "ratio" and row["values"]["tensorcore"]["median"] >= 1.0 for row in traces["rows"])
    assert [set(row["values"]) for row in traces["rows"]] == [{"tensorcore", "cupy", "pytorch", "power of two"}] * 3


def test_device_driver_refuses_what_it_does_not_know() -> None:
    done = subprocess.run([str(find_driver("_bench_device")), "--case", "other"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage" in done.stderr


def test_python_table_has_tensor_beside_numpy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "python", "--quick"]) == 0
    text = capsys.readouterr().out
    for words in ("pool.allocate", "PooledAllocation", "Tensor((100, 100))", "numpy.empty((100, 100))", "floor", "aims"):
        assert words in text


def test_array_table_has_tensors_beside_arrays(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "array", "--quick"]) == 0
    text = capsys.readouterr().out
    for words in ("a + b", "a[mask]", "np.sin(a)", "numpy", "tensorcore", "besides NumPy's, aim ≤ 1000 ns"):
        assert words in text


def test_numpy_tables_have_plain_beside_pooled_and_a_new_result_beside_out(tmp_path: Path) -> None:
    assert main(["bench", "numpy", "--quick", "--against", "glibc", "--json", str(tmp_path / "b.json")]) == 0
    by_label, fresh = json.loads((tmp_path / "b.json").read_text())["sections"]
    rows = {row["label"]: row for row in by_label["rows"]}
    assert set(rows["np.ones, 64 MB"]["values"]) == {"plain", "pooled"}
    assert rows["eight live temporaries, 8 MB"]["target"] == 3.0
    assert [row["label"] for row in fresh["rows"]] == ["8 KB", "80 KB", "800 KB", "8 MB", "64 MB"]
    assert all(set(row["values"]) == {"out=", "a + b"} for row in fresh["rows"])


def test_simd_tables_have_the_limit_numpy_and_every_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    threads = simd.get_num_threads()
    assert main(["bench", "simd", "--quick", "--json", str(tmp_path / "b.json")]) == 0
    assert simd.get_num_threads() == threads
    assert "limit" in capsys.readouterr().out
    sections = {section["name"]: section for section in json.loads((tmp_path / "b.json").read_text())["sections"]}
    against_limit = {row["label"]: row for row in sections["simd add, limit"]["rows"]}
    assert [label for label in against_limit if label.endswith("1 thread")] == [
        f"{size}, 1 thread" for size in ("8 KB", "80 KB", "800 KB", "8 MB", "64 MB")
    ]
    assert against_limit["64 MB, 1 thread"]["target"] == 0.95
    assert all(set(row["values"]) == {"limit", "simd"} for row in against_limit.values())
    assert {"simd add, np.add(out)", "simd add, a + b", "simd fused, numpy", "simd others"} <= set(sections)
    assert ("simd fused, numexpr" in sections) == (find_spec("numexpr") is not None)


# ---- peers and options ----------------------------------------------------------------------------------------------------------


def test_a_peer_that_is_not_installed_is_named_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_peers, "find_library", lambda name: "libjemalloc.so.2" if name == "jemalloc" else None)
    monkeypatch.setattr(sys, "platform", "linux")
    found, missing = peer_environments(["glibc", "mimalloc", "jemalloc"])
    assert set(found) == {"glibc", "jemalloc"}
    assert found["jemalloc"]["LD_PRELOAD"] == "libjemalloc.so.2"
    assert missing == {"mimalloc": "not installed (no libmimalloc.so)"}


def test_a_library_that_cannot_be_preloaded_is_not_measured_as_glibc() -> None:
    done = subprocess.run(["true"], env={"LD_PRELOAD": "/no/such/library.so"}, capture_output=True, text=True, check=False)
    assert preload_failed(done.stderr)
    assert not preload_failed("")


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--against", "dlmalloc"], "'dlmalloc' is none of glibc"), (["--json", "/no/such/folder/f.json"], "no directory"),
     (["--rounds", "none"], "positive"), (["--operations", "0"], "positive"), (["gpu"], "invalid choice")],
)  # fmt: skip
def test_options_that_make_no_sense_are_refused_with_exit_code_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["bench", *words])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


# ---- results --------------------------------------------------------------------------------------------------------------------


def sample() -> Section:
    section = Section("s", "a title", ["floor", "a", "b"], ratio=("a", "b"), notes=["a note"])
    for seconds in (1e-6, 3e-6, 2e-6):
        section.row("first").add("a", seconds, 1.0)
        section.row("first").add("b", seconds / 4)
    section.row("first").target = 3.0
    section.row("second").note = "only 64 blocks"
    return section


def test_sheet_shows_medians_the_ratio_the_aim_and_which_row_a_note_belongs_to() -> None:
    sheet = to_sheet(sample())
    assert sheet.columns == ["", "floor", "a", "b", "a / b", "aim"]
    assert sheet.rows == [["first", "-", "2.0 µs", "500 ns", "4.00", "≥ 3"], ["second", "-", "-", "-", "-", ""]]
    assert sheet.notes == ["a note", "second: only 64 blocks"]


def test_json_has_the_spread_of_every_figure() -> None:
    data = json.loads(to_json([sample()], {"rounds": 3}))
    first = data["sections"][0]["rows"][0]
    assert first["values"]["a"] == {"median": 2e-6, "least": 1e-6, "most": 3e-6, "rounds": 3, "faults": 1.0}
    assert first["ratio"] == pytest.approx(4.0)
    assert data["rounds"] == 3
    assert data["date"].endswith("+00:00")


def test_plot_is_a_png_even_where_a_column_is_empty(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot([sample()], tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_plot_without_matplotlib_is_refused_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(SystemExit):
        main(["bench", "host", "--plot", str(tmp_path / "p.png")])
    assert "pip install 'tensorcore[bench]'" in capsys.readouterr().err


def test_modes_are_measured_side_by_side(tmp_path: Path) -> None:
    assert main(["bench", "modes", "--quick", "--json", str(tmp_path / "b.json")]) == 0
    pairs, mixed = json.loads((tmp_path / "b.json").read_text())["sections"]
    assert (pairs["name"], mixed["name"]) == ("modes pair", "modes mixed")
    assert all(set(row["values"]) == {"harness", "fast", "hardened"} for row in (*pairs["rows"], *mixed["rows"]))
