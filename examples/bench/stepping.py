"""One step of greedy decoding, driven by the host: TVM against ONNX Runtime."""

from __future__ import annotations

import argparse
from functools import partial

import builds
import report
from race import Run, agreement, median, race
from worker import Worker

OPTIONS = ("--loop", "step", "--no-sampling")
PROMPT = [504, 3575, 282, 4649, 314]
CONTEXTS = {"short": (256, 1, 5), "long": (1024, 180, 3)}  # slots, how often the prompt is repeated, and rounds
ENGINES = {"TVM step": "tvm", "ONNX Runtime step": "onnx"}


def tvm(args: argparse.Namespace) -> tuple[dict[str, float | None], str, list[Run]]:
    """A step of greedy decoding by TVM against the same step by ONNX Runtime, both in fp32 and driven by the host."""
    ratios: dict[str, float | None] = {}
    rows, runs, said = [["context", *(f"{name}, ms" for name in ENGINES), "ratio"]], [], []
    for kind, (slots, times, rounds) in CONTEXTS.items():
        found = raced(args, kind, slots, PROMPT * times, rounds)
        ours, theirs = (median(found, name, lambda r: r.step) for name in ENGINES)
        ratios["tvm_step_vs_onnx_step" + ("" if kind == "short" else f"_{kind}")] = ours / theirs
        words = f"{len(PROMPT) * times} tokens, {slots} slots"
        rows.append([words, f"{ours * 1e3:.1f}", f"{theirs * 1e3:.1f}", f"{ours / theirs:.2f}"])
        said.append("{} of {}".format(*agreement(found, *ENGINES)))
        runs += found
    return ratios, f"{report.markdown(rows)}\n\nSame tokens: {' and '.join(said)}.", runs


def raced(args: argparse.Namespace, kind: str, slots: int, prompt: list[int], rounds: int) -> list[Run]:
    """Both engines in turn at one context."""
    made = builds.at_once({
        name: partial(
            builds.artifact,
            args.folder / f"step-{target}-{slots}", "greedy", args.model, "-t", target, *OPTIONS, capacity=slots,
        )
        for name, target in ENGINES.items()
    })  # fmt: skip
    workers = [
        Worker(name, {"engine": "dcompile", "folder": str(b.folder), "threads": args.threads})
        for name, b in made.items()
    ]
    found = race(workers, kind, [prompt], 17, rounds)
    for worker in workers:
        worker.close()
    return found
