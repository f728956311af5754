"""Train a judge (Bachmann et al. 2025, "Judge Decoding"): which drafted tokens may stay though the model would have
written others.

The published judge learns from tokens that people marked as right or wrong. Here none are asked: a small model drafts
along the large one's own answers, and a token that differs is right where the large model, writing on behind it, comes
back to what it had said (`forks.py`). Logistic regression on the large model's hidden state at that token, as
published. Tokens that do not differ are left out: the strategy takes them without asking. A fifth of the answers is
kept to report on.

    python examples/smollm2/shorten.py                  # the small model: build/smollm2-short
    python examples/smollm2/forks.py                    # build/forks.safetensors
    python examples/judge/train.py                      # writes examples/judge/judge.safetensors
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "smollm2"))

import fitting
import forks

HERE = Path(__file__).parent
SEED = 7


def judged(places: forks.Places) -> Tensor:
    """bool [M]: the places at which the judge is asked."""
    return (places.fate == forks.BACK) | (places.fate == forks.APART)


def verdicts(score: Tensor, right: Tensor, threshold: float) -> tuple[float, float]:
    """The share of tokens that are accepted, and of these the share that is right."""
    accepted = score > threshold
    return float(accepted.float().mean()), float(right[accepted].float().mean())


def report(score: Tensor, chance: Tensor, right: Tensor) -> None:
    """The judge against the model's own probability of the token."""
    print(f"kept aside: {len(right)} tokens that differ, {right.float().mean():.1%} right")
    print(f"in order: judge {fitting.ordered(score, right):.3f}, probability {fitting.ordered(chance, right):.3f}")
    for threshold in (0.3, 0.4, 0.5, 0.6, 0.7):
        share, sure = verdicts(score, right, threshold)
        print(f"above {threshold}: accepts {share:.1%}, of which {sure:.1%} right")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--forks", type=Path, default=forks.FORKS)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--decay", type=float, default=1.0)
    parser.add_argument("-o", type=Path, default=HERE / "judge.safetensors")
    options = parser.parse_args()
    torch.manual_seed(SEED)
    places = forks.load(options.forks)
    aside = fitting.apart(places.answer)
    learned, kept = judged(places) & ~aside, judged(places) & aside
    right = places.fate == forks.BACK
    print(f"{int(learned.sum())} tokens that differ, {right[learned].float().mean():.1%} right")
    layers = fitting.fit(places.large[learned], right[learned], (), options.epochs, options.decay)
    fitting.save(layers, options.o)
    report(fitting.chances(fitting.load(options.o), places.large[kept]), places.chance[kept], right[kept])
    print(f"wrote {options.o}")


if __name__ == "__main__":
    main()
