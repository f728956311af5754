"""`dcompile bench`: what strategies cost and lose on the questions of a suite."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from dcompile.commands import console
from dcompile.commands.arguments import AsJson, OptionalModel, Target, Threads, settings


def bench(
    strategies: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="STRATEGY[:NAME=VALUE,VALUE...]...", help="What to measure; several values make a line."
        ),
    ] = None,
    suite: Annotated[str, typer.Option("--suite", help="`lists`, or a Python file with a suite.")] = "lists",
    model: OptionalModel = None,
    target: Target = "onnx",
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Questions a task.")] = 50,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A folder for tables and plots.")] = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Ask artifacts of strategies the questions of a suite: exact match, tokens a model call, seconds."""
    from dcompile import compiler
    from dcompile.bench.measure import measure
    from dcompile.bench.points import Point, points
    from dcompile.bench.report import Report, table
    from dcompile.bench.suite import open_suite
    from dcompile.doctor import machine

    asked = open_suite(suite, count)
    chosen = [point for text in strategies or asked.strategies for point in points(text)]
    if out is not None:
        _needs_matplotlib()

    def build(point: Point, folder: Path) -> None:
        given = settings([f"{name}={value}" for name, value in point.settings])
        compiler.build(point.strategy, model or asked.model, folder, target, settings=given, max_length=asked.room)

    scores = []
    for point in chosen:
        scores.append((point, measure(asked, point, build, threads)))
        if not as_json:
            head, row = table(scores[-1:])
            typer.echo("  ".join(f"{h} {c}" for h, c in zip(head, row, strict=True) if c))  # at once, also to a file
    here = machine()
    where = f"{here['system']}, {here['cores']} cores"
    command = shlex.join(["dcompile", *sys.argv[1:]])
    report = Report(f"The suite `{suite}`: accuracy against tokens a call", command, where, scores)
    if as_json:
        console.print_json(report.plain())
    if out is not None:
        report.write(out)


def _needs_matplotlib() -> None:
    from importlib.util import find_spec

    from dcompile.diagnostic import error

    if find_spec("matplotlib") is None:
        raise error("missing-package", "the plots need matplotlib", "pip install 'dcompile[bench]'")
