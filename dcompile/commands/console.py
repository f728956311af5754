"""How the commands speak: results to standard output, everything else to standard error, colour only on a terminal."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from dcompile.diagnostic import CompileError, Diagnostic, render

STYLES = {"error": "bold red", "warning": "bold yellow", "note": "bold cyan"}


def err() -> Console:
    """Standard error; made anew, so that a changed sys.stderr or NO_COLOR is seen."""
    return Console(stderr=True, soft_wrap=True, highlight=False)


def out() -> Console:
    """Standard output."""
    return Console(soft_wrap=True, highlight=False)


def say(text: str) -> None:
    """A line of progress."""
    err().print(Text(text))


def problem(text: str) -> None:
    """A message about what went wrong; its first words get a colour."""
    err().print(coloured(text))


def show_diagnostics(e: CompileError) -> None:
    """Every diagnostic, with a blank line between two."""
    for n, diagnostic in enumerate(e.diagnostics):
        problem(("\n" if n else "") + render(diagnostic))


def coloured(text: str) -> Text:
    """A rendered diagnostic with its kind, carets and help in colour."""
    styled = Text(text)
    for kind, style in STYLES.items():
        styled.highlight_regex(rf"(?m)^{kind}\[[a-z-]+\]", style)
    styled.highlight_regex(r"(?m)^ *\| +\^+.*$", "red")
    styled.highlight_regex(r"(?m)^ +--> ", "blue")
    styled.highlight_regex(r"(?m)^ += help:", "cyan")
    return styled


def diagnostic_object(diagnostic: Diagnostic) -> dict[str, Any]:
    """A diagnostic for tools."""
    made: dict[str, Any] = {
        "severity": diagnostic.severity,
        "code": diagnostic.code,
        "title": diagnostic.title,
        "help": diagnostic.help,
    }
    if diagnostic.primary is not None and (source := diagnostic.primary.span.source) is not None:
        line, column = source.place(diagnostic.primary.span.start)
        made |= {"file": source.name, "line": line, "column": column, "label": diagnostic.primary.text}
    return made


def print_json(value: Any) -> None:
    """One JSON value on a line of its own."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()
