"""Statistics: one field list from C to Python, invariants, merging, the host's side, and the printed tables."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

import tensorcore as tc
from tensorcore import _machine
from tensorcore._host import host_sheet, read_host
from tensorcore._lib import ffi
from tensorcore._sheets import to_text
from tensorcore._statistics import merge

RunPython = Callable[..., str]

HEADER = (Path(__file__).parent.parent / "csrc/include/tensorcore.h").read_text()


def names(kind: type) -> list[str]:
    """Return the names of a dataclass's fields in order."""
    return [field.name for field in dataclasses.fields(kind)]


@pytest.mark.parametrize(
    ("kind", "struct"),
    [
        (tc.MemoryStatistics, "tc_stats"),
        (tc.ByteStatistic, "tc_stat"),
        (tc.SizeClassStatistics, "tc_class_stats"),
        (tc.FakeCounts, "tc_fake_counts"),
    ],
)
def test_a_dataclass_has_the_fields_of_its_c_struct(kind: type, struct: str) -> None:
    """The same names in the same order: a statistic that is added in C fails here until Python has it."""
    assert names(kind) == [name for name, _ in ffi.typeof(struct).fields]


def test_amounts_and_counts_have_the_type_that_the_header_gives_them() -> None:
    """BYTES is a ByteStatistic, COUNT an integer."""
    listed = re.findall(r"^  (BYTES|COUNT)\((\w+),", HEADER, re.MULTILINE)
    types = {"BYTES": tc.ByteStatistic, "COUNT": int}
    statistics = tc.MemoryStatistics()
    assert [(name, type(getattr(statistics, name))) for _, name in listed] == [(name, types[kind]) for kind, name in listed]
    assert len(listed) == len(names(tc.MemoryStatistics))


def test_the_figures_of_known_work(pool: tc.MemoryPool) -> None:
    """Ten blocks of 100 bytes in classes of 128, half of them freed."""
    blocks = [pool.allocate(100) for _ in range(10)]
    for address in blocks[:5]:
        pool.deallocate(address)
    statistics = pool.statistics
    assert statistics.requested == tc.ByteStatistic(500, 1000, 1000, 500)
    assert dataclasses.replace(statistics.allocated, peak=0) == tc.ByteStatistic(640, 0, 1280, 640)
    assert 1000 <= statistics.allocated.peak <= 1280  # sampled by the core, never below the peak of the requests
    assert (statistics.allocation_count, statistics.deallocation_count) == (10, 5)
    assert statistics.hits + statistics.misses == 10
    assert statistics.upstream_calls >= 1
    assert statistics.upstream_ns > 0
    assert statistics.internal_fragmentation == pytest.approx(1 - 100 / 128)
    assert 0 <= statistics.external_fragmentation < 1
    assert statistics.hit_ratio == statistics.hits / 10
    assert statistics.utilization_ratio == 640 / statistics.reserved.current
    assert statistics.cached.current + statistics.pending.current == statistics.reserved.current - 640
    (used,) = [size_class for size_class in pool.size_classes if size_class.allocations]
    assert (used.block_size, used.live, used.allocations, used.learned) == (128, 5, 10, False)
    for address in blocks[5:]:
        pool.deallocate(address)


def test_an_empty_pool_has_ratios_of_0() -> None:
    """No division by zero."""
    empty = tc.MemoryStatistics()
    assert empty.internal_fragmentation == empty.external_fragmentation == empty.utilization_ratio == empty.hit_ratio == 0


def test_statistics_name_every_open_pool_and_merge_them() -> None:
    """Sums, but the largest free block and the core's metadata; a closed pool is gone."""
    with tc.MemoryPool(name="first", limit="1GiB") as first, tc.MemoryPool(name="second") as second:
        blocks = [(pool, pool.allocate(size)) for pool, size in ((first, 1000), (second, 70_000))]
        statistics = tc.statistics()
        by_name = {pool.name: pool for pool in statistics.pools}
        assert (by_name["first"].limit, by_name["second"].limit, by_name["first"].device) == (1 << 30, None, "cpu")
        assert by_name["first"].memory == first.statistics
        assert by_name["second"].size_classes == second.size_classes
        readings = [pool.memory for pool in statistics.pools]
        assert statistics.merged.requested.current == sum(reading.requested.current for reading in readings)
        assert statistics.merged.allocation_count == sum(reading.allocation_count for reading in readings)
        assert statistics.merged.largest_free_block == max(reading.largest_free_block for reading in readings)
        assert statistics.merged.metadata_bytes == max(reading.metadata_bytes for reading in readings)
        for pool, address in blocks:
            pool.deallocate(address)
    assert {"first", "second"}.isdisjoint(pool.name for pool in tc.statistics().pools)


