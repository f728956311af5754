"""`dcompile verify`: the same tokens as the oracle?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from dcompile.commands import console
from dcompile.commands.arguments import ArtifactPath, AsJson, Models, Template, holes, models
from dcompile.diagnostic import error


def verify(
    artifact: ArtifactPath,
    model: Models = [],  # noqa: B006
    prompts: Annotated[Path | None, typer.Option("--prompts", help="A prompt a line: text, or ids as [1, 2].")] = None,
    max_new_tokens: Annotated[int | None, typer.Option("--max-new-tokens", "-n", help="Length of the answers.")] = None,
    temperature: Annotated[float, typer.Option("--temperature", help="0 is greedy.")] = 0.0,
    seed: Annotated[int, typer.Option("--seed", help="Of the random draws.")] = 0,
    template: Template = None,
    as_json: AsJson = False,
) -> None:
    """Compare an artifact with the oracle, which runs the strategy on the model in plain eager torch.

    Exits with 1 if tokens or model calls differ where no near-tie (a gap under 1e-4) explains it.
    """
    from dcompile.verify import verify as outcomes_of

    given = read_prompts(prompts) if prompts is not None else ()
    found = []
    options = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed, "template": holes(template)}
    for outcome in outcomes_of(artifact, models(model), given, **options):
        found.append(outcome)
        if not as_json:
            console.out().print(f"prompt {len(found)}: {outcome}", markup=False)
    counts = {v: sum(o.verdict == v for o in found) for v in ("same", "near-tie", "different")}
    if as_json:
        console.print_json(counts | {"tokens": sum(o.tokens for o in found), "prompts": [str(o) for o in found]})
    else:
        console.out().print(_summary(counts, len(found)), markup=False)
    if counts["different"]:
        raise typer.Exit(1)


def _summary(counts: dict[str, int], prompts: int) -> str:
    if counts["same"] == prompts:
        return f"same tokens on {prompts} prompts"
    parts = [f"{n} {verdict}" for verdict, n in counts.items() if n]
    return f"{', '.join(parts)}, of {prompts} prompts"


def read_prompts(path: Path) -> Sequence[str | list[int]]:
    """The lines of a file; a line in brackets is a list of ids."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise error("unreadable-prompts", f"`{path}` cannot be read: {e}") from e
    found = [_prompt(line) for line in lines if line.strip()]
    if not found:
        raise error("unreadable-prompts", f"`{path}` holds no prompt", "write one a line")
    return found


def _prompt(line: str) -> str | list[int]:
    try:
        ids = json.loads(line)
    except ValueError:
        return line
    return ids if isinstance(ids, list) and all(type(i) is int for i in ids) else line
