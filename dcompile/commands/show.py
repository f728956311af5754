"""`dcompile show`: the text form after any stage of a build."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from dcompile.commands.arguments import (
    Batch,
    Loop,
    Models,
    NoSampling,
    OptionalMaxLength,
    Set,
    Strategy,
    Target,
    Without,
    models,
    settings,
)
from dcompile.diagnostic import error, suggest

if TYPE_CHECKING:
    from dcompile.program import Program

Stage = Annotated[
    str, typer.Option("--stage", "-s", help="`strategy`, `program` (as lowered), the name of a pass, or `final`.")
]


def show(
    strategy: Strategy,
    model: Models = [],  # noqa: B006
    stage: Stage = "strategy",
    target: Target = "onnx",
    set_: Set = [],  # noqa: B006
    max_length: OptionalMaxLength = None,
    batch: Batch = 1,
    loop: Loop = "inside",
    without: Without = [],  # noqa: B006
    no_sampling: NoSampling = False,
) -> None:
    """Print the text form of a strategy, or of its program after a stage (these need --model)."""
    from dcompile import compiler, outline

    checked = compiler.read(strategy, settings(set_))
    if stage == "strategy":
        sys.stdout.write(outline.text(checked))
        return
    if (given := models(model)) is None:
        raise typer.BadParameter(f"the stage `{stage}` needs a model", param_hint="--model")
    order = compiler.Order(target, max_length, batch, loop, not no_sampling, tuple(without))
    backend = compiler.backend_for(order)
    forms = Forms(stage)
    program = compiler.compile(
        checked, compiler.load_all(checked, given), order, backend, compiler.Watch(observers=(forms.note,))
    )
    sys.stdout.write(forms.chosen(program))


class Forms:
    """The text of the program at the stage that was asked for, and the names of the stages there were."""

    def __init__(self, stage: str) -> None:
        self.stage = {"program": "lower"}.get(stage, stage)
        self.names: list[str] = []
        self.found: str | None = None

    def note(self, stage: str, name: str, program: Program, seconds: float) -> None:
        """An observer of the build."""
        from dcompile.printing import text

        plain = name.partition("{")[0]
        self.names += [stage, plain] if plain else [stage]
        if self.stage in (stage, plain):
            self.found = text(program)

    def chosen(self, program: Program) -> str:
        """The text asked for; the last one where a stage has several passes."""
        from dcompile.printing import text

        if self.stage == "final":
            return text(program)
        if self.found is None:
            known = ["strategy", "program", "final", *(n for n in self.names if n != "lower")]
            raise error("unknown-stage", f"there is no stage `{self.stage}`", suggest(self.stage, known, "stages"))
        return self.found
