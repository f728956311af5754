"""Models that a build kept: later builds give the same bytes without loading them, and never those of another model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

import dcompile
from dcompile import cache
from dcompile.models import kept, load
from tests.cli import checkpoint
from tests.models.checkpoints import make
from tests.models.test_gguf import write as write_gguf

LLADA = Path(__file__).parents[1] / "conformance/models/tiny-llada"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DCOMPILE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/builds"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint.write(tmp_path_factory.mktemp("model"), layers=1)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each time that modules are made: whether on kept weights."""
    seen: list[bool] = []
    made = load._modules

    def counted(place: Path, facts: Any, weights: Any = None) -> Any:
        seen.append(weights is not None)
        return made(place, facts, weights)

    monkeypatch.setattr(load, "_modules", counted)
    return seen


def built(strategy: str, model: Path, out: Path, keep: str | None = None) -> dict[str, bytes]:
    folder = dcompile.build(strategy, model, out, max_length=64, keep=keep).folder
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_second_build_loads_nothing(model: Path, tmp_path: Path, loads: list[bool]) -> None:
    plain = built("greedy", model, tmp_path / "plain", keep="off")
    first = built("greedy", model, tmp_path / "first")
    assert loads == [False, False]
    second = built("greedy", model, tmp_path / "second")
    assert plain == first == second and loads == [False, False]
    for name in ("first", "second"):
        file = tmp_path / name / "weights.safetensors"
        assert file.stat().st_nlink == 1  # ONNX Runtime refuses weights that have another name
        assert len(dcompile.load(tmp_path / name).generate([3, 4], max_new_tokens=3, eos_ids=[]).output_ids) == 3


@pytest.mark.parametrize(
    "strategy", ["prompt_lookup", "skip_decode", pytest.param("token_recycling", marks=pytest.mark.slow)]
)
def test_another_strategy_is_traced_on_kept_weights(
    strategy: str, model: Path, tmp_path: Path, loads: list[bool]
) -> None:
    built("greedy", model, tmp_path / "first")
    plain = built(strategy, model, tmp_path / "plain", keep="off")
    loads.clear()
    assert built(strategy, model, tmp_path / "second") == plain
    assert loads == [True]
    assert built(strategy, model, tmp_path / "third") == plain
    assert loads == (
        [True, True] if strategy == "skip_decode" else [True]
    )  # layers that may be left out are traced anew


def test_a_hooked_module_is_traced_as_it_is(model: Path, tmp_path: Path) -> None:
    from dcompile.backends.registry import builder
    from dcompile.compiler import Order, Watch, compile, read
    from dcompile.printing import text

    built("greedy", model, tmp_path / "first")
    loaded, order = dcompile.compiler.load(model), Order("onnx", 64)
    plain = text(compile(read("greedy"), loaded, order, builder("onnx"), Watch()))
    with loaded.backbone.norm.register_forward_hook(lambda _, __, out: out * 2):
        hooked = text(compile(read("greedy"), loaded, order, builder("onnx"), Watch()))
    assert hooked != plain == text(compile(read("greedy"), loaded, order, builder("onnx"), Watch()))


@pytest.mark.slow
def test_formats_that_are_renamed(tmp_path: Path, loads: list[bool]) -> None:
    gguf = write_gguf(tmp_path / "m.gguf", make("llama", tmp_path / "folder", max_position_embeddings=64), "llama")
    for strategy, model in (("llada", LLADA), ("greedy", gguf)):
        loads.clear()
        first = built(strategy, model, tmp_path / f"{strategy}1")
        assert built(strategy, model, tmp_path / f"{strategy}2") == first
        assert loads == [False]


def test_a_model_of_two_halves_is_loaded_each_time(tmp_path: Path, place: Path, loads: list[bool]) -> None:
    model = LLADA.parent / "tiny-diffusion-gemma"
    first, second = (dcompile.compiler.load(model) for _ in range(2))
    assert loads == [False, False] and kept.entry_of(first.backbone) is kept.entry_of(second.backbone) is None


def test_a_changed_checkpoint_is_another_model(model: Path, tmp_path: Path) -> None:
    copy = checkpoint.write(tmp_path / "copy", layers=1)
    before = built("greedy", copy, tmp_path / "before")
    changed = LlamaForCausalLM.from_pretrained(copy)
    with torch.no_grad():
        changed.model.embed_tokens.weight.mul_(-1)
    changed.save_pretrained(copy)
    after = built("greedy", copy, tmp_path / "after")
    assert after["weights.safetensors"] != before["weights.safetensors"]
    assert after == built("greedy", copy, tmp_path / "plain", keep="off")


def test_kept_weights_that_were_changed_are_not_used(
    model: Path, place: Path, tmp_path: Path, loads: list[bool]
) -> None:
    first = built("greedy", model, tmp_path / "first")
    (file,) = place.glob("model-*/weights.safetensors")
    with file.open("r+b") as stream:
        stream.seek(-4, 2)
        stream.write(b"\0\0\1\1")
    assert built("greedy", model, tmp_path / "second") == first
    assert loads == [False, False]


def test_other_versions_find_nothing(
    model: Path, tmp_path: Path, loads: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    built("greedy", model, tmp_path / "first")
    found = cache.metadata.version
    monkeypatch.setattr(cache.metadata, "version", lambda name: "2.0" if name == "torch" else found(name))
    built("greedy", model, tmp_path / "second")
    assert loads == [False, False]


def test_whatever_writes_an_entry_is_in_its_name(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The modules that a trace goes through, and the models': another text of any of them, and nothing is found."""
    named: set[str] = set()
    key = cache.key

    def noted(kind: str, *parts: object, sources: tuple[Path, ...] = (), **rest: Any) -> str:
        named.update(source.stem for source in sources)
        return key(kind, *parts, sources=sources, **rest)

    monkeypatch.setattr(cache, "key", noted)
    dcompile.build("greedy", model, tmp_path / "one", max_length=32)
    assert {"trace", "record", "transcript", "ops", "load", "kept", "adapters"} <= named


def test_weights_that_are_rounded_are_not_those_of_the_file(model: Path, tmp_path: Path) -> None:
    arguments = {"max_length": 64, "quantize": "int8"}
    built("greedy", model, tmp_path / "first")
    plain = dcompile.build("greedy", model, tmp_path / "plain", keep="off", **arguments).folder
    after = dcompile.build("greedy", model, tmp_path / "after", **arguments).folder
    assert {p.name: p.read_bytes() for p in after.iterdir()} == {p.name: p.read_bytes() for p in plain.iterdir()}


def test_the_oracle_runs_a_kept_model(model: Path, tmp_path: Path) -> None:
    before = dcompile.compiler.load(model)
    built("greedy", model, tmp_path / "first")
    after = dcompile.compiler.load(model)
    assert kept.sleeping(after.backbone) is not None and kept.sleeping(before.backbone) is None
    ids = torch.tensor([[3, 4, 5]])
    one, two = (m.head(m.backbone(input_ids=ids).last_hidden_state) for m in (before, after))
    assert torch.equal(one, two)
