"""Tables of words, made once and shown as plain text, by rich or in HTML; and how numbers are written in them.

rich is imported where it is asked for, never to print.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ._units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType


@dataclass(slots=True)
class Sheet:
    """One table: the first column is text, the others are numbers already written out, or words; notes follow below."""

    title: str
    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # alone where there are no columns
    numbers: bool = True  # flush right, as numbers are read


def to_text(sheets: Sequence[Sheet]) -> str:
    """Return the tables as aligned lines, an empty line between two."""
    return "\n\n".join("\n".join(_lines(sheet)) for sheet in sheets)


def _lines(sheet: Sheet) -> list[str]:
    rows = [sheet.columns, *sheet.rows]
    widths = [max(len(row[position]) for row in rows) for position in range(len(sheet.columns))]

    def aligned(row: list[str]) -> str:
        cells = [
            cell.rjust(width) if position and sheet.numbers else cell.ljust(width)
            for position, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(cells).rstrip()

    return [sheet.title, *(map(aligned, rows) if sheet.columns else ()), *sheet.notes]


def to_rich(sheets: Sequence[Sheet]) -> RenderableType:
    """Return the tables for a rich console."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[RenderableType] = []
    for sheet in sheets:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for position, column in enumerate(sheet.columns):
            table.add_column(
                Text(column), justify="right" if position and sheet.numbers else "left", overflow="fold", no_wrap=position == 0
            )
        for row in sheet.rows:
            table.add_row(*(Text(cell) for cell in row))
        parts += [Text(sheet.title, style="bold"), *([table] if sheet.columns else ()), *map(Text, sheet.notes)]
    return Group(*parts)


def bytes_text(nbytes: float | None) -> str:
    """'7.63 MiB'; '-' for None."""
    return "-" if nbytes is None else format_bytes(nbytes)


def seconds_text(seconds: float) -> str:
    """'3.2 ns', '15.0 µs', '2.41 s': three digits that mean something."""
    for scale, unit in ((1e9, "ns"), (1e6, "µs"), (1e3, "ms")):
        if seconds * scale < 999.5:
            value = seconds * scale
            return f"{value:.0f} {unit}" if value >= 99.95 else f"{value:.1f} {unit}"
    return f"{seconds:.2f} s"


def percent_text(ratio: float | None) -> str:
    """'99.9 %' for 0.999; '-' for None."""
    return "-" if ratio is None else f"{100 * ratio:.1f} %"
