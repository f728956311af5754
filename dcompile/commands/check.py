"""`dcompile check`: what can be said of a strategy before anything is traced. Imports no torch."""

from __future__ import annotations

import typer

from dcompile.commands import console
from dcompile.commands.arguments import AsJson, Batch, Models, OptionalMaxLength, Set, Strategy, models, settings
from dcompile.diagnostic import CompileError


def check(
    strategy: Strategy,
    model: Models = [],  # noqa: B006
    max_length: OptionalMaxLength = None,
    batch: Batch = 1,
    set_: Set = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Check a strategy, and say what it guarantees: progress, exactness of the cache, losslessness, shapes, memory."""
    from dcompile import compiler

    try:
        checked = compiler.read(strategy, settings(set_))
        facts = compiler.all_facts(checked, given) if (given := models(model)) is not None else None
    except CompileError as e:
        if not as_json:
            raise
        console.print_json({"diagnostics": [console.diagnostic_object(d) for d in e.diagnostics]})
        raise typer.Exit(1) from None
    from dcompile.dsl import checker

    report = checker.report(checked, facts, max_length, batch)
    if as_json:
        console.print_json(report.json())
    else:
        console.out().print(console.coloured(str(report)))
    if any(d.severity == "error" for d in report.diagnostics):
        raise typer.Exit(1)
