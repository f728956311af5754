"""How much of a text the large model writes where a small one writes too, and how much of it is as if it wrote all.

    python examples/router/measure.py build/router build/entropy

Each artifact is of `r2r_router` or `r2r`. Of its answers: the share of tokens that was routed to the large model, and
the share that the large model, reading the answer, would have written itself.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import dcompile
from dcompile.models import load_model

sys.path.insert(0, str(Path(__file__).parents[1] / "smollm2"))

from answers import MODEL
from reading import asked, heard


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("artifacts", type=Path, nargs="+")
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--problems", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=48)
    options = parser.parse_args()
    model = load_model(options.model)
    for artifact in options.artifacts:
        session = dcompile.load(artifact, threads=1)
        for name, prompts in asked(model, options.problems).items():
            tokens, calls, own = 0, 0, 0
            for prompt in prompts:
                found = session.generate(prompt, max_new_tokens=options.tokens)
                tokens, calls = tokens + len(found.output_ids), calls + found.model_calls
                own += int(heard(model, prompt, list(found.output_ids))[1].sum())
            routed = calls - tokens  # the small model is called for each token, the large one now and then besides
            told = f"{tokens} tokens, {routed / tokens:.1%} routed, {own / tokens:.1%} as the large model would"
            print(f"{artifact.name}, {name}: {told}", flush=True)


if __name__ == "__main__":
    main()
