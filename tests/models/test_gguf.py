"""GGUF files: the header, the weights, the tokenizer; files made with the `gguf` package's own writer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from dcompile.diagnostic import CompileError
from dcompile.models import load_model, read_facts, tokenizer_files
from dcompile.models.blocks import floats_of_gguf
from dcompile.models.gguf import read_header
from dcompile.models.gguf_weights import PARTS
from tests.models.checkpoints import make

VOCAB = 97


def write(
    file: Path, whole: Any, family: str, quantised: GGMLQuantizationType | None = None, **meta: Any
) -> Path:
    """A GGUF file of a random model, in llama.cpp's names and order."""
    config, writer = whole.config, gguf.GGUFWriter(file, family)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    keys = whole.state_dict()["model.layers.0.self_attn.k_proj.weight"].shape[0]
    writer.add_key_length(keys // config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_token_list(["<s>", "a", "b", "ab", "Ġ", "1", "2", *(f"<{i}>" for i in range(VOCAB - 7))])
    writer.add_token_types([3] + [1] * (VOCAB - 1))
    writer.add_token_merges(["a b"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(meta.get("pre", "smollm"))
    writer.add_eos_token_id(2)
    writer.add_eot_token_id(5)
    for name, value in whole.state_dict().items():
        array = _in_ggml_order(name, value, config, family).numpy()
        if quantised is not None and array.ndim == 2:
            writer.add_tensor(_ggml_name(name), gguf.quants.quantize(array, quantised), raw_dtype=quantised)
        else:
            writer.add_tensor(_ggml_name(name), np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _ggml_name(name: str) -> str:
    ends = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    stem, _, end = name.rpartition(".")
    if stem in ends:
        return f"{ends[stem]}.{end}"
    _, _, layer, part = stem.split(".", 3)
    return f"blk.{layer}.{ {v: k for k, v in PARTS.items()}[part] }.{end}"


def _in_ggml_order(name: str, value: torch.Tensor, config: Any, family: str) -> torch.Tensor:
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
    if family != "llama" or heads is None:
        return value
    return value.reshape(heads, 2, -1, value.shape[1]).transpose(1, 2).reshape(value.shape)  # as llama.cpp's converter


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_weights_come_back(family: str, tmp_path: Path) -> None:
    whole = make(family, tmp_path / "folder", hidden_size=64)
    model = load_model(write(tmp_path / "m.gguf", whole, family))
    ids = torch.tensor([[3, 14, 15, 92]])
    with torch.no_grad():
        want = whole(ids).logits
        got = model.head(model.backbone(ids).last_hidden_state)
    assert torch.allclose(got, want, atol=1e-5)
    facts = model.facts
    assert (facts.vocab, facts.hidden, facts.kv_heads, facts.max_positions) == (VOCAB, 64, 2, 64)
    assert (facts.eos_ids, facts.tied, facts.attention) == ((2, 5), False, "causal")


def test_quantised_weights_are_those_of_the_gguf_package(tmp_path: Path) -> None:
    whole = make("llama", tmp_path / "folder", hidden_size=64, intermediate_size=64)
    model = load_model(write(tmp_path / "m.gguf", whole, "llama", quantised=GGMLQuantizationType.Q8_0))
    kind = gguf.GGMLQuantizationType.Q8_0
    up = whole.state_dict()["model.layers.1.mlp.up_proj.weight"].numpy()
    want = gguf.quants.dequantize(gguf.quants.quantize(up, kind), kind)
    assert np.array_equal(model.backbone.state_dict()["layers.1.mlp.up_proj.weight"].numpy(), want)


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q8_0"])
def test_numbers_are_to_the_bit_those_of_the_gguf_package(kind: str) -> None:
    number = gguf.GGMLQuantizationType[kind]
    values = np.random.default_rng(0).standard_normal((300, 32 * 40)).astype(np.float32) * 3
    raw = gguf.quants.quantize(values, number)
    found = floats_of_gguf(raw.reshape(-1), int(number), values.shape)
    assert found is not None
    np.testing.assert_array_equal(found.numpy(), gguf.quants.dequantize(raw, number))
    assert floats_of_gguf(raw.reshape(-1)[:-1], int(number), values.shape) is None  # a file that ends early


def test_a_folder_with_one_gguf_file_is_that_file(tmp_path: Path) -> None:
    whole = make("llama", tmp_path / "folder")
    write(tmp_path / "one.gguf", whole, "llama")
    assert read_facts(tmp_path).source == "one.gguf"
    write(tmp_path / "two.gguf", whole, "llama")
    with pytest.raises(CompileError, match="several"):
        read_facts(tmp_path)


def test_the_tokenizer_is_made_from_the_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = write(tmp_path / "m.gguf", make("llama", tmp_path / "folder"), "llama")
    tokenizer = Tokenizer.from_file(str(tokenizer_files(file)[0]))
    assert tokenizer.encode("<s>ab 12").ids == [0, 3, 4, 5, 6]
    assert tokenizer.decode([3, 4, 5], skip_special_tokens=False) == "ab 1"


def test_an_unknown_way_to_split_text_asks_for_the_tokenizer(tmp_path: Path) -> None:
    file = write(tmp_path / "m.gguf", make("llama", tmp_path / "folder"), "llama", pre="runes")
    with pytest.raises(CompileError, match="runes") as caught:
        tokenizer_files(file)
    assert caught.value.diagnostics[0].code == "missing-tokenizer"
    assert load_model(file).files == ()
    (tmp_path / "tokenizer.json").write_text("{}")
    assert tokenizer_files(file) == (tmp_path / "tokenizer.json",)


def test_an_unknown_architecture_names_the_known(tmp_path: Path) -> None:
    file = write(tmp_path / "m.gguf", make("llama", tmp_path / "folder"), "lama")
    with pytest.raises(CompileError, match="did you mean `llama`") as caught:
        load_model(file)
    assert caught.value.diagnostics[0].code == "unsupported-architecture"


def test_an_unknown_weight_is_told(tmp_path: Path) -> None:
    whole = make("llama", tmp_path / "folder")
    file = write(tmp_path / "m.gguf", whole, "llama")
    file.write_bytes(file.read_bytes().replace(b"blk.1.ffn_up", b"blk.1.ffn_xx"))
    with pytest.raises(CompileError) as caught:
        load_model(file)
    assert caught.value.diagnostics[0].code == "unreadable-checkpoint"


@pytest.fixture(scope="module")
def header_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("gguf")
    return write(folder / "m.gguf", make("llama", folder / "folder"), "llama").read_bytes()[:6000]


@given(at=st.integers(0, 5999), byte=st.integers(0, 255), length=st.integers(0, 6000))
def test_any_bytes_give_a_header_or_a_diagnostic(
    header_bytes: bytes, tmp_path_factory: pytest.TempPathFactory, at: int, byte: int, length: int
) -> None:
    data = bytearray(header_bytes[:length])
    if at < len(data):
        data[at] = byte
    file = tmp_path_factory.getbasetemp() / "fuzz.gguf"
    file.write_bytes(data)
    try:
        assert read_header(file).tensors
    except CompileError as caught:
        assert caught.diagnostics[0].code == "unreadable-checkpoint"
