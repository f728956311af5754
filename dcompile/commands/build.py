"""`dcompile build`: a strategy and a model into an artifact."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from dcompile import stopwatch
from dcompile.artifact import Artifact
from dcompile.commands import console
from dcompile.commands.arguments import (
    Activations,
    AsJson,
    Batch,
    Loop,
    Machine,
    Models,
    NoSampling,
    OptionalMaxLength,
    Quantize,
    Set,
    Strategy,
    Target,
    Without,
    models,
    settings,
)


def build(
    strategy: Strategy,
    model: Models,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write.")],
    target: Target = "onnx",
    set_: Set = [],  # noqa: B006
    max_length: OptionalMaxLength = None,
    batch: Batch = 1,
    loop: Loop = "inside",
    without: Without = [],  # noqa: B006
    limit: Annotated[int | None, typer.Option("--limit", min=0, help="Stop after so many passes.")] = None,
    no_sampling: NoSampling = False,
    dump: Annotated[Path | None, typer.Option("--dump", help="Write the program's text after each pass here.")] = None,
    quantize: Quantize = None,
    activations: Activations = "float32",
    machine: Machine = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace the artifact that is there.")] = False,
    profile: Annotated[bool, typer.Option("--profile", help="Show where time and memory went.")] = False,
    as_json: AsJson = False,
    keep: Annotated[
        str | None, typer.Option("--cache", metavar="DIR|off", help="Where builds keep what later ones need.")
    ] = None,
) -> None:
    """Compile a strategy for a model into an artifact that runs without dcompile's compiler."""
    with stopwatch.profiling() if profile else nullcontext() as spent:
        with stopwatch.part("imports"):
            from dcompile import compiler
            from dcompile.commands.dump import dump_to

        watch = compiler.Watch(_tell, tuple(dump_to(dump)))
        artifact = compiler.build(
            strategy, models(model) or "", out, target, settings=settings(set_), max_length=max_length, batch=batch,
            loop=loop, rng=not no_sampling, without=without, limit=limit, quantize=quantize,
            activations=activations, machine=machine, force=force, watch=watch, keep=keep,
        )  # fmt: skip
    _report(artifact, spent, as_json)


def _report(artifact: Artifact, spent: stopwatch.Part | None, as_json: bool) -> None:
    size = sum((artifact.folder / name).stat().st_size for name in artifact.manifest.files)
    graphs = [graph.name for graph in artifact.manifest.graphs]
    console.say(f"{artifact.folder}: {len(graphs)} graph{'s' * (len(graphs) > 1)}, {size / 1e6:.1f} MB")
    if as_json:
        made = {"folder": str(artifact.folder), "graphs": graphs, "bytes": size}
        console.print_json(made | ({} if spent is None else {"profile": spent.as_json()}))
    elif spent is not None:
        console.out().print(_table(spent))


def _table(spent: stopwatch.Part) -> Table:
    table = Table(title="where the build went", title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("part", no_wrap=True)
    for column in ("seconds", "%", "of all processors", "most memory, MB"):
        table.add_column(column, justify="right")
    for name, part, seconds in stopwatch.lines(spent):
        cpu = "" if part is None else f"{part.cpu:.2f}"
        peak = "" if part is None or part.peak is None else f"{part.peak / 1e6:.0f}"
        table.add_row(name, f"{seconds:.2f}", f"{100 * seconds / spent.seconds:.0f}", cpu, peak)
    return table


def _tell(step: object) -> None:
    from dcompile.compiler import Step

    assert isinstance(step, Step)
    if step.note:
        console.say(f"{step.name}: {step.note}")
        return
    nodes = "" if step.nodes is None else f"{step.nodes:>7} nodes"
    console.say(f"{step.name:<36}{step.seconds:>8.2f} s{nodes}")
