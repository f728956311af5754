"""What each pass does for a strategy: operations before and after it, and milliseconds of a step with and without it.

    python examples/bench/passes.py greedy --model models/smollm2-135m-instruct.gguf
    python examples/bench/passes.py fast_dllm_dual --model examples/list_tasks/checkpoint

A strategy is built for `onnx`, loop inside, with all passes, and once more for each pass without it (`--without`). The
two artifacts answer the same prompt by turns on one thread. What counts is the processor's time of the quickest round:
other work on the machine adds little to it. Rows of a table in Markdown are printed. Both must give the same tokens.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

import dcompile
from dcompile import compiler
from dcompile.passes.pipeline import PIPELINE
from dcompile.session import Session, load


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("strategy")
    parser.add_argument("--model", required=True)
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--prompt", type=int, default=32, help="tokens")
    parser.add_argument("--answer", type=int, default=64, help="tokens")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("build/bench/passes"))
    args = parser.parse_args()
    with_all, steps = built(args, ())
    before = dict(zip((name for name, _ in steps[1:]), (nodes for _, nodes in steps), strict=False))
    after = dict(steps)
    print("| pass | operations before | after | ms a step with it | without it | without / with |")
    print("|---|---|---|---|---|---|")
    for name in dict.fromkeys(item.name for stage in PIPELINE for item in stage.passes):
        without, _ = built(args, (name,))
        fast, slow = compared(args, with_all, without)
        shutil.rmtree(without)
        counts = [(before[step], after[step]) for step in after if step.partition("{")[0].endswith(f"/{name}")]
        told = [" + ".join(f"{n:,}" for n in column) for column in zip(*counts, strict=True)]
        print(f"| {name} | {told[0]} | {told[1]} | {fast:.2f} | {slow:.2f} | {slow / fast:.2f} |", flush=True)
    shutil.rmtree(with_all)


def built(args: argparse.Namespace, without: tuple[str, ...]) -> tuple[Path, list[tuple[str, int]]]:
    """An artifact without these passes, and how many operations there were after each step, in order; a pass that runs
    twice counts twice."""
    steps: list[tuple[str, int]] = []

    def tell(step: compiler.Step) -> None:
        if step.nodes is not None:
            steps.append((f"{len(steps)}:{step.name}", step.nodes))

    out = args.folder / "-".join((args.strategy, *without))
    dcompile.build(
        args.strategy, args.model, out, "onnx", max_length=args.max_length, without=without, force=True,
        watch=compiler.Watch(tell),
    )  # fmt: skip
    return out, steps


def compared(args: argparse.Namespace, *artifacts: Path) -> list[float]:
    """Milliseconds of a call, in the quickest of some rounds, of artifacts that run by turns."""
    sessions = [load(artifact, 1) for artifact in artifacts]
    times: list[list[float]] = [[] for _ in sessions]
    answers = set()
    for _ in range(args.rounds + 1):
        for session, found in zip(sessions, times, strict=True):
            answers.add(step(args, session, found))
    assert len(answers) == 1, "a pass has changed the tokens"
    return [min(found[1:]) for found in times]


def step(args: argparse.Namespace, session: Session, found: list[float]) -> tuple[int, ...]:
    """Run once and note the time of a call."""
    prompt = list(range(3, 3 + args.prompt))
    began = time.process_time()
    result = session.generate(prompt, max_new_tokens=args.answer, eos_ids=[], temperature=0.0)
    found.append(1e3 * (time.process_time() - began) / result.model_calls)
    return result.output_ids


if __name__ == "__main__":
    main()
