"""`dcompile tune`: how wide a strategy should draft on this machine, or that it should not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dcompile.commands import console
from dcompile.commands.arguments import (
    Activations,
    AsJson,
    Loop,
    Models,
    OptionalMaxLength,
    Quantize,
    Strategy,
    Target,
    Threads,
    models,
)
from dcompile.commands.verify import read_prompts
from dcompile.diagnostic import error

if TYPE_CHECKING:
    from dcompile.tuning.trials import Job
    from dcompile.tuning.tune import Report

SAY = "do not speculate"


def tune(
    strategy: Strategy,
    model: Models = [],  # noqa: B006
    target: Target = "onnx",
    prompts: Annotated[Path | None, typer.Option("--prompts", help="A prompt a line: text, or ids as [1, 2].")] = None,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", "-n", min=4, help="Length of the answers.")] = 64,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The strategy file to write; its tree beside.")
    ] = None,
    chat: Annotated[bool, typer.Option("--chat", help="The prompts are what a user says to a chat model.")] = False,
    quantize: Quantize = None,
    activations: Activations = "float32",
    loop: Loop = "inside",
    widest: Annotated[int, typer.Option("--widest", min=2, max=256, help="The most positions to verify.")] = 64,
    bound: Annotated[
        int | None, typer.Option("--bound", min=1, max=16, help="Only compare rules, up to k drafts.")
    ] = None,
    temperature: Annotated[float | None, typer.Option("--temperature", help="0 is greedy; of --bound, 1.")] = None,
    max_length: OptionalMaxLength = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Measure calls on 1 to 64 positions, record what is accepted, and choose the tree that is worth its cost."""
    from dcompile import compiler
    from dcompile.tuning import laws, trials
    from dcompile.tuning import tune as tuning

    given = models(model)
    if given is None:
        raise error("unreadable-model", "which model?", "`--model PATH`")
    asked = read_prompts(prompts) if prompts is not None else TEXTS
    heat = temperature if temperature is not None else 0.0 if bound is None else 1.0
    job = trials.Job(
        compiler.source(strategy), given, target, asked, max_new_tokens, threads, max_length, heat, chat, quantize,
        activations, loop,
    )  # fmt: skip
    if bound is not None:
        _show_bounds(laws.bounds(job, bound), as_json)
        return
    if out is not None and out.exists():
        raise error("output-exists", f"`{out}` exists", "give another name")
    sizes = [n for n in (1, 2, 4, 8, 16, 32, 64, 128, 256) if n <= widest]
    report = tuning.tune(job, sizes, lambda line: None if as_json else console.out().print(line, markup=False))
    if report.worth and out is not None:
        _write(job, report, out)
    if as_json:
        console.print_json(_plain(report))
    else:
        console.out().print(_verdict(report), markup=False)


TEXTS = (
    "def quicksort(items):\n    ",
    "The history of the steam engine begins with",
    "List the planets of the solar system and one fact about each:",
)


def _verdict(report: Report) -> str:
    if report.choice is None:
        return f"{SAY}: no tree was predicted to be faster than plain decoding"
    assert report.speedup is not None
    rounds = ", ".join(f"{x:.2f}" for x in sorted(report.measured))
    said = f"{report.choice.tree.size - 1} drafted tokens, depth {report.choice.tree.depth}"
    told = f"predicted {report.choice.speedup:.2f} x, measured {report.speedup:.2f} x ({rounds})"
    return f"{said}: {told}" if report.worth else f"{SAY}: {said}, {told}"


def _write(job: Job, report: Report, out: Path) -> None:
    """The strategy, its tree, and the tree's picture."""
    from dcompile.tuning.picture import svg
    from dcompile.tuning.shaping import write

    assert report.choice is not None and report.speedup is not None
    choice = report.choice
    head = (
        f"# Tuned: {choice.tree.size - 1} drafted tokens, {choice.tokens:.2f} tokens a step; "
        f"predicted {choice.speedup:.2f} x plain decoding, measured {report.speedup:.2f} x.\n"
    )
    write(job.source, choice.tree, out, head)
    picture = svg(choice.tree, report.rates, f"{out.stem}: chance of each node in percent")
    out.with_suffix(".svg").write_text(picture, encoding="utf-8")


def _plain(report: Report) -> dict[str, object]:
    choice = report.choice
    return {
        "seconds": {str(n): s for n, s in report.seconds.items()},
        "rates": [list(row) for row in report.rates],
        "verdict": "speculate" if report.worth else SAY,
        "tree": None if choice is None else {"parents": list(choice.tree.parents), "ranks": list(choice.tree.ranks)},
        "tokens_per_step": None if choice is None else choice.tokens,
        "predicted": None if choice is None else choice.speedup,
        "measured": report.speedup,
        "rounds": list(report.measured),
    }


def _show_bounds(table: list[dict[str, float]], as_json: bool) -> None:
    if as_json:
        console.print_json({"acceptance": table})
        return
    wide = max(map(len, table[0]))
    lines = [f"{'children':{wide}}  " + "  ".join(f"{k:6}" for k in range(1, len(table) + 1))]
    lines += [f"{name:{wide}}  " + "  ".join(f"{row[name]:6.4f}" for row in table) for name in table[0]]
    console.out().print("\n".join(lines), markup=False, soft_wrap=True)
