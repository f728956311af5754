"""One step of greedy decoding, driven by the host: TVM against ONNX Runtime."""

from __future__ import annotations

import argparse

import builds
import report
from race import Run, agreement, median, race
from worker import Worker

OPTIONS = ("--loop", "step", "--no-sampling")
PROMPT = [504, 3575, 282, 4649, 314]


def tvm(args: argparse.Namespace) -> tuple[dict[str, float | None], str, list[Run]]:
    """A step of greedy decoding by TVM against the same step by ONNX Runtime, both in fp32 and driven by the host."""
    names = {"TVM step": "tvm", "ONNX Runtime step": "onnx"}
    made = {
        name: builds.artifact(
            args.folder / f"step-{target}", "greedy", args.model, "-t", target, *OPTIONS, capacity=256
        )
        for name, target in names.items()
    }
    workers = [
        Worker(name, {"engine": "dcompile", "folder": str(b.folder), "threads": args.threads})
        for name, b in made.items()
    ]
    runs = race(workers, "code", [PROMPT], 9, 3)
    for worker in workers:
        worker.close()
    ours, theirs = (median(runs, name, lambda r: r.step) for name in names)
    same = agreement(runs, "TVM step", "ONNX Runtime step")
    rows = [["engine", "ms a step"], ["TVM step", f"{ours * 1e3:.1f}"], ["ONNX Runtime step", f"{theirs * 1e3:.1f}"]]
    return (
        {"tvm_step_vs_onnx_step": ours / theirs},
        f"{report.markdown(rows)}\n\nSame tokens: {same[0]} of {same[1]}.",
        runs,
    )
