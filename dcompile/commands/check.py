"""`dcompile check`: what can be said of a strategy before anything is traced. Imports no torch."""

from __future__ import annotations

from dcompile.commands import console
from dcompile.commands.arguments import AsJson, OptionalMaxLength, OptionalModel, Set, Strategy, settings
from dcompile.diagnostic import CompileError


def check(
    strategy: Strategy,
    model: OptionalModel = None,
    max_length: OptionalMaxLength = None,
    set_: Set = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Check a strategy, and say what it guarantees: progress, exactness of the cache, losslessness, shapes."""
    try:
        report = _report(strategy, model, max_length, settings(set_))
    except CompileError as e:
        if as_json:
            console.print_json({"ok": False, "diagnostics": [console.diagnostic_object(d) for d in e.diagnostics]})
            raise SystemExit(1) from None
        raise
    if as_json:
        console.print_json({"ok": True, **report.as_dict()})
    else:
        console.out().print(str(report), markup=False)
