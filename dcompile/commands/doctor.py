"""`dcompile doctor`: what is installed, which targets can be built and run, what the machine is."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from dcompile.commands import console
from dcompile.commands.arguments import AsJson


def doctor(
    measure: Annotated[bool, typer.Option("--measure", help="Measure what the machine can do; takes seconds.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show versions, targets and the machine, with what to install for what is missing."""
    from dcompile import doctor as facts

    found: dict[str, Any] = facts.report(measure)
    if as_json:
        console.print_json(found)
        return
    out = console.out()
    out.print(_table("machine", found["machine"]))
    if found["measured"] is not None:
        out.print(_table("measured", _measured(found["measured"])))
    out.print(_table("cache", _cache(found["cache"])))
    out.print(_table("packages", {k: v or "not installed" for k, v in found["packages"].items()}))
    out.print(_table("targets", {k: f"build: {v['build']}; run: {v['run']}" for k, v in found["targets"].items()}))


def _measured(found: dict[str, Any]) -> dict[str, Any]:
    def by_threads(rates: dict[int, float]) -> str:
        return ", ".join(f"{rate / 1e9:.1f} ({n} thread{'s' * (n > 1)})" for n, rate in rates.items()) or "not measured"

    return {
        "reading weights, GB/s": by_threads(found["read"]),
        "copying, GB/s": f"{found['copy'] / 1e9:.1f}",
        **{f"products in {kind}, GFLOP/s": by_threads(found[kind]) for kind in ("float32", "int4", "int8", "bfloat16")},
        "a node, microseconds": f"{found['node'] * 1e6:.2f}",
    }


def _cache(found: dict[str, Any]) -> dict[str, Any]:
    return {"folder": found["folder"], "holds": f"{found['entries']} entries, {found['bytes'] / 1e6:.0f} MB"}


def _table(title: str, rows: dict[str, Any]) -> Table:
    table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in rows.items():
        table.add_row(name, Text(str(value)))
    return table
