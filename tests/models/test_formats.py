"""Checkpoints in the formats of published diffusion models, and folders that cannot be used."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from dcompile.diagnostic import CompileError
from dcompile.models import load_model, read_facts, tokenizer_files
from tests.models.checkpoints import make

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "conformance" / "models"


def code(caught: pytest.ExceptionInfo[CompileError]) -> str:
    return caught.value.diagnostics[0].code


@pytest.mark.parametrize(
    ("name", "attention", "shift", "mask", "kv_heads", "stock"),
    [
        ("tiny-llada", "full", False, 3, 4, "LlamaModel"),
        ("tiny-llada-gqa", "full", False, 3, 2, "LlamaModel"),
        ("tiny-dream", "full", True, 5, 2, "Qwen2Model"),
        ("tiny-dream-b", "full", True, 5, 1, "Qwen2Model"),
        ("tiny-sdar", "block_causal", False, 6, 2, "Qwen3Model"),
        ("tiny-sdar-b", "block_causal", False, 6, 1, "Qwen3Model"),
    ],
)
def test_published_formats(name: str, attention: str, shift: bool, mask: int, kv_heads: int, stock: str) -> None:
    model = load_model(TINY / name)
    facts = model.facts
    assert (facts.attention, facts.shift, facts.mask_id, facts.kv_heads) == (attention, shift, mask, kv_heads)
    assert (facts.vocab, facts.hidden, facts.layers, facts.eos_ids) == (512, 64, 2, (1,))
    assert type(model.backbone).__name__ == stock
    assert all(weight.dtype == torch.float32 and not weight.requires_grad for weight in model.backbone.parameters())
    assert model.head(torch.zeros(3, 64)).shape == (3, 512)
    assert model.files == ()


def test_half_precision_weights_become_float32(tmp_path: Path) -> None:
    shutil.copytree(TINY / "tiny-llada", tmp_path / "half")
    file = tmp_path / "half" / "model.safetensors"
    save_file({name: value.half() for name, value in load_file(file).items()}, file)
    assert load_model(tmp_path / "half").head.weight.dtype == torch.float32


def test_the_mask_may_be_named_by_the_tokenizer_alone(tmp_path: Path) -> None:
    make("qwen3", tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"added_tokens": [{"id": 9, "content": "<|MASK|>"}]}')
    assert read_facts(tmp_path).mask_id == 9


def test_llada_options_that_llama_cannot_compute_are_refused(tmp_path: Path) -> None:
    config = json.loads((TINY / "tiny-llada" / "config.json").read_text()) | {"alibi": True}
    shutil.copy(TINY / "tiny-llada" / "model.safetensors", tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CompileError, match="alibi") as caught:
        read_facts(tmp_path)
    assert code(caught) == "unsupported-architecture"


def test_facts_need_no_torch() -> None:
    text = (
        "import sys\nfrom dcompile.models import read_facts, tokenizer_files\n"
        f"read_facts({str(TINY / 'tiny-llada')!r})\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", text], check=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})


# ---------------------------------------------------------------- what cannot be used


def broken(tmp_path: Path, **changes: Any) -> Path:
    """A copy of a good folder with files replaced (bytes) or removed (None)."""
    folder = tmp_path / "broken"
    shutil.copytree(TINY / "tiny-llada", folder)
    for name, content in changes.items():
        file = folder / name.replace("__", ".")
        file.unlink()
        if content is not None:
            file.write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"config__json": None}, "unknown-checkpoint"),
        ({"config__json": b"{"}, "unreadable-checkpoint"),
        ({"config__json": b"[]"}, "unreadable-checkpoint"),
        ({"config__json": b"{}"}, "unsupported-architecture"),
        ({"config__json": b'{"model_type": "llada"}'}, "unsupported-architecture"),
        ({"config__json": b'{"model_type": "t5", "is_encoder_decoder": true}'}, "unsupported-architecture"),
        ({"model__safetensors": None}, "unreadable-checkpoint"),
        ({"model__safetensors": b"\0" * 40}, "unreadable-checkpoint"),
    ],
)
def test_broken_folders(changes: dict[str, bytes | None], wanted: str, tmp_path: Path) -> None:
    folder = broken(tmp_path, **changes)
    with pytest.raises(CompileError) as caught:
        load_model(folder)
    assert code(caught) == wanted


@pytest.mark.parametrize("wrong", ["lacking", "shape", "unknown"])
def test_weights_that_do_not_fit(wrong: str, tmp_path: Path) -> None:
    folder = broken(tmp_path)
    weights = load_file(folder / "model.safetensors")
    name = "model.transformer.blocks.1.q_proj.weight"
    changed = {
        "lacking": {},
        "shape": {name: torch.zeros(2, 64)},
        "unknown": {name: weights[name], "extra": torch.zeros(1)},
    }
    rest = {n: w for n, w in weights.items() if n != name}
    save_file(rest | changed[wrong], folder / "model.safetensors")
    with pytest.raises(CompileError) as caught:
        load_model(folder)
    assert code(caught) == "unreadable-checkpoint"


def test_a_stock_folder_that_lacks_a_weight(tmp_path: Path) -> None:
    make("qwen3", tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["model.layers.0.self_attn.q_norm.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CompileError, match="q_norm") as caught:
        load_model(tmp_path)
    assert code(caught) == "unreadable-checkpoint"


def test_an_unknown_path_names_the_nearest() -> None:
    with pytest.raises(CompileError, match="did you mean `tiny-llada`") as caught:
        load_model(TINY / "tiny-lada")
    assert code(caught) == "unknown-checkpoint"


def test_a_file_that_is_no_model() -> None:
    with pytest.raises(CompileError) as caught:
        read_facts(Path(__file__))
    assert code(caught) == "unknown-checkpoint"


def test_an_unsupported_type_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "lada"}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(CompileError, match="did you mean `llada`") as caught:
        read_facts(tmp_path)
    assert code(caught) == "unsupported-architecture"


def test_a_hub_id_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CompileError) as caught:
        read_facts("nobody/has-this-model")
    assert code(caught) == "unknown-checkpoint"


# ---------------------------------------------------------------- tokenizers


def test_a_missing_tokenizer_is_told_to_who_asks() -> None:
    with pytest.raises(CompileError) as caught:
        tokenizer_files(TINY / "tiny-llada")
    assert code(caught) == "missing-tokenizer"


def test_a_template_inside_the_configuration_becomes_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = broken(tmp_path)
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text('{"chat_template": [{"name": "default", "template": "hi"}]}')
    files = tokenizer_files(folder)
    assert [f.name for f in files] == ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]
    assert files[2].read_text() == "hi"
    assert files[2].is_relative_to(tmp_path / "cache")


# ---------------------------------------------------------------- foreign code


def test_code_in_a_checkpoint_is_never_run(tmp_path: Path) -> None:
    make("llama", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    load_model(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_foreign_code_is_never_trusted() -> None:
    files = [
        f for folder in ("dcompile", "dsl", "passes", "backends", "examples") for f in (ROOT / folder).rglob("*.py")
    ]
    assert files
    for file in files:
        found = re.findall(r"trust_remote_code\W+\s*(?:=|:)?\s*(\w+)", file.read_text(encoding="utf-8"))
        assert set(found) <= {"False"}, f"{file}: {found}"


def test_loading_works_offline() -> None:
    text = f"from dcompile.models import load_model\nload_model({str(TINY / 'tiny-sdar')!r})"
    offline = {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, "-c", text], check=True, cwd=ROOT, env=os.environ | offline)