def test_merging_nothing_gives_zeros() -> None:
    """A program that made no pool has statistics too."""
    assert merge([]) == tc.MemoryStatistics()


def test_statistics_are_plain_numbers_for_json(pool: tc.MemoryPool) -> None:
    """Every field and ratio, nested by pool."""
    pool.deallocate(pool.allocate(1000))
    read = json.loads(json.dumps(tc.statistics().as_dict()))
    (mine,) = [entry for entry in read["pools"] if entry["name"] == pool.name]
    assert mine["memory"]["requested"] == {"current": 0, "peak": 1000, "total_allocated": 1000, "total_freed": 1000}
    assert set(names(tc.MemoryStatistics)) < set(mine["memory"]) == set(read["merged"])
    assert mine["size_classes"][0].keys() == set(names(tc.SizeClassStatistics))


def test_printed_statistics_are_an_aligned_table() -> None:
    """A row for each figure, a column for each pool, the last one for all together; then this process, then the cards."""
    with tc.MemoryPool(name="first") as first, tc.MemoryPool(name="second"):
        address = first.allocate(2 << 20)
        memory, *rest = str(tc.statistics()).split("\n\n")
        first.deallocate(address)
    title, *lines = memory.splitlines()
    heading = lines[0]
    assert title == "memory"
    assert heading.split("  ")[-1].strip() == "all pools"
    rows = {re.split(r" {2,}", line)[0]: line for line in lines}
    assert {name.replace("_", " ") for name in names(tc.MemoryStatistics)} - {"upstream ns"} < rows.keys()
    assert rows["upstream time"].endswith(" ms")
    assert rows["requested"][: heading.index("first (cpu)") + len("first (cpu)")].endswith("2.00 MiB (peak 2.00 MiB)")
    assert len({len(line) for line in lines}) == 1
    assert rest[-2].startswith("this process\n")
    assert rest[-1].startswith("GPUs")


def test_two_pools_of_one_name_have_a_column_each() -> None:
    """Numbered, since names need not differ."""
    with tc.MemoryPool(name="twin"), tc.MemoryPool(name="twin"):
        heading = str(tc.statistics(machine=False)).splitlines()[1]
    assert len({column.strip() for column in heading.split("  ") if "twin (cpu)" in column}) == 2


MADE_UP_DEVICES = """
    import json, tensorcore as tc

    class MadeUp(tc.Backend):
        def __init__(self, kind): self.kind = kind
        def why_unavailable(self): return None
        def device_count(self): return 2
        def memory(self, index): return 1 << 40
        def upstream(self, index): return tc.FakeUpstream(None)
        def array_maker(self, upstream, *, zeroed=False): return None

    for kind in ("cuda", "pinned"):
        tc.register_backend(MadeUp(kind))
    pools = [tc.MemoryPool(name=name, device=name) for name in ("cpu", "pinned:0", "cuda:0", "cuda:1")]
    with tc.scope("all") as all_devices:
        for nbytes, pool in enumerate(pools, 1000):
            pool.allocate(nbytes)
    statistics = tc.statistics(machine=False)
    print(json.dumps([statistics.as_dict(), str(statistics), [str(pool.device) for pool in pools]]))
"""


def test_pools_of_every_device_are_in_one_table_and_merged(run_python: RunPython) -> None:
    """Whatever devices there are: none is named in the code that reads them."""
    read, text, (cpu, pinned, cuda0, cuda1) = json.loads(run_python(MADE_UP_DEVICES))
    bytes_by_device = [(cpu, 1000), (cuda0, 1002), (cuda1, 1003), (pinned, 1001)]
    assert [(pool["device"], pool["memory"]["requested"]["current"]) for pool in read["pools"]] == bytes_by_device
    assert read["merged"]["requested"]["current"] == 4006
    (scope,) = read["scopes"]
    assert (scope["requested"]["current"], scope["allocation_count"]) == (4006, 4)
    assert [(part["device"], part["requested"]["peak"]) for part in scope["devices"]] == bytes_by_device
    assert f"cuda:0 ({cuda0})" in text
    assert f"  on {pinned}" in text


def test_statistics_are_frozen_and_the_json_text_holds_them_all(pool: tc.MemoryPool) -> None:
    """As as_dict() gives them."""
    statistics = tc.statistics()
    assert json.loads(statistics.as_json()) == json.loads(json.dumps(statistics.as_dict()))
    assert set(names(tc.Statistics)) == statistics.as_dict().keys()
    assert statistics.as_json(indent=1).count("\n") > 50
    assert pool.name in statistics.as_json()
    with pytest.raises(dataclasses.FrozenInstanceError):
        statistics.host = None  # type: ignore[misc]


