"""The oracle on real modules: against `generate`, and against itself without a cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from dcompile.controls import Controls
from dcompile.dsl import load
from dcompile.models import Model, load_model
from dcompile.reference import run
from dcompile.source import Source
from tests.models.checkpoints import make

TINY = Path(__file__).parents[1] / "conformance" / "models"
PROMPT = [5, 17, 33, 8, 90]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Model]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("llama")
    return make("llama", folder), load_model(folder)


@pytest.mark.parametrize(
    ("controls", "options"),
    [
        (Controls(repetition_penalty=1.3), {"repetition_penalty": 1.3}),
        (Controls(banned=(3, 60, 61)), {"suppress_tokens": [3, 60, 61]}),
        (Controls(eos_ids=(2, 40), min_length=6), {"eos_token_id": [2, 40], "min_new_tokens": 6}),
    ],
)
def test_greedy_with_controls_is_that_of_transformers(
    llama: tuple[Any, Model], controls: Controls, options: dict[str, Any]
) -> None:
    whole, model = llama
    options = {"eos_token_id": None, "pad_token_id": 0} | options
    want = whole.generate(torch.tensor([PROMPT]), max_new_tokens=14, do_sample=False, **options)[0, len(PROMPT) :]
    assert list(run(load("greedy"), model, PROMPT, length=14, sampling=controls).output_ids) == want.tolist()


def test_sampling_at_a_tiny_temperature_is_greedy(llama: tuple[Any, Model]) -> None:
    cold = run(load("sampled"), llama[1], PROMPT, length=10, sampling=Controls(temperature=1e-3, seed=9))
    assert cold.output_ids == run(load("greedy"), llama[1], PROMPT, length=10).output_ids


def uncached(text: str) -> str:
    """The strategy with every call fed everything that came before, nothing kept."""
    return text.replace("lm(last)", "lm(everything) keep none").replace("lm(b)", "lm(upto(b) or b) keep none")


def test_a_causal_cache_is_exact(llama: tuple[Any, Model]) -> None:
    cached = load("greedy")
    plain = load(Source("plain.dcs", uncached(cached.text)))
    a, b = (run(s, llama[1], PROMPT, length=12) for s in (cached, plain))
    assert a.output_ids == b.output_ids
    assert (a.positions_fed, b.positions_fed) == (16, sum(range(5, 17)))


def test_the_cache_of_whole_blocks_is_exact() -> None:
    model = load_model(TINY / "tiny-sdar")
    cached = load("sdar")
    text = uncached(cached.text).replace("keep none keep none", "keep none")
    plain = load(Source("plain.dcs", text))
    assert "refresh lm(whole(prompt, block))" in text
    a, b = (run(s, model, [9, 8, 7, 6, 5, 4], length=14) for s in (cached, plain))
    assert (a.tokens, a.model_calls) == (b.tokens, b.model_calls)
    assert a.positions_fed < b.positions_fed


def test_dropping_a_clean_store_changes_what_is_seen() -> None:
    model = load_model(TINY / "tiny-sdar")
    text = load("sdar").text.replace("refresh lm(b)", "refresh lm(b) keep none")
    with_store = run(load("sdar"), model, [9, 8, 7, 6, 5, 4], length=14)
    without = run(load(Source("forgetful.dcs", text)), model, [9, 8, 7, 6, 5, 4], length=14)
    assert with_store.tokens != without.tokens


def test_a_kept_region_is_all_that_is_stored() -> None:
    model = load_model(TINY / "tiny-llada")
    text = """strategy s {{
      model lm: masked
      canvas answer = masked(length)
      refresh lm(everything) keep {kept}
      p = lm(answer)
      commit p.token at masked
    }}"""
    outputs = {kept: run(load(Source("s.dcs", text.format(kept=kept))), model, PROMPT, length=8).output_ids
               for kept in ("prompt", "everything", "answer", "none")}  # fmt: skip
    assert outputs["prompt"] == outputs["everything"]  # the answer's rows are fed anew, and so not read
    assert outputs["answer"] == outputs["none"] != outputs["prompt"]


def test_guidance_mixes_with_the_promptless_prediction() -> None:
    model = load_model(TINY / "tiny-llada")
    full = torch.zeros(1, 1, 9, 9)
    with torch.no_grad():
        fed = ([*PROMPT, *[3] * 4], [3] * 9)
        clean, blind = (model.head(model.backbone(torch.tensor([i]), full).last_hidden_state) for i in fed)
    want = (blind + 2.5 * (clean - blind))[0, 5:].argmax(-1).tolist()
    text = """strategy s {
      model lm: masked
      canvas answer = masked(length)
      p = lm(everything) with guidance 1.5
      commit p.token at masked
    }"""
    result = run(load(Source("s.dcs", text)), model, PROMPT, length=4)
    assert (list(result.output_ids), result.model_calls) == (want, 1)
