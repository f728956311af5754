"""`dcompile doctor`: what is installed, which targets can be built and run, what the machine is."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from dcompile.commands import console
from dcompile.commands.arguments import AsJson


def doctor(as_json: AsJson = False) -> None:
    """Show versions, targets and the machine, with what to install for what is missing."""
    from dcompile import doctor as facts

    found: dict[str, Any] = facts.report()
    if as_json:
        console.print_json(found)
        return
    out = console.out()
    out.print(_table("machine", found["machine"]))
    out.print(_table("cache", _cache(found["cache"])))
    out.print(_table("packages", {k: v or "not installed" for k, v in found["packages"].items()}))
    out.print(_table("targets", {k: f"build: {v['build']}; run: {v['run']}" for k, v in found["targets"].items()}))


def _cache(found: dict[str, Any]) -> dict[str, Any]:
    return {"folder": found["folder"], "holds": f"{found['entries']} entries, {found['bytes'] / 1e6:.0f} MB"}


def _table(title: str, rows: dict[str, Any]) -> Table:
    table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in rows.items():
        table.add_row(name, Text(str(value)))
    return table