def test_rich_renders_the_same_tables(pool: tc.MemoryPool) -> None:
    """Every word of the plain text, in cells of its own."""
    console = Console(width=400, record=True, file=io.StringIO())
    statistics = tc.statistics()
    console.print(statistics)
    rendered = console.export_text()
    assert pool.name in rendered
    assert {word for line in str(statistics).splitlines() for word in line.split()} <= set(rendered.split())


def test_printing_needs_no_rich(run_python: RunPython) -> None:
    """It is imported by who renders with it."""
    program = "import sys; sys.modules['rich'] = None; import tensorcore as tc; print(str(tc.statistics())[:6], end='')"
    assert run_python(program) == "memory"


# ---- the host --------------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_the_hosts_figures_follow_what_the_process_does(run_python: RunPython) -> None:
    """64 MiB written, page by page, then given back: resident bytes and faults rise by them, the peak stays."""
    program = """
        import mmap, tensorcore as tc
        def host(): return tc.statistics().host
        host()
        a = host()
        memory = mmap.mmap(-1, 64 << 20)
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        for page in range(0, len(memory), mmap.PAGESIZE): memory[page] = 1
        b = host()
        memory.close()
        c = host()
        print(b.rss_bytes - a.rss_bytes >= 60 << 20, b.minor_faults - a.minor_faults >= (64 << 20) // mmap.PAGESIZE)
        near = 2 << 20  # the kernel adds its counters of each CPU up by and by
        print(c.rss_bytes < b.rss_bytes, c.peak_rss_bytes >= b.rss_bytes - near, b.peak_rss_bytes >= b.rss_bytes, a.reasons)
        print(0 < c.available_bytes < c.memory_bytes, c.swap_bytes >= 0, c.huge_page_bytes >= 0)
    """
    assert run_python(program).split() == ["True", "True", "True", "True", "True", "()", "True", "True", "True"]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_huge_pages_are_counted_as_the_kernel_does(run_python: RunPython) -> None:
    """64 MiB that may be huge, touched; how many are is the system's choice."""
    program = """
        import mmap, tensorcore as tc
        memory = mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory.madvise(mmap.MADV_HUGEPAGE)
        for page in range(0, len(memory), mmap.PAGESIZE): memory[page] = 1
        rollup = dict(line.split(":") for line in open("/proc/self/smaps_rollup").read().splitlines()[1:])
        print(abs(tc.statistics().host.huge_page_bytes - int(rollup["AnonHugePages"].split()[0]) * 1024) <= 4 << 20)
    """
    assert run_python(program).split() == ["True"]


def test_a_system_without_proc_gives_reasons_and_what_getrusage_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """As macOS does."""
    monkeypatch.setattr(_machine, "read_text", lambda _: None)
    host = read_host()
    assert (host.rss_bytes, host.huge_page_bytes, host.available_bytes, host.cgroup_version) == (None, None, None, None)
    assert host.peak_rss_bytes > 1 << 20
    assert host.reasons == tuple(
        f"{path} can't be read here" for path in ("/proc/self/status", "/proc/self/smaps_rollup", "/proc/meminfo")
    )
    assert "no cgroup" in to_text([host_sheet(host)])


@pytest.mark.parametrize(
    ("membership", "files", "memory"),
    [
        ("0::/a\n", {"a/memory.current": "4096\n", "a/memory.max": "8192"}, ("v2", 8192, 4096)),
        ("0::/a\n", {"memory.current": "4096\n"}, ("v2", None, 4096)),
        ("5:cpu,memory:/a\n0::/\n", {"memory/a/memory.usage_in_bytes": "4096"}, ("v1", None, 4096)),
        ("5:memory:/host\n", {"memory/memory.limit_in_bytes": "9223372036854771712"}, ("v1", None, None)),
        ("1:cpu:/a\n", {}, (None, None, None)),
        (None, {}, (None, None, None)),
    ],
)
def test_a_cgroups_limit_and_use_are_those_of_either_version(
    tmp_path: Path, membership: str | None, files: dict[str, str], memory: tuple[str | None, int | None, int | None]
) -> None:
    """Inside a container the path is the host's, and the group is the root."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    if membership is not None:
        (tmp_path / "cgroup").write_text(membership)
    assert _machine.cgroup_memory(tmp_path / "cgroup", tmp_path) == memory
