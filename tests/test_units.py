"""Sizes in words, and how much memory this process may use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tensorcore._machine import cgroup_limit, memory_limit, physical_memory
from tensorcore._units import format_bytes, parse_size

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [
        (0, 0),
        (123, 123),
        ("123", 123),
        ("0 B", 0),
        ("64KiB", 64 << 10),
        ("16 MiB", 16 << 20),
        ("8GiB", 8 << 30),
        ("8gib", 8 << 30),
        ("1.5TiB", 3 << 39),
        ("512MB", 512_000_000),
        ("2kB", 2000),
        ("9007199254740993", 9007199254740993),
    ],
)
def test_a_size_is_an_integer_or_a_number_with_a_unit(text: Any, nbytes: int) -> None:
    """Binary and decimal units, in any case; whole numbers are exact at any size."""
    assert parse_size(text) == nbytes


@pytest.mark.parametrize("text", ["", "GiB", "-1", "1 gallon", "1e6", "1,000", -5])
def test_what_is_no_size_is_refused(text: Any) -> None:
    """The value is named."""
    with pytest.raises(ValueError, match=f"not {text!r}"):
        parse_size(text)
    with pytest.raises(TypeError):
        parse_size(1.5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 B"),
        (80_000, "80,000 B"),
        ((1 << 20) - 1, "1,048,575 B"),
        (1 << 20, "1.00 MiB"),
        (10 << 20, "10.0 MiB"),
        (500 << 20, "500 MiB"),
        (1000 << 20, "1000 MiB"),
        (3 << 29, "1.50 GiB"),
        (5 << 40, "5.00 TiB"),
    ],
)
def test_a_size_reads_as_bytes_below_1_mib_and_with_three_digits_above(nbytes: int, text: str) -> None:
    """With a binary unit."""
    assert format_bytes(nbytes) == text


def write(path: Path, text: str) -> Path:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, None),
        ({"a/b/memory.max": "max\n"}, None),
        ({"a/b/memory.max": "5000\n"}, 5000),
        ({"a/b/memory.max": "5000\n", "a/memory.max": "4000\n", "memory.max": "max"}, 4000),
    ],
)
def test_the_lowest_limit_of_the_cgroup_and_its_parents_counts(tmp_path: Path, files: dict[str, str], limit: int | None) -> None:
    """Version 2: memory.max, where 'max' means none."""
    for name, text in files.items():
        write(tmp_path / "cgroup" / name, text)
    assert cgroup_limit(write(tmp_path / "self", "0::/a/b\n"), tmp_path / "cgroup") == limit


def test_the_first_version_of_cgroups_is_read_too(tmp_path: Path) -> None:
    """memory.limit_in_bytes of the memory controller; other controllers have none."""
    write(tmp_path / "cgroup/memory/job/memory.limit_in_bytes", "7000\n")
    write(tmp_path / "cgroup/cpu/job/memory.limit_in_bytes", "1\n")
    membership = write(tmp_path / "self", "3:cpu,cpuacct:/job\n2:memory:/job\n0::/job\n")
    assert cgroup_limit(membership, tmp_path / "cgroup") == 7000


def test_without_cgroups_the_machine_is_the_limit(tmp_path: Path) -> None:
    """The files may be missing; the real answer never is above the machine's memory."""
    assert cgroup_limit(tmp_path / "none") is None
    assert 0 < memory_limit() <= physical_memory()
