"""Train a router for two models of one vocabulary (Fu et al. 2025, "R2R"): which tokens of the small one would lead the
text elsewhere.

By the published recipe: the large model's own answers, at each of their places what the small one would write, and
where that is another token, whether the large model's text behind it comes back (`forks.py`, in place of the published
judge, which is a larger model). The router learns to say yes where it does not, from the small model's hidden state
alone: two layers, binary cross-entropy. A fifth of the answers is kept to report on.

    python examples/smollm2/shorten.py                  # the small model: build/smollm2-short
    python examples/smollm2/forks.py                    # build/forks.safetensors
    python examples/router/train.py                     # writes examples/router/router.safetensors
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
SEED, WIDTH = 7, 64


def known(places: forks.Places) -> Tensor:
    """bool [M]: the places of which it is known whether the texts part."""
    return places.fate != forks.UNKNOWN


def limit(score: Tensor, share: float) -> float:
    """The limit that so large a share of the places lies above."""
    return float(score.sort(descending=True).values[round(share * len(score))])


def routed(score: Tensor, fate: Tensor, share: float) -> tuple[float, float]:
    """Where the large model writes that share of the tokens, those with the highest score: the share of all tokens that
    are its own, and the share that is routed of those that lead elsewhere."""
    chosen = score > limit(score, share)
    own = chosen | (fate == forks.SAME)
    return float(own.float().mean()), float(chosen[fate == forks.APART].float().mean())


def report(score: Tensor, entropy: Tensor, fate: Tensor) -> None:
    """The router against the entropy, as `r2r` goes by."""
    yes, same = fate == forks.APART, fate == forks.SAME
    print(f"kept aside: {len(fate)} places, {yes.float().mean():.1%} apart, {same.float().mean():.1%} the same")
    print(f"in order: router {fitting.ordered(score, yes):.3f}, entropy {fitting.ordered(entropy, yes):.3f}")
    for share in (0.1, 0.2, 0.3, 0.4):
        said = []
        for name, by in (("router", score), ("entropy", entropy)):
            own, caught = routed(by, fate, share)
            said.append(f"{name} > {limit(by, share):.3f}: {own:.1%} the large model's, {caught:.1%} of those routed")
        print(f"{share:.0%} routed: {'; '.join(said)}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--forks", type=Path, default=forks.FORKS)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--decay", type=float, default=0.3)
    parser.add_argument("-o", type=Path, default=HERE / "router.safetensors")
    options = parser.parse_args()
    torch.manual_seed(SEED)
    places = forks.load(options.forks)
    aside = fitting.apart(places.answer)
    learned, kept = known(places) & ~aside, known(places) & aside
    print(f"{int(learned.sum())} places; {forks.told(places)}")
    layers = fitting.fit(
        places.small[learned], places.fate[learned] == forks.APART, (WIDTH,), options.epochs, options.decay
    )
    fitting.save(layers, options.o)
    report(fitting.chances(fitting.load(options.o), places.small[kept]), places.entropy[kept], places.fate[kept])
    print(f"wrote {options.o}")


if __name__ == "__main__":
    main()
