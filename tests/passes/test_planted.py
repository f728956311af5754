"""Broken passes, and the two nets that catch them: the check behind each pass, and the comparison of tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import fx

from dcompile.passes.base import Pass, PassError, Stage, run_passes
from dcompile.passes.capture_cache import CaptureCache
from dcompile.passes.facts import arguments, placeholders, results
from dcompile.program import WHILE, Program, modules
from tests.passes.rows import compiled, lowered, oracle, read

aten = torch.ops.aten
PROMPTS = [(5, 6, 7)]
GREEDY = read("greedy")


@dataclass(frozen=True)
class Planted(Pass):
    """One mistake."""

    mistake: str = ""
    name: ClassVar[str] = "planted"

    def run(self, program: Program) -> Program:
        for module in modules(program.graphs[0].module):
            MISTAKES[self.mistake](module)
        return program


def forgets_a_value(module: fx.GraphModule) -> None:
    for node in module.graph.nodes:
        if node.target is aten.add.Tensor:
            node.meta.pop("val")


def uses_before_it_makes(module: fx.GraphModule) -> None:
    made = [n for n in module.graph.nodes if n.op == "call_function" and n.users]
    if made:
        made[-1].append(made[0])


def gives_back_something_else(module: fx.GraphModule) -> None:
    for node in module.graph.nodes:
        if node.target is WHILE:
            body = getattr(module, str(arguments(node)[1].target))
            outs = results(body)
            body.graph.output_node().update_arg(0, (*outs[1:], outs[0]))


def drops_an_operand(module: fx.GraphModule) -> None:
    for node in module.graph.nodes:
        if node.target is WHILE:
            node.update_arg(3, arguments(node)[3][:-1])


def drops_an_addition(module: fx.GraphModule) -> None:
    for node in list(module.graph.nodes):
        if node.target is aten.add.Tensor and node.meta["val"].dim() == 3:
            wide = [n for n in node.all_input_nodes if n.meta["val"].shape == node.meta["val"].shape]
            node.replace_all_uses_with(wide[0])


def freezes_what_is_stored(module: fx.GraphModule) -> None:
    for node in module.graph.nodes:
        if node.target is WHILE and "tokens" in node.meta["carried"]:
            body = getattr(module, str(arguments(node)[1].target))
            at = node.meta["carried"].index("stored")
            outs = results(body)
            outs[at] = placeholders(body)[at]
            body.graph.output_node().update_arg(0, tuple(outs))


MISTAKES = {
    f.__name__: f
    for f in (
        forgets_a_value, uses_before_it_makes, gives_back_something_else, drops_an_operand, drops_an_addition,
        freezes_what_is_stored,
    )
}  # fmt: skip


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ("forgets_a_value", "has no value"),
        ("uses_before_it_makes", "was used before it has been defined"),
        ("gives_back_something_else", "does not give back what it carries"),
        ("drops_an_operand", "operands and placeholders differ"),
    ],
)
def test_the_check_behind_each_pass_names_it(mistake: str, words: str) -> None:
    with pytest.raises(PassError, match=f"after here/planted.*{words}"):
        run_passes(lowered(GREEDY), [Stage("here", (Planted(mistake),))])


@pytest.mark.parametrize("mistake", ["drops_an_addition", "freezes_what_is_stored"])
def test_wrong_tokens_are_seen(mistake: str) -> None:
    program = run_passes(lowered(GREEDY), [Stage("here", (Planted(mistake),))])
    assert compiled(program, PROMPTS, 6) != oracle(GREEDY, PROMPTS, 6)


def test_a_forgotten_merge_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tokens a tail, so that a row reads what an earlier tail held."""
    monkeypatch.setattr("dcompile.passes.merge.Merge.__call__", lambda _, cache, tail: torch.clone(cache))
    program = run_passes(lowered(GREEDY), [Stage("here", (CaptureCache(turns=2),))])
    assert compiled(program, PROMPTS, 6) != oracle(GREEDY, PROMPTS, 6)
    monkeypatch.undo()
    program = run_passes(lowered(GREEDY), [Stage("here", (CaptureCache(turns=2),))])
    assert compiled(program, PROMPTS, 6) == oracle(GREEDY, PROMPTS, 6)


def test_a_pass_that_raises_is_named() -> None:
    with pytest.raises(PassError, match="in here/planted"):
        run_passes(lowered(GREEDY), [Stage("here", (Planted("no such mistake"),))])
