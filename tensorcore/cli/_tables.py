"""Tables of the command line: in a terminal by rich, in HTML, or kept as data."""

from __future__ import annotations

import html
import sys
from typing import IO, TYPE_CHECKING

from tensorcore._sheets import Sheet, bytes_text, percent_text, seconds_text, to_rich

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

__all__ = ["Sheet", "bytes_text", "console_for", "percent_text", "seconds_text", "show", "to_html"]


def console_for(stream: IO[str]) -> Console:
    """A rich console: colour and the terminal's width on a terminal, plain text 160 wide elsewhere."""
    from rich.console import Console

    return Console(file=stream, width=None if stream.isatty() else 160, highlight=False, soft_wrap=False)


def show(sheets: Sequence[Sheet], stream: IO[str] | None = None) -> None:
    """Print tables to ``stream`` (stdout)."""
    console_for(sys.stdout if stream is None else stream).print(to_rich(sheets))


def to_html(sheet: Sheet) -> str:
    """The table as an HTML fragment."""

    def cells(tag: str, texts: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts) + "</tr>"

    rows = "\n".join(cells("td", row) for row in sheet.rows)
    table = f"<table>{cells('th', sheet.columns)}\n{rows}</table>" if sheet.columns else ""
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in sheet.notes)
    return f"<h2>{html.escape(sheet.title)}</h2>\n{table}{notes}\n"
