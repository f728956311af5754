"""What a user got wrong, as a value: built anywhere, rendered only at the edge."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dcompile.source import Span


@dataclass(frozen=True)
class Label:
    """A place in the text and a few words about it."""

    span: Span
    text: str = ""


@dataclass(frozen=True)
class Diagnostic:
    """One mistake. `code` is kebab-case and names what is wrong; each code has a section in docs/errors.md."""

    code: str
    title: str
    primary: Label | None = None
    secondary: tuple[Label, ...] = ()
    help: str | None = None
    severity: str = "error"

    def __str__(self) -> str:
        return render(self)


class CompileError(Exception):
    """The user's input is wrong; carries every diagnostic found."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__("\n\n".join(render(d) for d in self.diagnostics))


def error(code: str, title: str, help: str | None = None) -> CompileError:
    """A mistake with no place in a strategy text (a path, an option, a prompt)."""
    return CompileError([Diagnostic(code, title, help=help)])


def suggest(name: str, known: Iterable[str], what: str = "known names") -> str:
    """`did you mean` the nearest known name, or else all of them."""
    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"did you mean `{close[0]}`?"
    return f"{what}: {', '.join(f'`{n}`' for n in names)}" if names else f"there are no {what}"


def render(diagnostic: Diagnostic) -> str:
    """The text form: title, then each labelled line with carets (primary) or dashes (secondary), then the help."""
    out = [f"{diagnostic.severity}[{diagnostic.code}]: {diagnostic.title}"]
    primary = diagnostic.primary
    if primary is not None and primary.span.source is not None:
        out += _excerpt(primary, diagnostic.secondary)
    if diagnostic.help:
        out.append(f"  = help: {diagnostic.help}")
    return "\n".join(out)


def _excerpt(primary: Label, secondary: tuple[Label, ...]) -> list[str]:
    source = primary.span.source
    assert source is not None
    line, column = source.place(primary.span.start)
    marks: dict[int, list[tuple[int, Label, str]]] = {}
    for label, mark in [(primary, "^")] + [(s, "-") for s in secondary]:
        row, col = source.place(label.span.start)
        marks.setdefault(row, []).append((col, label, mark))
    gutter = len(str(max(marks)))
    out = [f"{' ' * gutter}--> {source.name}:{line}:{column}", f"{' ' * gutter} |"]
    for row in sorted(marks):
        text = source.line(row).replace("\t", " ")
        out.append(f"{row:>{gutter}} | {text}")
        for col, label, mark in sorted(marks[row], key=lambda m: m[0], reverse=True):
            width = max(1, min(label.span.end - label.span.start, max(1, len(text) - col + 1)))
            out.append(f"{' ' * gutter} | {' ' * (col - 1)}{mark * width} {label.text}".rstrip())
    out.append(f"{' ' * gutter} |")
    return out
