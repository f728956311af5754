"""The trained judge of examples/judge is what the library's strategy takes; and how it is reported on."""

from __future__ import annotations

import pytest
import torch

from dcompile import compiler
from dcompile.dsl import checker
from tests.examples.scripts import EXAMPLES, HIDDEN, script

FILE = EXAMPLES / "judge" / "judge.safetensors"


def test_the_strategy_takes_the_judge() -> None:
    strategy = compiler.read("judge", {"right": str(FILE)})
    (module,) = strategy.modules
    (layer,) = module.layers
    assert (layer.inputs, layer.outputs, layer.bias is not None, module.probability) == (HIDDEN, 1, True, True)
    assert checker.report(strategy).lossless.verdict == "lossy"
    assert FILE.stat().st_size < 4096


def test_it_is_asked_only_where_tokens_differ() -> None:
    train = script("judge/train")
    fates = torch.arange(4)
    places = train.forks.Places(*[torch.zeros(4)] * 3, fates, *[torch.zeros(4)] * 2)
    assert train.judged(places).tolist() == [False, True, True, False]


def test_verdicts() -> None:
    score, right = torch.tensor([0.9, 0.8, 0.4, 0.1]), torch.tensor([True, False, True, False])
    assert script("judge/train").verdicts(score, right, 0.5) == (0.5, 0.5)
    assert script("judge/train").verdicts(score, right, 0.3) == (0.75, pytest.approx(2 / 3))


def test_texts_that_are_alike() -> None:
    alike = script("judge/measure").alike
    assert alike([1, 2, 3], [1, 2, 3]) == 1
    assert alike([1, 2, 3, 4], [1, 9, 3, 4]) == 0.75
    assert alike([1, 2], [3, 4]) == 0
