"""Drafting keeps the law on the targets: what many rows draw, counted against what the model says; and sample-match
draws what plain sampling draws."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

import dcompile
from dcompile.models import load_model
from dcompile.reference.forward import blank, forward
from dcompile.strategy import ModelUse
from tests.backends.parts import heads
from tests.cli.checkpoint import write

VOCAB, ROWS, ROUNDS, PROMPT = 12, 256, 8, (5, 6, 7, 6)
TARGETS = [
    ("onnx", "inside"),
    pytest.param("cpu", "inside", marks=pytest.mark.slow),
    pytest.param("tvm", "step", marks=pytest.mark.slow),
]
Pair = tuple[int, ...]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A target and a drafter of a small vocabulary."""
    folder = tmp_path_factory.mktemp("laws")
    return {"lm": write(folder / "lm", vocab=VOCAB), "small": write(folder / "small", vocab=VOCAB, layers=1)}


def drawn(strategy: str, place: Any, folder: Path, target: str, loop: str, **settings: Any) -> list[Pair]:
    """The first two tokens of many rows, each with a seed of its own."""
    out = folder / f"{strategy}-{target}"
    dcompile.build(strategy, place, out, target, settings=settings, max_length=16, batch=ROWS, loop=loop)
    session = dcompile.load(out, 2)
    options: dict[str, Any] = {"max_new_tokens": 3, "temperature": 1.0, "eos_ids": ()}
    found: list[Pair] = []
    for n in range(ROUNDS):
        rows = session.generate([PROMPT] * ROWS, seed=n * ROWS, **options)
        found += [row.output_ids[:2] for row in rows]
    return found


@cache
def law(folder: Path) -> dict[Pair, float]:
    """How likely the model finds each pair of tokens behind the prompt."""
    model, use = load_model(folder), ModelUse("lm", "causal", None)

    def behind(ids: Pair) -> list[float]:
        logits = forward(model, use, blank(model, len(ids)), ids, range(len(ids)), ())[-1]
        chances: list[float] = torch.softmax(logits.double(), -1).tolist()
        return chances

    first = behind(PROMPT)
    return {(a, b): first[a] * p for a in range(VOCAB) for b, p in enumerate(behind((*PROMPT, a)))}


def deviation(found: list[Pair], law: dict[Pair, float]) -> float:
    """By how many standard deviations a chi-square statistic is too large; pairs expected less than 5 times are one."""
    likely = {pair: p for pair, p in law.items() if p * len(found) >= 5}
    counts = {pair: found.count(pair) for pair in likely}
    cells = [(counts[pair], p * len(found)) for pair, p in likely.items()]
    rest = len(found) - sum(counts.values()), (1 - sum(likely.values())) * len(found)
    statistic = sum((n - e) ** 2 / e for n, e in [*cells, rest] if e > 0)
    return (statistic - len(cells)) / math.sqrt(2 * len(cells))


@pytest.mark.parametrize(("target", "loop"), TARGETS)
def test_speculative_sampling_has_the_models_law(
    target: str, loop: str, models: dict[str, Path], tmp_path: Path
) -> None:
    found = drawn("speculative", models, tmp_path, target, loop, width=2)
    assert deviation(found, law(models["lm"])) < 5
    assert deviation(found, law(models["small"])) > 20, "the drafter's own law is another"


@pytest.mark.parametrize(("target", "loop"), TARGETS)
def test_draws_from_heads_have_the_models_law(target: str, loop: str, models: dict[str, Path], tmp_path: Path) -> None:
    shape = tmp_path / "pair.tree"
    shape.write_text("1 0 0\n2 0 1\n3 1 0\n")
    settings = {"heads": 2, "head": heads(2, scale=0.3), "shape": str(shape)}
    found = drawn("medusa_sampled", models["lm"], tmp_path, target, loop, **settings)
    assert deviation(found, law(models["lm"])) < 5


@pytest.mark.parametrize(("target", "loop"), TARGETS)
def test_sample_match_draws_what_plain_sampling_draws(
    target: str, loop: str, models: dict[str, Path], tmp_path: Path
) -> None:
    plain = drawn("sampled", models["lm"], tmp_path, target, loop)
    matched = drawn("prompt_lookup", models["lm"], tmp_path, target, loop, width=2)
    assert sum(a != b for a, b in zip(plain, matched, strict=True)) <= len(plain) / 1e4  # near-ties of rounding
    assert deviation(plain, law(models["lm"])) < 5


@pytest.mark.slow
def test_targets_draw_the_same(models: dict[str, Path], tmp_path: Path) -> None:
    one, *others = [
        drawn("speculative", models, tmp_path, target, loop, width=2)
        for target, loop in (("onnx", "inside"), ("tvm", "step"), ("cpu", "inside"))
    ]
    for other in others:
        assert sum(a != b for a, b in zip(one, other, strict=True)) <= len(one) / 1e4
