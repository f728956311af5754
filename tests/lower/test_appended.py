"""Rows appended behind the nodes of a draft: what they predict is the oracle's, and the nodes never feel them."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from dcompile.diagnostic import CompileError
from dcompile.dsl import load
from dcompile.dsl.checker import check_model
from dcompile.lower import drafts, lower
from dcompile.lower.appended import Appended, adapted
from dcompile.lower.context import Context
from dcompile.program import modules
from dcompile.record import constant
from dcompile.source import Source
from dcompile.strategy import Strategy
from dcompile.trees import Tree
from tests.backends.parts import sampler
from tests.lower.test_drafts import LENGTH, MATCH, PROMPTS, both
from tests.lower.test_vectors import folder
from tests.passes.rows import model, oracle, read

__all__ = ["folder"]
FEW = Path(__file__).parents[1] / "backends" / "small.tree"
LAYERS = ("self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four embeddings and adapters of rank 3, large enough to change what is predicted."""
    torch.manual_seed(1)
    tensors = {"embeddings": torch.randn(4, 16) * 0.5}
    for name, layer in model().backbone.named_modules():
        if isinstance(layer, nn.Linear) and name.endswith(LAYERS):
            outputs, inputs = layer.weight.shape
            tensors[f"{name}.lora_A"] = torch.randn(3, inputs) * 0.4
            tensors[f"{name}.lora_B"] = torch.randn(outputs, 3) * 0.4
    place = tmp_path_factory.mktemp("rows") / "rows.safetensors"
    save_file(tensors, place)
    return place


def program(rows: Path, shape: str, accept: str = MATCH, count: int = 3, begin: str = "", **settings: str) -> Strategy:
    return read(
        f"""strategy s {{
  model lm: causal
  rows behind[{count}]{begin} = "nowhere.safetensors"
  state guess: token[{count}, 4] = 5
  state reach: int[1] = 0
  tree few = "{settings.get("few", FEW)}"
  canvas answer = empty(length)
  repeat {{
    draft t = {shape} with behind from last {{ token = guess[depth - 1, rank] if depth <= reach[0] else none }}
    p = lm(t)
    {accept}
    reach[0] = 0
    reach[0] = t.ahead where t.kept
    guess[t.ahead - 1] = p.top(4) where t.kept
  }} until eos
}}""",
        behind=str(rows), **settings,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "heat"),
    [("chain(3)", 0.0), ("expand(3, 2)", 0.9), pytest.param("expand(3, 2)", 0.0, marks=pytest.mark.slow)],
)
def test_rows_guess_and_the_tokens_are_those_of_plain_decoding(rows: Path, shape: str, heat: float) -> None:
    want, got = both(program(rows, shape), {"lm": model()}, temperature=heat, seed=3)
    assert got == want
    plain = oracle(read("greedy"), PROMPTS, LENGTH, temperature=heat, seed=3)
    assert [row.answer for row in want] == [row.answer for row in plain]


@pytest.mark.parametrize("shape", ["chain(2)", "expand(3, 2)"])
def test_what_rows_predict_is_what_the_oracle_says(rows: Path, shape: str) -> None:
    """Every guess is accepted, so that it is read in the answer."""
    strategy = program(rows, shape, "accept t where rank < 9")
    want, got = both(strategy, {"lm": model()})
    assert got == want
    assert all(row.calls < len(row.answer) for row in want)
    assert [r.answer for r in want] != [r.answer for r in oracle(read("greedy"), PROMPTS, LENGTH)]


SAMPLER = """strategy s {{
  model lm: causal
  module sampler(float[hidden], float[hidden]) -> float[hidden] = "deep.safetensors"
  rows behind[3] = "nowhere.safetensors"
  state z: float[3, hidden] = 0.3
  tree pairs = expand(2, 1, 1)
  canvas answer = empty(length)
  repeat {{
    draft t = {draft}
    p = lm(t)
    accept t {accept}
    z[t.ahead - 1] = p.hidden where t.kept
  }} until eos
}}"""
SAID = "lm.head(z[depth - 1] + sampler(z[depth - 1], lm.embedding(parent.token)))"
SAMPLED = [
    (f"chain(3) with behind from last {{ token = {SAID}.ranked(0) }}", "where token == parent.p.token", 0.9),
    (f"chain(3) with behind from last {{ token = {SAID}.ranked(0) }}", "where depth > 0", 0.0),
    (f"chain(3) with behind from last {{ scores = {SAID} }}", "by rejection(p, t.q)", 0.9),
    (f"chain(3) with behind from last {{ scores = {SAID} }}", "by block(p, t.q)", 0.0),
    (f"pairs with behind from last {{ scores = {SAID} }} drawing distinct", "by recursive_distinct(p, t.q)", 0.9),
    (f"pairs with behind from last {{ scores = {SAID} }}", "by traversal(p, t.q) or where parent.p.max < 0.1", 0.9),
]


