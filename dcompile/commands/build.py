"""`dcompile build`: a strategy and a model into an artifact."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dcompile.commands import console
from dcompile.commands.arguments import (
    Activations,
    Batch,
    Loop,
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
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace the artifact that is there.")] = False,
) -> None:
    """Compile a strategy for a model into an artifact that runs without dcompile's compiler."""
    from dcompile import compiler
    from dcompile.commands.dump import dump_to

    watch = compiler.Watch(_tell, tuple(dump_to(dump)))
    artifact = compiler.build(
        strategy, models(model) or "", out, target, settings=settings(set_), max_length=max_length, batch=batch,
        loop=loop, rng=not no_sampling, without=without, limit=limit, quantize=quantize,
        activations=activations, force=force, watch=watch,
    )  # fmt: skip
    size = sum((artifact.folder / name).stat().st_size for name in artifact.manifest.files)
    graphs = len(artifact.manifest.graphs)
    console.say(f"{out}: {graphs} graph{'s' * (graphs > 1)}, {size / 1e6:.1f} MB")


def _tell(step: object) -> None:
    from dcompile.compiler import Step

    assert isinstance(step, Step)
    if step.note:
        console.say(f"{step.name}: {step.note}")
        return
    nodes = "" if step.nodes is None else f"{step.nodes:>7} nodes"
    console.say(f"{step.name:<36}{step.seconds:>8.2f} s{nodes}")
