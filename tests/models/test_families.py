"""Stock families: what is read from the configuration is what the loaded class says, and greedy decoding is theirs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from dcompile import dsl
from dcompile.diagnostic import CompileError
from dcompile.models import load_model, read_facts
from dcompile.reference import run
from tests.models.checkpoints import FAMILIES, make

PROMPT = [5, 17, 33, 8, 90]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_is_that_of_transformers(family: str, tmp_path: Path) -> None:
    whole: Any = make(family, tmp_path)
    model = load_model(tmp_path)
    want = whole.generate(torch.tensor([PROMPT]), max_new_tokens=10, do_sample=False, eos_token_id=None, pad_token_id=0)
    got = run(dsl.load("greedy"), model, PROMPT, length=10)
    assert list(got.output_ids) == want[0, len(PROMPT) :].tolist()
    assert got.model_calls == 10
    assert got.positions_fed == len(PROMPT) + 9


@pytest.mark.parametrize("family", FAMILIES)
def test_facts_are_those_of_the_class(family: str, tmp_path: Path) -> None:
    config = make(family, tmp_path).config
    facts = read_facts(tmp_path)
    assert (facts.vocab, facts.hidden, facts.layers, facts.heads) == (97, 32, 2, 4)
    assert facts.head_dim == (getattr(config, "head_dim", None) or 8)
    assert facts.tied == bool(config.tie_word_embeddings)
    assert (facts.eos_ids, facts.bos_id, facts.pad_id) == ((2,), 1, 0)
    assert (facts.attention, facts.shift, facts.mask_id) == ("causal", False, None)


def test_a_sliding_window_bounds_the_positions(tmp_path: Path) -> None:
    make("gemma2", tmp_path)
    assert read_facts(tmp_path).max_positions == 40


def test_a_window_that_is_switched_off_bounds_nothing(tmp_path: Path) -> None:
    make("qwen2", tmp_path, sliding_window=16, use_sliding_window=False)
    assert read_facts(tmp_path).max_positions == 64


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("jamba", {"num_hidden_layers": 4}),  # state-space layers
        ("gptj", {"n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 8}),  # its head has a bias, its cache no GQA
    ],
)
def test_what_keeps_no_plain_k_and_v_is_refused(family: str, changes: dict[str, Any], tmp_path: Path) -> None:
    make(family, tmp_path, **changes)
    with pytest.raises(CompileError) as caught:
        load_model(tmp_path)
    assert caught.value.diagnostics[0].code == "unsupported-architecture"
    assert caught.value.diagnostics[0].help


def test_generation_config_gives_the_defaults(tmp_path: Path) -> None:
    make("llama", tmp_path)
    asked = {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "top_k": 20, "repetition_penalty": 1.1}
    (tmp_path / "generation_config.json").write_text(json.dumps(asked | {"eos_token_id": [2, 7]}))
    facts = read_facts(tmp_path)
    assert facts.eos_ids == (2, 7)
    s = facts.sampling
    assert (s.temperature, s.top_p, s.top_k, s.repetition_penalty) == (0.6, 0.9, 20, 1.1)


def test_the_fingerprint_is_that_of_the_weights_and_the_configuration(tmp_path: Path) -> None:
    make("llama", tmp_path / "a")
    make("llama", tmp_path / "b")
    assert read_facts(tmp_path / "a").fingerprint == read_facts(tmp_path / "b").fingerprint
    weights = tmp_path / "b" / "model.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    assert read_facts(tmp_path / "a").fingerprint != read_facts(tmp_path / "b").fingerprint
    assert read_facts(tmp_path / "a", hashed=False).fingerprint == ""
