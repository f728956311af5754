"""What `bench` leaves in a folder: results.json, README.md with the tables, trade-off.png and trade-off.html."""

from __future__ import annotations

import html
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING

from dcompile.bench.measure import Score
from dcompile.bench.points import Point

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 3  # of panels
Scores = Mapping[str, Score]  # by task


@dataclass(frozen=True)
class Report:
    """Scores of every point, and what the reader must know of the run: the command and the machine."""

    title: str
    command: str
    machine: str
    scores: Sequence[tuple[Point, Scores]]

    def write(self, folder: Path) -> None:
        """Write the four files."""
        folder.mkdir(parents=True, exist_ok=True)
        figure = draw(self.scores)
        figure.savefig(folder / "trade-off.png", dpi=110, metadata={"Software": None})
        (folder / "README.md").write_text(self.markdown(), encoding="utf-8")
        (folder / "trade-off.html").write_text(self.page(figure), encoding="utf-8")
        (folder / "results.json").write_text(json.dumps(self.plain(), indent=1) + "\n", encoding="utf-8")

    def plain(self) -> dict[str, object]:
        """Plain values, for JSON."""
        rows = [
            {"line": p.line, "at": p.at, "strategy": p.strategy, "settings": dict(p.settings)}
            | {"tasks": {task: asdict(score) for task, score in scores.items()}}
            for p, scores in self.scores
        ]
        return {"command": self.command, "machine": self.machine, "points": rows}

    def markdown(self) -> str:
        """The table, with a picture above it."""
        lines = [f"# {self.title}", "", f"`{self.command}` on {self.machine}.", "", "![](trade-off.png)", ""]
        lines += ["Exact match in per cent by task; tokens a model call and seconds over all tasks.", ""]
        head, *rows = table(self.scores)
        lines += [_row(head), _row(["---", "---", *["---:"] * (len(head) - 2)]), *map(_row, rows)]
        return "\n".join(lines) + "\n"

    def page(self, figure: Figure) -> str:
        """The same as one page of HTML that needs nothing else."""
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None})
        picture = drawn.getvalue()
        head, *rows = table(self.scores)
        cells = "".join(_html_row(row, "td") for row in rows)
        style = (
            "body{font-family:sans-serif;max-width:76rem;margin:2rem auto}td,th{padding:.1rem .6rem;text-align:right}"
            "td:nth-child(-n+2),th:nth-child(-n+2){text-align:left}svg{width:100%;height:auto}"
        )
        title, run = html.escape(self.title), f"<code>{html.escape(self.command)}</code> on {html.escape(self.machine)}"
        return (
            f"<!doctype html><meta charset=utf-8><title>{title}</title><style>{style}</style>\n"
            f"<h1>{title}</h1><p>{run}.\n"
            f"{picture[picture.index('<svg') :]}<table>{_html_row(head, 'th')}{cells}</table>\n"
        )


def table(scores: Sequence[tuple[Point, Scores]]) -> Iterator[list[str]]:
    """A head and a row a point, as texts."""
    yield ["strategy", "at", *scores[0][1], "all", "tokens a call", "seconds"]
    for point, of in scores:
        whole = reduce(add, of.values())
        marks = [f"{s.accuracy:.0f}" for s in of.values()]
        yield [
            point.line,
            point.at,
            *marks,
            f"{whole.accuracy:.1f}",
            f"{whole.tokens_per_call:.2f}",
            f"{whole.seconds:.1f}",
        ]


def draw(scores: Sequence[tuple[Point, Scores]]) -> Figure:
    """Exact match against tokens a call: a panel a task, a line a strategy, a mark a point."""
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    rcParams["svg.hashsalt"] = "dcompile"  # the same picture for the same numbers
    tasks = list(scores[0][1])
    rows = -(-(len(tasks) + 1) // COLUMNS)
    figure = Figure(figsize=(11, 2.9 * rows), layout="constrained")
    panels = list(figure.subplots(rows, COLUMNS, squeeze=False).flat)
    lines = list(dict.fromkeys(p.line for p, _ in scores))
    most = max(s.tokens_per_call for _, of in scores for s in of.values())
    ticks = [2**n for n in range(int(most).bit_length())]
    for panel, task in zip(panels, tasks, strict=False):
        for n, line in enumerate(lines):
            of = sorted((s[task].tokens_per_call, s[task].accuracy) for p, s in scores if p.line == line)
            panel.plot(*zip(*of, strict=True), color=f"C{n % 10}", marker="osD^v<>Ph*"[n % 10], ms=4, lw=1, label=line)
        panel.set(
            title=task,
            xscale="log",
            xlim=(0.85, 1.2 * most),
            ylim=(-4, 104),
            xlabel="tokens a model call",
            ylabel="exact match, %",
        )
        panel.set_xticks(ticks, labels=[str(t) for t in ticks])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    for panel in panels[len(tasks) :]:
        panel.axis("off")
    handles, labels = panels[0].get_legend_handles_labels()
    panels[len(tasks)].legend(handles, labels, loc="center", frameon=False, fontsize="small")
    return figure


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _html_row(cells: Sequence[str], kind: str) -> str:
    return f"<tr>{''.join(f'<{kind}>{html.escape(cell)}' for cell in cells)}"
