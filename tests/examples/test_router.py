"""The trained router of examples/router is what the library's strategy takes; and how it is reported on."""

from __future__ import annotations

import torch

from dcompile import compiler
from tests.examples.scripts import EXAMPLES, HIDDEN, script

FILE = EXAMPLES / "router" / "router.safetensors"


def test_the_strategy_takes_the_router() -> None:
    (module,) = compiler.read("r2r_router", {"route": str(FILE)}).modules
    width = script("router/train").WIDTH
    assert [(layer.inputs, layer.outputs) for layer in module.layers] == [(HIDDEN, width), (width, 1)]
    assert module.probability
    assert FILE.stat().st_size < 100_000


def test_what_is_routed() -> None:
    """Of five tokens two are routed: one that would have been the same, and one of the two that lead elsewhere."""
    train = script("router/train")
    score = torch.tensor([0.9, 0.8, 0.3, 0.2, 0.1])
    fate = torch.tensor([train.forks.SAME, train.forks.APART, train.forks.APART, train.forks.BACK, train.forks.SAME])
    assert train.limit(score, 0.4) == float(score[2])
    own, caught = train.routed(score, fate, 0.4)
    assert (round(own, 3), round(caught, 3)) == (0.6, 0.5)
    assert train.routed(score, fate, 0.0)[1] == 0


def test_places_near_the_end_are_left_out() -> None:
    train = script("router/train")
    places = train.forks.Places(*[torch.zeros(4)] * 3, torch.arange(4), *[torch.zeros(4)] * 2)
    assert train.known(places).tolist() == [True, True, True, False]
