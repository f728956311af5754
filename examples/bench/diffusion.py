"""Fast-dLLM on a diffusion model of SmolLM2's size: the artifact, and plain PyTorch loops."""

from __future__ import annotations

import argparse
from functools import partial

import between as rules
import builds
import numpy as np
import report
from planted import SIZES, planted
from race import Run, agreement, median, ratio
from worker import Worker

OURS, SLICED = "dcompile dual", "dcompile none"
EAGER, COMPILED, PUBLISHED = "PyTorch dual", "torch.compile dual", "PyTorch none, as published"


def diffusion(args: argparse.Namespace) -> tuple[dict[str, float | None], str, list[Run]]:
    """Fast-dLLM at SmolLM2's size: block 32, an answer of 256, thresholds that fire."""
    model = planted(args.folder / "planted")
    kinds = {OURS: "dual", SLICED: "none"}
    made = builds.at_once(
        {
            name: partial(builds.artifact, args.folder / f"diffusion-{kind}", f"fast_dllm_{kind}", model, capacity=320)
            for name, kind in kinds.items()
        }
    )
    prompt = np.random.default_rng(0).integers(10, SIZES["vocab_size"], 64).tolist()
    loop = {"engine": "diffusion-loop", "compiled": False}
    specs = {name: {"engine": "dcompile", "folder": str(built.folder)} for name, built in made.items()} | {
        EAGER: {**loop, "loop": "dual"},
        COMPILED: {**loop, "loop": "dual", "compiled": True},
        PUBLISHED: {**loop, "loop": "none"},
    }
    runs: list[Run] = []
    for names, rounds in (((OURS, EAGER, COMPILED), args.rounds), ((OURS, SLICED, PUBLISHED), 1)):
        workers = [Worker(name, {**specs[name], "threads": args.threads}) for name in names]
        kind = "same algorithm" if COMPILED in names else "whole gain"
        for worker in workers:
            worker.ask(prompt, 256 if worker.name == COMPILED else 8)
        runs += whole_answers(workers, kind, prompt, rounds)
        for worker in workers:
            worker.close()
    ratios = {
        "diffusion_vs_eager": ratio(runs, OURS, EAGER),
        "diffusion_vs_torch_compile": ratio(runs, OURS, COMPILED),
        "diffusion_vs_published_loop": ratio(runs, OURS, PUBLISHED),
    }
    rows = [["engine", "tok/s", "tokens a call", "same tokens"]]
    for name in specs:
        mine = [r for r in runs if r.engine == name]
        other = SLICED if name == PUBLISHED else OURS
        same = agreement(runs, name, other) if name not in (OURS, SLICED) else None
        calls = mine[0].calls or 1
        cells = [name, f"{median(runs, name, lambda r: r.speed):.1f}", f"{len(mine[0].tokens) / calls:.2f}"]
        rows.append([*cells, f"{same[0]} of {same[1]}, with {other}" if same else ""])
    return ratios, report.markdown(rows), runs


def whole_answers(workers: list[Worker], kind: str, prompt: list[int], rounds: int) -> list[Run]:
    """As `race`, without a first token: a diffusion model has none."""
    found = []
    for turn in range(rounds):
        for worker in workers:
            answer = worker.ask(prompt, 256)
            run = Run(worker.name, kind, turn, prompt, answer.tokens, answer.seconds, 0.0, answer.calls, answer.memory)
            found.append(run)
        print(
            f"{kind} {turn + 1}: " + "  ".join(f"{r.engine} {r.speed:.1f}" for r in found[-len(workers) :]), flush=True
        )
    return found


def between(args: argparse.Namespace) -> tuple[dict[str, float | None], str, list[Run]]:
    """The share of a step that a strategy's own rules take: of the slowest of between.py's."""
    settings = argparse.Namespace(folder=args.folder, prompt=64, answer=32, threads=args.threads, lines=False)
    rows, worst = [["strategy", "of a step, between two forwards"]], 0.0
    for name in rules.STRATEGIES:
        share = rules.measured(name, settings)
        rows.append([f"`{name}`", f"{share:.1%}"])
        worst = max(worst, share)
    return {"between_forwards_fraction": worst}, report.markdown(rows), []
