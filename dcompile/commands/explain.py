"""`dcompile explain`: where the time of a step goes, beside what the machine allows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from dcompile.commands import console
from dcompile.commands.arguments import ArtifactPath, AsJson, Threads, ids

if TYPE_CHECKING:
    from dcompile.explain.report import Explained
    from dcompile.machine import Machine

PROMPT = "def fibonacci(n):"


def explain(
    artifact: ArtifactPath,
    prompt: Annotated[str | None, typer.Option("--prompt", help="The text to continue.")] = None,
    prompt_ids: Annotated[str | None, typer.Option("--prompt-ids", metavar="1,2,3", help="The prompt as ids.")] = None,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", "-n", min=1, help="Length of the answer.")] = 64,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Run an artifact under the runtime's profiler and compare each part of a step with what the machine allows."""
    from dcompile import machine
    from dcompile.artifact import open_artifact
    from dcompile.explain import report

    opened = open_artifact(artifact)
    report.profiler(opened)  # refuses before anything is measured
    able = machine.known()
    if able is None:
        console.say("measuring the machine once (dcompile doctor --measure does it again)")
        able = machine.measure()
    given = ids(prompt_ids) if prompt_ids is not None else prompt if prompt is not None else _default(opened.folder)
    found = report.explain(opened, able, given, max_new_tokens, threads or os.cpu_count() or 1)
    if as_json:
        console.print_json(found.as_json(able))
        return
    console.out().print(_table(found))
    for line in _lines(found, able):
        console.out().print(line)


def _default(folder: Path) -> str | tuple[int, ...]:
    from dcompile.text import TOKENIZER

    return PROMPT if (folder / TOKENIZER).is_file() else tuple(range(3, 19))


def _table(found: Explained) -> Table:
    table = Table(title="a step, per call of the model", title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("part", no_wrap=True)
    for column in ("ms", "possible", "of it", "by", "kernels", "MB", "GFLOP"):
        table.add_column(column, justify="right")
    for s in found.shares:
        table.add_row(
            s.name, f"{1e3 * s.measured:.2f}", f"{1e3 * s.predicted:.2f}", f"{100 * s.predicted / s.measured:.0f} %",
            s.bound, f"{s.kernels:.0f}", f"{s.bytes / 1e6:.1f}", f"{s.operations / 1e9:.3f}",
        )  # fmt: skip
    table.add_row("all kernels", f"{1e3 * found.step:.2f}", f"{1e3 * found.predicted:.2f}")
    copies: tuple[str, ...] = ()
    if found.copied is not None and found.copying is not None:
        copies = f"{1e3 * found.copying:.2f}", "", "copies", "", f"{found.copied / 1e6:.1f}"
    table.add_row("between them", f"{1e3 * found.between:.2f}", *copies)
    return table


def _lines(found: Explained, able: Machine) -> list[str]:
    said = found.as_json(able)
    return [
        f"{said['tokens']} tokens in {said['calls']} calls, {said['seconds']:.2f} s without the profiler: "
        f"{said['tokens_per_second']:.1f} tokens/s, {said['bytes_per_second']:.0f} bytes of text/s; "
        f"kernels that stored the prompt: {said['prefill_ms']:.0f} ms",
        f"on {said['machine']}",
    ]
