"""The recorded cases: JSON files as values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Run:
    """What a published implementation did with one prompt. `order` holds for each answer position the number of the
    forward that wrote it last, from 1; empty where the trace does not tell. `steps`: a sampler's, with its draws."""

    prompt: tuple[int, ...]
    output: tuple[int, ...]
    calls: int
    order: tuple[int, ...] = ()
    steps: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Case:
    """One method with one set of parameters on one model; `filter` is the trained network that it needs beside it."""

    name: str
    method: str
    commit: str
    function: str
    model: str
    params: Mapping[str, Any]
    eos_ids: tuple[int, ...]
    runs: tuple[Run, ...]
    filter: str = ""


def read_cases(folder: Path) -> list[Case]:
    """All cases below a folder, by name."""
    files = sorted(folder.rglob("*.json"), key=lambda p: p.stem)
    return [case for path in files for case in (read_case(path), *lookups(path))]


def lookups(path: Path) -> list[Case]:
    """The greedy cases tell beside theirs how many forwards prompt lookup took, with drafts of so many tokens."""
    raw = json.loads(path.read_text(encoding="utf-8"))
    case, runs = read_case(path), [run for run in raw["runs"] if "prompt_lookup" in run]
    out = []
    for width in sorted({int(w) for run in runs for w in run["prompt_lookup"]}):
        told = [
            replace(_run(run), calls=run["prompt_lookup"][str(width)]["forwards"], order=())
            for run in runs
            if str(width) in run["prompt_lookup"]
        ]
        params = {**case.params, "prompt_lookup_num_tokens": width}
        name = f"{case.name}-lookup-{width}"
        out.append(replace(case, name=name, method="prompt-lookup", params=params, runs=tuple(told)))
    return out


def read_case(path: Path) -> Case:
    """One case file."""
    raw = json.loads(path.read_text(encoding="utf-8"))
    eos = raw.get("eos_token_id")
    return Case(
        name=raw["name"],
        method=raw["method"].split(" ")[0],
        commit=raw["source"].get("commit", ""),
        function=raw["source"].get("function", ""),
        model=raw["model"].split(" ")[0],
        params=raw["params"],
        eos_ids=() if eos is None else (eos,),
        runs=tuple(_run(run) for run in raw["runs"] if "output_ids" in run),
        filter=raw.get("filter") or "",
    )


def _run(raw: Mapping[str, Any]) -> Run:
    prompt, output = tuple(raw["prompt_ids"]), tuple(raw["output_ids"])
    if "forwards_greedy" in raw:
        return Run(prompt, output, raw["forwards_greedy"], tuple(range(1, len(output) + 1)))
    if "steps" in raw:
        return _denoised(prompt, output, raw["steps"])
    order = [0] * len(output)
    for number, forward in enumerate(raw.get("forwards", ()), start=1):
        written = (*forward.get("commit", ()), *forward.get("append", ()), *forward.get("fill", ()))
        for position, _ in written:
            if 0 <= position - len(prompt) < len(output):
                order[position - len(prompt)] = number
    return Run(prompt, output, raw.get("nfe", 0), tuple(order))


def _denoised(prompt: tuple[int, ...], output: tuple[int, ...], steps: Sequence[Mapping[str, Any]]) -> Run:
    """DiffusionGemma: a canvas is written behind its last step. The encoder's calls count, one for the prompt and each
    canvas; the published loop leaves out the last canvas's, which nothing reads."""
    order: list[int] = []
    size, calls = len(steps[0]["canvas_in"]), 1
    for number, step in enumerate(steps):
        calls += 1
        if number + 1 == len(steps) or steps[number + 1]["step"] > step["step"]:
            order += [calls] * size
            calls += 1
    return Run(prompt, output, calls, tuple(order), tuple(steps))
