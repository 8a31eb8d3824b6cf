"""What a benchmark found: rows of rounds per column, shown as tables, JSON or a picture.

Figures are seconds per operation, but for rows with a unit of their own.
"""

from __future__ import annotations

import datetime
import json
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tensorcore.cli._info import collect
from tensorcore.cli._tables import Sheet, seconds_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(slots=True)
class Row:
    """One operation: for each column the rounds' figures, and the page faults per operation."""

    label: str
    seconds: dict[str, list[float]] = field(default_factory=dict)
    faults: dict[str, list[float]] = field(default_factory=dict)
    note: str = ""
    target: float | None = None  # the least `Section.ratio` aimed at
    unit: str = "s"
    most: float | None = None  # the largest figure aimed at, in its unit

    def add(self, column: str, seconds: float, faults: float = 0.0) -> None:
        """A round's figures."""
        self.seconds.setdefault(column, []).append(seconds)
        self.faults.setdefault(column, []).append(faults)

    def median(self, column: str) -> float | None:
        """Of the rounds, or None where there are none."""
        values = self.seconds.get(column)
        return statistics.median(values) if values else None


@dataclass(slots=True)
class Section:
    """One table. ``ratio`` names two columns: how many times as long the first takes as the second."""

    name: str
    title: str
    columns: list[str]
    rows: list[Row] = field(default_factory=list)
    ratio: tuple[str, str] | None = None
    notes: list[str] = field(default_factory=list)
    is_series: bool = False  # the rows are one case at growing sizes: drawn as lines, else as points

    def row(self, label: str) -> Row:
        """The row with this label, made if it isn't there."""
        for row in self.rows:
            if row.label == label:
                return row
        self.rows.append(Row(label))
        return self.rows[-1]

    def ratio_of(self, row: Row) -> float | None:
        """First by second column of ``ratio``, medians."""
        if self.ratio is None:
            return None
        first, second = (row.median(column) for column in self.ratio)
        return first / second if first is not None and second else None


def to_sheet(section: Section) -> Sheet:
    """Medians in words, the ratio and what was aimed at."""
    targets = any(row.target is not None or row.most is not None for row in section.rows)
    head = ["", *section.columns]
    if section.ratio is not None:
        head.append(" / ".join(section.ratio))
    if targets:
        head.append("aim")
    sheet = Sheet(section.title, head, notes=list(section.notes))
    for row in section.rows:
        cells = [
            row.label,
            *("-" if (m := row.median(column)) is None else _figure_text(m, row.unit) for column in section.columns),
        ]
        if section.ratio is not None:
            ratio = section.ratio_of(row)
            cells.append("-" if ratio is None else f"{ratio:.2f}")
        if targets:
            cells.append(_aim_text(row))
        sheet.rows.append(cells)
    notes: dict[str, list[str]] = {}
    for row in section.rows:
        if row.note:
            notes.setdefault(row.note, []).append(row.label)
    sheet.notes += [f"{', '.join(labels)}: {note}" for note, labels in notes.items()]
    return sheet


def _figure_text(figure: float, unit: str) -> str:
    if unit == "s":
        return seconds_text(figure)
    return f"{figure:.2f}" if unit == "ratio" else f"{figure:.2f} {unit}"


def _aim_text(row: Row) -> str:
    if row.most is not None:
        return f"≤ {row.most:g}" if row.unit == "ratio" else f"≤ {row.most:g} {row.unit}"
    return "" if row.target is None else f"≥ {row.target:g}"


def to_json(sections: Sequence[Section], settings: dict[str, Any]) -> str:
    """Every figure with its spread, the machine and the date."""
    data = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": collect(),
        **settings,
        "unit": "s: seconds per operation; a row may have another",
        "sections": [
            {
                "name": section.name,
                "title": section.title,
                "columns": section.columns,
                "notes": section.notes,
                "rows": [_row_data(section, row) for row in section.rows],
            }
            for section in sections
        ],
    }
    return json.dumps(data, indent=1) + "\n"


def _row_data(section: Section, row: Row) -> dict[str, Any]:
    values = {
        column: {
            "median": statistics.median(times),
            "least": min(times),
            "most": max(times),
            "rounds": len(times),
            "faults": statistics.median(row.faults[column]),
        }
        for column, times in row.seconds.items()
    }
    aims = {"target": row.target, "most": row.most}
    return {"label": row.label, "unit": row.unit, "values": values, "ratio": section.ratio_of(row), **aims, "note": row.note}


def plot(sections: Sequence[Section], path: Path) -> None:
    """One panel per table of times: each row's, logarithmic, a colour per column. A path that ends in .svg makes an SVG.

    Raises ImportError where matplotlib is missing.
    """
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams.update(
        {"svg.fonttype": "none", "svg.hashsalt": "tensorcore"}
    )  # text stays text; the same input, the same file
    sections = [section for section in sections if all(row.unit == "s" for row in section.rows)]
    from matplotlib import pyplot

    longest = max(len(section.rows) for section in sections)
    figure, panels = pyplot.subplots(len(sections), 1, figsize=(max(8, 0.28 * longest), 5 * len(sections)), squeeze=False)
    for section, panel in zip(sections, panels[:, 0], strict=True):
        style = "-" if section.is_series else "none"
        for column in section.columns:
            points = [(position, m) for position, row in enumerate(section.rows) if (m := row.median(column)) is not None]
            panel.plot([x for x, _ in points], [y for _, y in points], marker="o", markersize=4, linestyle=style, label=column)
        panel.set(title=section.title, yscale="log", ylabel="seconds per operation")
        panel.set_xticks(range(len(section.rows)), [row.label for row in section.rows], rotation=90, fontsize=7)
        panel.grid(visible=True, axis="y", alpha=0.3)
        panel.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)
