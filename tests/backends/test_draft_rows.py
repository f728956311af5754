"""Rows of a batch that accept differently long drafts are what each is alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import dcompile
from tests.backends.library import MASKS
from tests.backends.parts import heads, sampler
from tests.cli.checkpoint import write

SMALL = {"shape": str(Path(__file__).with_name("small.tree"))}
PROMPTS = [[5, 6, 7, 5, 6], [11, 2], [3, 4, 3, 4, 3, 4, 3, 4, 9], [8, 7, 10]]
FILES: dict[str, dict[str, Any]] = {
    "prompt_lookup": {"width": 4},
    "token_recycling": SMALL,
    "speculative": {"width": 3},
    "sequoia": SMALL,
    "speculative_jacobi": {"width": 3},
    "medusa_sampled": {**SMALL, "head": heads(4, scale=0.1)},
    "multi_token_sampler": {"width": 3, "masks": MASKS, "sampler": heads(1, 2)},
    "multi_token_sampler, a program": {"width": 3, "masks": MASKS, "sampler": sampler(scale=0.1)},
    "eagle2_shape": {"steps": 3, "width": 3, "nodes": 6},
}
SECOND = ("speculative", "sequoia", "eagle2_shape")
TARGETS = [("onnx", "inside"), ("onnx", "step"), ("cpu", "inside"), ("tvm", "step")]
QUICK = [("prompt_lookup", "onnx", "inside")]


def cases() -> list[Any]:
    every = [(name, *place) for name in FILES for place in TARGETS]
    return [pytest.param(*case, marks=[] if case in QUICK else pytest.mark.slow) for case in every]


@pytest.mark.parametrize(("name", "target", "loop"), cases())
def test_rows_accept_for_themselves(name: str, target: str, loop: str, tmp_path: Path) -> None:
    """A vocabulary of twelve, so that much of what is drafted is right."""
    lm = write(tmp_path / "lm", vocab=12)
    place: Any = {"lm": lm, "small": write(tmp_path / "small", vocab=12, layers=1)} if name in SECOND else lm
    for out, batch in (("four", 4), ("one", 1)):
        more: dict[str, Any] = {"settings": FILES[name], "max_length": 48, "batch": batch, "loop": loop}
        dcompile.build(name.partition(",")[0], place, tmp_path / out, target, **more)
    four, one = (dcompile.load(tmp_path / out, 1) for out in ("four", "one"))
    for heat in (0.0, 1.0):
        options: dict[str, Any] = {"max_new_tokens": 24, "temperature": heat, "eos_ids": (1,)}
        four.forget()
        rows = four.generate(PROMPTS, seed=7, **options)
        alone = []
        for n, prompt in enumerate(PROMPTS):
            one.forget()
            alone.append(one.generate(prompt, seed=7 + n, **options))
        assert [row.output_ids for row in rows] == [row.output_ids for row in alone]
        lengths = [row.committed_per_call for row in rows]
        assert lengths == [row.committed_per_call for row in alone]
        assert len(set(map(tuple, lengths))) > 1, "some rows accept more than others"
