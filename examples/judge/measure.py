"""What a judge brings, and what it costs: tokens a call of the large model, and how far answers go from its own.

    python examples/judge/measure.py build/speculative build/judge

The first artifact is of `speculative`, whose answers at temperature 0 are the large model's own; the others are
compared with it: how many answers are the same, how alike they are token by token (difflib's ratio), and the mean
logarithmic probability that the large model gives to their tokens.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from difflib import SequenceMatcher
from pathlib import Path

import dcompile
from dcompile.models import load_model

sys.path.insert(0, str(Path(__file__).parents[1] / "smollm2"))

from answers import MODEL
from reading import asked, heard


def alike(one: Sequence[int], other: Sequence[int]) -> float:
    """How much of two texts is the same tokens in the same order: 1 where all is."""
    return SequenceMatcher(None, one, other, autojunk=False).ratio()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("artifacts", type=Path, nargs="+")
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--problems", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=48)
    options = parser.parse_args()
    model = load_model(options.model)
    sessions = [dcompile.load(path, threads=1) for path in options.artifacts]
    for name, prompts in asked(model, options.problems).items():
        plain: list[tuple[int, ...]] = []
        for path, session in zip(options.artifacts, sessions, strict=True):
            found = [session.generate(prompt, max_new_tokens=options.tokens) for prompt in prompts]
            texts = [result.output_ids for result in found]
            plain = plain or texts
            tokens = sum(map(len, texts))
            turns = sum(
                len(result.accepted_per_call) for result in found
            )  # the calls that committed: the large model's
            same = sum(a == b for a, b in zip(texts, plain, strict=True))
            near = sum(alike(a, b) for a, b in zip(texts, plain, strict=True)) / len(texts)
            logs = sum(float(heard(model, p, list(t))[0].sum()) for p, t in zip(prompts, texts, strict=True))
            told = f"{tokens} tokens by {turns} calls, {tokens / turns:.2f} a call"
            told += f"; {same} of {len(texts)} answers the same, alike by {near:.2f}; {logs / tokens:.3f} a token"
            print(f"{path.name}, {name}: {told}", flush=True)


if __name__ == "__main__":
    main()
