"""The results as a table, a bar plot, and build/bench.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from race import Run, agreement, median, ratio
from texts import repeated

KINDS = ("code", "chat", "long")
PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
BEGIN, END = "<!-- bench -->", "<!-- /bench -->"


def speeds(runs: Sequence[Run], reference: Mapping[str, str]) -> list[list[str]]:
    """A row an engine: tokens a second by kind of prompt, milliseconds, calls, memory, sameness of tokens."""
    head = ["engine", *(f"{k}, tok/s" for k in KINDS), "first token, ms (code)", "ms a token (code)", "tokens a call"]
    rows = [[*head, "memory, MB", "same tokens"]]
    for name in dict.fromkeys(r.engine for r in runs):
        mine = [r for r in runs if r.engine == name]
        has = {r.kind for r in mine}
        cells = [name, *(f"{median(runs, name, lambda r: r.speed, k):.1f}" if k in has else "" for k in KINDS)]
        cells += [f"{median(runs, name, lambda r: r.first, 'code') * 1e3:.0f}"]
        cells += [f"{median(runs, name, lambda r: r.step, 'code') * 1e3:.1f}"]
        cells += [f"{sum(len(r.tokens) for r in mine) / sum(r.calls or len(r.tokens) for r in mine):.2f}"]
        same = agreement(runs, name, reference[name]) if name in reference else None
        cells += [f"{max(r.memory for r in mine) / 1e6:.0f}", f"{same[0]} of {same[1]}" if same else ""]
        rows.append(cells)
    return rows


def pairs(runs: Sequence[Run], raced: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """A row for each engine and one that it is `raced` against: how much faster it is, of all rounds and by kind."""
    rows = [["end to end, median of rounds", "all", *KINDS]]
    for ours, others in raced.items():
        for theirs in others:
            found = [ratio(runs, ours, theirs, kind) for kind in (None, *KINDS)]
            if found[0] is not None:
                rows.append([f"{ours}, to {theirs}", *("" if x is None else f"{x:.2f}" for x in found)])
    return rows


def repeats(runs: Sequence[Run], engine: str) -> dict[str, float]:
    """By kind of prompt, the share of the answers that merely repeats what stood before."""
    return {
        kind: sum(shares) / len(shares)
        for kind in KINDS
        if (shares := [repeated(r.prompt, r.tokens) for r in runs if r.engine == engine and r.kind == kind])
    }


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table, numbers to the right."""
    head, *rest = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---", *["---:"] * (len(head) - 1)], *rest))


def draw(runs: Sequence[Run], path: Path) -> None:
    """Bars: tokens a second of each engine, a panel for each kind of prompt."""
    from matplotlib.figure import Figure

    kinds = [k for k in KINDS if any(r.kind == k for r in runs)]
    names = list(dict.fromkeys(r.engine for r in runs))[::-1]
    figure = Figure(figsize=(10, 0.32 * len(names) + 1.2), layout="constrained")
    for panel, kind in zip(figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0], kinds, strict=True):
        for at, name in enumerate(names):
            if not any(r.engine == name and r.kind == kind for r in runs):
                continue
            speed = median(runs, name, lambda r: r.speed, kind)
            panel.barh(at, speed, color="C0" if name.startswith("dcompile") else "0.7")
            panel.text(speed, at, f" {speed:.0f}", va="center", fontsize=8)
        panel.set(title=kind, xlabel="tokens a second")
        panel.set_yticks(range(len(names)), names)
        panel.margins(x=0.15)
        panel.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def write_json(path: Path, results: Mapping[str, Any]) -> None:
    """All of it, as plain values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def replace_part(page: Path, text: str) -> None:
    """Put the text between the two marks of a page."""
    old = page.read_text(encoding="utf-8")
    before, _, rest = old.partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")
