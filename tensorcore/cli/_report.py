"""The report of ``tensorcore run``: what the pools and the process did, as a few lines, as HTML or as JSON.

The process's figures include its imports; the pools' figures are the program's alone. CPU and wall time are the program's.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, fields
from typing import IO, TYPE_CHECKING

import tensorcore as tc
from tensorcore.cli._tables import Sheet, bytes_text, percent_text, seconds_text

if TYPE_CHECKING:
    from pathlib import Path

    from tensorcore._statistics import SizeClassStatistics

_SIZES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything a report shows; times in seconds, sizes in bytes."""

    program: list[str]
    tensorcore: str
    numpy: str
    wall_s: float
    cpu_s: float
    statistics: tc.Statistics


class Report:
    """Takes the process's figures before and after the program."""

    def __init__(self, program: list[str]) -> None:
        self._program = program
        self._wall = self._cpu = 0.0

    def start(self) -> None:
        """The program begins now."""
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def finish(self, numpy: str) -> Figures:
        """The program has ended; ``numpy`` says what became of NumPy's memory."""
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        return Figures(
            program=self._program,
            tensorcore=tc.__version__,
            numpy=numpy,
            wall_s=wall,
            cpu_s=cpu,
            statistics=tc.statistics(),
        )


def write_report(figures: Figures, path: Path | None, stream: IO[str] | None) -> None:
    """Show the report on ``stream`` and write it to ``path``, each where given."""
    if path is not None:
        try:
            path.write_text(_to_json(figures) if path.suffix == ".json" else _to_html(figures), encoding="utf-8")
        except OSError as error:
            print(f"tensorcore: the report could not be written: {error}", file=sys.stderr)
    if stream is not None:
        from tensorcore.cli._tables import show

        print(file=stream)
        show(sheets(figures), stream)
        stream.flush()


def sheets(figures: Figures) -> list[Sheet]:
    """The report's tables: memory, the size classes with the most traffic, scopes, the process, and the cards."""
    s = figures.statistics.merged
    lines = (("requested", s.requested), ("allocated", s.allocated), ("reserved", s.reserved), ("cached", s.cached))
    memory = Sheet(
        f"tensorcore {figures.tensorcore}: {' '.join(figures.program)}",
        ["memory", "now", "peak", "in total"],
        [[name, bytes_text(v.current), bytes_text(v.peak), bytes_text(v.total_allocated)] for name, v in lines],
        [
            f"NumPy: {figures.numpy}",
            (
                f"hit rate {percent_text(s.hit_ratio)} of {s.allocation_count:,} allocations; "
                f"{seconds_text(s.upstream_ns / 1e9)} in {s.upstream_calls:,} upstream calls"
            ),
            f"fragmentation: internal {percent_text(s.internal_fragmentation)}, external {percent_text(s.external_fragmentation)}",
            f"wall {seconds_text(figures.wall_s)}, CPU {seconds_text(figures.cpu_s)}",
        ],
    )
    machine = figures.statistics.machine_sheets()
    if not s.allocation_count:
        return [memory, *machine]
    classes = Sheet("size classes with the most bytes handed out", ["block", "allocations", "thread-cache hits", "live", "cached"])
    for c in _busiest(figures)[:_SIZES_SHOWN]:
        hits = percent_text(c.hits / c.allocations) if c.allocations else "-"
        classes.rows.append([bytes_text(c.block_size), f"{c.allocations:,}", hits, f"{c.live:,}", f"{c.cached:,}"])
    return [memory, classes, *machine]


def _busiest(figures: Figures) -> list[SizeClassStatistics]:
    """Every pool's size classes, most bytes handed out first."""
    classes = [c for pool in figures.statistics.pools for c in pool.size_classes]
    return sorted(classes, key=lambda c: c.block_size * c.allocations, reverse=True)


def _to_json(figures: Figures) -> str:
    values = {field.name: getattr(figures, field.name) for field in fields(figures)}
    return json.dumps(values | {"statistics": figures.statistics.as_dict()}, indent=1) + "\n"


# ---- HTML -----------------------------------------------------------------------------------------------------------------------

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
table{border-collapse:collapse}th,td{padding:.15rem .9rem;text-align:right;border-bottom:1px solid #ddd}
th:first-child,td:first-child{text-align:left}h2{font-size:1.1rem;margin-top:2rem}svg text{font-size:13px}"""


def html_page(title: str, body: str) -> str:
    """A page that needs nothing beside itself."""
    import html

    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n{body}</body></html>\n"
    )


def bars(rows: list[tuple[str, float, str]], title: str) -> str:
    """A bar chart as SVG: (name, length, words beside the bar)."""
    import html

    top = max((length for _, length, _ in rows), default=0) or 1.0
    parts = [f'<svg role="img" aria-label="{html.escape(title)}" width="760" height="{26 * len(rows)}">']
    for position, (name, length, words) in enumerate(rows):
        y, width = 26 * position, 400 * length / top
        parts.append(
            f'<text x="150" y="{y + 17}" text-anchor="end">{html.escape(name)}</text>'
            f'<rect x="160" y="{y + 4}" width="{width:.1f}" height="18" fill="#3b7dd8"/>'
            f'<text x="{168 + width:.1f}" y="{y + 17}">{html.escape(words)}</text>'
        )
    return "".join(parts) + "</svg>\n"


def _to_html(figures: Figures) -> str:
    from tensorcore.cli._tables import to_html

    s = figures.statistics.merged
    peaks = [("requested", s.requested.peak), ("allocated", s.allocated.peak), ("reserved", s.reserved.peak)]
    chart = bars([(name, peak, bytes_text(peak)) for name, peak in peaks], "peak bytes")
    memory, *rest = map(to_html, sheets(figures))
    traffic = [
        (bytes_text(c.block_size), float(c.block_size * c.allocations), bytes_text(c.block_size * c.allocations))
        for c in _busiest(figures)
    ]
    body = memory + "<h2>peaks</h2>\n" + chart + "".join(rest)
    if traffic:
        body += "<h2>bytes handed out by size class</h2>\n" + bars(traffic[:20], "bytes handed out by size class")
    return html_page(f"tensorcore run {' '.join(figures.program)}", body)