@pytest.mark.parametrize(("draft", "accept", "heat"), SAMPLED)
def test_a_sampler_reads_the_rows_hidden_states(rows: Path, folder: Path, draft: str, accept: str, heat: float) -> None:
    """What a row became is kept, and a small network makes a guess of it and of the token guessed before."""
    strategy = load(Source("s.dcs", SAMPLER.format(draft=draft, accept=accept), folder), {"behind": str(rows)})
    want, got = both(strategy, {"lm": model()}, temperature=heat, seed=3)
    assert got == want
    plain = oracle(read("greedy"), PROMPTS, LENGTH, temperature=heat, seed=3)
    if "==" in accept or (not heat and "depth" not in accept):
        assert [row.answer for row in want] == [row.answer for row in plain]
    if "depth" in accept:  # every guess is read in the answer
        assert [row.answer for row in want] != [row.answer for row in plain]


@pytest.mark.parametrize(("accept", "heat"), [("where depth > 0", 0.0), ("by rejection(p, t.q)", 0.9)])
def test_a_sampler_may_be_a_program(rows: Path, folder: Path, accept: str, heat: float) -> None:
    """The guesses are drawn from what it says; another network leads elsewhere."""
    text = SAMPLER.format(draft=f"chain(3) with behind from last {{ scores = {SAID} }}", accept=accept)
    answers = []
    for path in (sampler(model().facts.hidden, 0.5), str(folder / "deep.safetensors")):
        strategy = load(Source("s.dcs", text, folder), {"behind": str(rows), "sampler": path})
        want, got = both(strategy, {"lm": model()}, temperature=heat, seed=3)
        assert got == want
        answers.append([row.answer for row in want])
    assert answers[0] != answers[1]


def everywhere(backbone: nn.Module, tree: Tree, given: Appended) -> AbstractContextManager[None]:
    return adapted(backbone, replace(tree, facts=(("ahead", (1,) * tree.size),)), given)


