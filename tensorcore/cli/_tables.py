"""Tables of words, made once and shown in a terminal (rich), in HTML, or kept as data; and how numbers are written in them."""

from __future__ import annotations

import html
import sys
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

from tensorcore._units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console


@dataclass(slots=True)
class Sheet:
    """One table: the first column is text, the others are numbers already written out, or words; notes follow below."""

    title: str
    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    numbers: bool = True  # flush right, as numbers are read


def console_for(stream: IO[str]) -> Console:
    """A rich console: colour and the terminal's width on a terminal, plain text 160 wide elsewhere."""
    from rich.console import Console

    return Console(file=stream, width=None if stream.isatty() else 160, highlight=False, soft_wrap=False)


def show(sheets: Sequence[Sheet], stream: IO[str] | None = None) -> None:
    """Print tables to ``stream`` (stdout)."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    console = console_for(sys.stdout if stream is None else stream)
    for sheet in sheets:
        console.print(Text(sheet.title, style="bold"))
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for position, column in enumerate(sheet.columns):
            table.add_column(
                column, justify="right" if position and sheet.numbers else "left", overflow="fold", no_wrap=position == 0
            )
        for row in sheet.rows:
            table.add_row(*(Text(cell) for cell in row))
        console.print(table)
        for note in sheet.notes:
            console.print(Text(note))


def to_html(sheet: Sheet) -> str:
    """The table as an HTML fragment."""

    def cells(tag: str, texts: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts) + "</tr>"

    rows = "\n".join(cells("td", row) for row in sheet.rows)
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in sheet.notes)
    return f"<h2>{html.escape(sheet.title)}</h2>\n<table>{cells('th', sheet.columns)}\n{rows}</table>{notes}\n"


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


def percent_text(ratio: float) -> str:
    """'99.9 %' for 0.999."""
    return f"{100 * ratio:.1f} %"
