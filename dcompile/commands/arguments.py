"""Arguments that several commands share, and how their texts are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from dcompile.diagnostic import error

Value = bool | int | float | str | tuple[int, ...]

Strategy = Annotated[str, typer.Argument(help="A strategy file, or the name of one of the standard library.")]
ArtifactPath = Annotated[Path, typer.Argument(metavar="ARTIFACT", help="A folder that `dcompile build` wrote.")]
Set = Annotated[list[str], typer.Option("--set", metavar="NAME=VALUE", help="Set a parameter of the strategy.")]
Models = Annotated[
    list[str],
    typer.Option(
        "--model", "-m", metavar="[NAME=]PATH",
        help="A Hugging Face checkpoint folder or a GGUF file; NAME where the strategy names several models.",
    ),
]  # fmt: skip
OptionalModel = Annotated[
    str | None, typer.Option("--model", "-m", help="A Hugging Face checkpoint folder or a GGUF file.")
]
Target = Annotated[str, typer.Option("--target", "-t", help="What runs the artifact: onnx, cpu, cuda, tvm or eager.")]
OptionalMaxLength = Annotated[
    int | None, typer.Option("--max-length", min=1, help="Room for prompt and answer, in tokens.")
]
Batch = Annotated[int, typer.Option("--batch", min=1, help="Prompts that are answered at the same time.")]
Loop = Annotated[str, typer.Option("--loop", help="Where the loop is cut: inside, block or step.")]
Without = Annotated[list[str], typer.Option("--without", metavar="PASS", help="Leave out a pass.")]
NoSampling = Annotated[bool, typer.Option("--no-sampling", help="Leave out the random generator (greedy only).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Template = Annotated[
    str | None,
    typer.Option("--template", metavar="7,_,8", help="What stands in the answer: ids, with `_` for holes, or a text."),
]
Quantize = Annotated[
    str | None, typer.Option("--quantize", help="Matrices in blocks: int4, int4-symmetric or int8; or bfloat16.")
]
Activations = Annotated[
    str, typer.Option("--activations", help="What quantised matrices are multiplied with: float32 or int8.")
]
Machine = Annotated[
    str | None,
    typer.Option(
        "--machine", metavar="TRIPLE[:CPU]|c",
        help="What tvm compiles for: aarch64-linux-gnu, x86_64-linux-gnu:x86-64-v3, c for C source; else this machine.",
    ),
]  # fmt: skip
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Threads of the runtime.")]


def settings(items: Sequence[str]) -> dict[str, Value]:
    """`name=value` texts as parameters."""
    made: dict[str, Value] = {}
    for item in items:
        name, equals, text = item.partition("=")
        if not equals or not name.strip().isidentifier():
            raise typer.BadParameter(f"`{item}` is not NAME=VALUE", param_hint="--set")
        made[name.strip()] = value(text.strip())
    return made


def value(text: str) -> Value:
    """A truth value, an integer, a number, integers with commas between, or else the text."""
    if text in ("true", "false"):
        return text == "true"
    if "," in text:
        return ids(text)
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def ids(text: str) -> tuple[int, ...]:
    """Token ids, as in `1,2,3`."""
    try:
        return tuple(int(part) for part in text.replace(",", " ").split())
    except ValueError:
        raise error("not-a-token-id", f"`{text}` is not a list of token ids", "write them as in 1,2,3") from None


def holes(text: str | None) -> str | tuple[int | None, ...] | None:
    """A template: token ids and `_` for holes, as in `1,_,_,2`, or any other text as it stands."""
    parts = (text or "").replace(",", " ").split()
    if not parts or not all(p == "_" or p.isdecimal() for p in parts):
        return text
    return tuple(None if p == "_" else int(p) for p in parts)


def models(given: Sequence[str]) -> str | dict[str, str | Path] | None:
    """`PATH`, or `NAME=PATH` for each model of a strategy; None where nothing is given."""
    named: dict[str, str | Path] = {}
    for text in given:
        name, equals, place = text.partition("=")
        if len(given) == 1 and (not equals or not name.isidentifier()):
            return text
        if not equals or name in named:
            raise error(
                "unreadable-model", f"--model {text} does not say which model it is", "`--model NAME=PATH`, once each"
            )
        named[name] = place
    return named or None