def shown(tree: Tree) -> Tensor:
    return constant([[a <= n or a >= tree.proper for a in range(tree.size)] for n in range(tree.size)])


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four linear maps, one with a bias, and adapters at both layers."""
    torch.manual_seed(2)
    tensors = {f"{n}.weight": torch.eye(16) + torch.randn(16, 16) * 0.2 for n in range(4)}
    tensors["1.bias"] = torch.randn(16) * 0.3
    for name, layer in model().backbone.named_modules():
        if isinstance(layer, nn.Linear) and name.endswith(LAYERS):
            outputs, inputs = layer.weight.shape
            tensors[f"{name}.lora_A"] = torch.randn(3, inputs) * 0.4
            tensors[f"{name}.lora_B"] = torch.randn(outputs, 3) * 0.4
    place = tmp_path_factory.mktemp("maps") / "maps.safetensors"
    save_file(tensors, place)
    return place


@pytest.mark.parametrize("accept", [MATCH, "accept t where rank < 9"])
@pytest.mark.parametrize(
    ("shape", "begin"), [("chain(3)", "1"), ("expand(3, 2)", "[1, 0, 1]"), ("few", "[0, 1, 1]"), ("chain(2)", "0")]
)
def test_rows_that_begin_inside_the_model(maps: Path, shape: str, begin: str, accept: str) -> None:
    strategy = program(maps, shape, accept, begin=f" from layer {begin}")
    want, got = both(strategy, {"lm": model()}, temperature=0.9, seed=3)
    assert got == want
    plain = oracle(read("greedy"), PROMPTS, LENGTH, temperature=0.9, seed=3)
    assert ([row.answer for row in want] == [row.answer for row in plain]) == (accept == MATCH)


def test_where_a_row_begins_changes_what_it_guesses(maps: Path) -> None:
    begins = ["0", "1", "[0, 1, 1]", "[1, 0, 1]"]
    said = [both(program(maps, "chain(3)", "accept t where rank < 9", begin=f" from layer {x}"), {"lm": model()})[1]
            for x in begins]  # fmt: skip
    assert len({str([row.answer for row in rows]) for rows in said}) == len(begins)


def test_a_layer_that_rows_do_not_go_through_computes_none(maps: Path) -> None:
    """Of the products in each layer: as many rows as there are by then."""
    (graph,) = lower(program(maps, "chain(3)", begin=" from layer [1, 0, 1]"), model(), capacity=20, rng=False).graphs
    widths = [
        node.meta["val"].shape[-2]
        for module in modules(graph.module)
        for node in module.graph.nodes
        if node.target is torch.ops.aten.linear.default and node.meta["val"].shape[-1] == 24
    ]
    assert widths[-4:] == [8, 8, 16, 16]  # gate and up: four nodes with one row each, then with three


FAULTS = {
    "adapters act on the nodes too": mock.patch.object(drafts, "adapted", everywhere),
    "nodes see the rows": mock.patch.object(drafts, "ancestors", shown),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_changes_tokens(rows: Path, fault: str) -> None:
    strategy = replace(program(rows, "chain(3)"), name=fault)
    with FAULTS[fault]:
        want, got = both(strategy, {"lm": model()})
    assert [r.answer for r in got] != [r.answer for r in want]


def test_a_row_that_was_kept_would_be_seen(rows: Path) -> None:
    """An accept that takes rows for nodes writes what is no token."""

    def all_nodes(ctx: Context, tree: Tree, tokens: Tensor) -> Tensor:
        return torch.ones_like(tokens, dtype=torch.bool)

    strategy = replace(program(rows, "chain(2)", "accept t where rank < 9"), name="kept")
    with mock.patch.object(drafts, "alive", all_nodes):
        want, got = both(strategy, {"lm": model()})
    assert [r.answer for r in got] != [r.answer for r in want]


def test_rows_may_be_fewer_where_the_tree_says_so(rows: Path, tmp_path: Path) -> None:
    few = tmp_path / "few.tree"
    few.write_text("1 0 0 1\n2 0 1 0\n3 1 0 2\n")
    strategy = program(rows, "few", few=str(few))
    (draft,) = (n for n in strategy.body[0].body if type(n).__name__ == "Draft")  # type: ignore[attr-defined]
    assert draft.tree.ahead == (0, 0, 0, 0, 1, 2, 3, 1, 1, 2)
    want, got = both(strategy, {"lm": model()})
    assert got == want
    assert [r.answer for r in want] == [r.answer for r in oracle(read("greedy"), PROMPTS, LENGTH)]


def wrongly(place: Path, tensors: dict[str, Tensor], begin: str) -> str:
    save_file(tensors, place)
    with pytest.raises(CompileError) as caught:
        made = program(place, "chain(1)", begin=f" from layer {begin}")
        raise CompileError(check_model(made, model().facts))
    return str(caught.value)


def test_maps_that_do_not_fit(tmp_path: Path) -> None:
    place, good = tmp_path / "maps.safetensors", {f"{n}.weight": torch.zeros(16, 16) for n in range(3)}
    assert "holds 2 maps, and 3 rows are declared" in wrongly(place, {k: good[k] for k in list(good)[:2]}, "1")
    assert "holds `embeddings`" in wrongly(place, {"embeddings": torch.zeros(3, 16)}, "1")
    wide = {name: torch.zeros(16, 8) for name in good}
    assert "holds maps of different widths: 8, 16" in wrongly(place, wide, "1")
    wide = {name: torch.zeros(8, 8) for name in good}
    assert "`behind` maps vectors of 8 numbers, and the model's have 16" in wrongly(place, wide, "1")
    assert "`behind` begins at layer 2, and the model's last one is 1" in wrongly(place, good, "[0, 2, 1]")


def test_a_model_whose_layers_are_not_known(maps: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[Appended.__module__], "is_plain", lambda backbone: False)
    with pytest.raises(CompileError) as caught:
        lower(program(maps, "chain(1)", begin=" from layer 1"), model())
    assert "error[no-layers]: the layers of `llama` cannot be entered by further rows" in str(caught.value)
    assert "= help: known are the layers of Llama, Mistral, Qwen2, Qwen3" in str(caught.value)


def test_an_adapter_of_no_layer_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "wrong.safetensors"
    pair = {"layers.7.mlp.up_proj.lora_A": torch.zeros(2, 16), "layers.7.mlp.up_proj.lora_B": torch.zeros(24, 2)}
    save_file({"embeddings": torch.zeros(3, 16), **pair}, place)
    with pytest.raises(CompileError) as caught:
        lower(program(place, "chain(1)"), model())
    assert "error[wrong-rows]: `behind` adapts `layers.7.mlp.up_proj`, 16 to 24: no linear layer" in str(caught.value)


@pytest.mark.parametrize(("tensors", "says"), [
    ({"embeddings": torch.zeros(2, 16)}, "holds 2 rows, and 3 are declared"),
    ({"embedding": torch.zeros(3, 16)}, "holds `embedding`, and no `embeddings`"),
    ({"embeddings": torch.zeros(3, 16).half()}, "holds `embeddings` as F16 [3, 16]"),
    ({"embeddings": torch.zeros(3, 16), "q.lora_A": torch.zeros(2, 16)}, "holds no pair `q.lora_A`"),
])  # fmt: skip
def test_a_wrong_file_is_refused(tmp_path: Path, tensors: dict[str, Tensor], says: str) -> None:
    place = tmp_path / "wrong.safetensors"
    save_file(tensors, place)
    with pytest.raises(CompileError) as caught:
        program(place, "chain(1)")
    assert f"error[wrong-rows]: the file of `behind` {says}" in str(caught.value)
