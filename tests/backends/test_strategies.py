"""Every target gives the oracle's tokens, however its loop is cut: a strategy is built, loaded and verified."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import dcompile
from dcompile.dsl import STANDARD
from dcompile.verify import verify
from tests.backends.library import GUIDED, LIBRARY, LLAMA
from tests.backends.poison import Poisoning
from tests.cli.checkpoint import write

MODELS = Path(__file__).parents[1] / "conformance" / "models"
CAPACITY, LENGTH = 64, 32

TARGETS = [
    ("eager", "inside"),
    ("onnx", "inside"),
    ("onnx", "block"),
    ("onnx", "step"),
    ("cpu", "inside"),
    ("tvm", "step"),
]
QUICK = {
    *(
        (name, "onnx", "inside")
        for name in (
            "greedy", "llada", "fast_dllm_none", "fast_dllm_prefix", "fast_dllm_dual", "sdar", "local_leap",
            "fast_dllm_v2", "freedave", "remdm", "vicinity", "credit", "diffusion_gemma",
            "token_recycling", "keyformer",
        )
    ),
    ("fast_dllm_dual", "onnx", "step"), ("greedy", "onnx", "block"), ("greedy", "onnx", "step"),
    ("fast_dllm_dual", "eager", "inside"), ("fast_dllm_dual", "tvm", "step"),
}  # fmt: skip

# Compiling the generator is half of a build there, so only these have it: one draws at a temperature of its own.
DRAWING = ("diffusion_gemma", "speculative")


def matrix() -> list[Any]:
    """All pairs; those that are not quick run with `make test-all`."""
    return [
        pytest.param(name, target, loop, marks=marks(name, target, loop))
        for name in LIBRARY
        for target, loop in TARGETS
    ]


def marks(name: str, target: str, loop: str) -> list[pytest.MarkDecorator]:
    return [] if (name, target, loop) in QUICK else [pytest.mark.slow]


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny-llama")
    return write(folder)


Place = Path | dict[str, str | Path]


def build(name: str, target: str, loop: str, llama: Path, out: Path, batch: int = 1, models: Path = MODELS) -> Place:
    model, settings = LIBRARY[name]
    place = llama if model == LLAMA else models / model
    places: Place = place
    if name in GUIDED:
        vocab = json.loads((place / "config.json").read_text())["vocab_size"]
        places = {"lm": place, GUIDED[name]: write(out.with_name("guide"), vocab=vocab, layers=1)}
    rng = target not in ("tvm", "cpu") or name in DRAWING
    dcompile.build(name, places, out, target, settings=settings, max_length=CAPACITY, loop=loop, batch=batch, rng=rng)
    return places


def test_the_whole_library_is_here() -> None:
    assert set(LIBRARY) == {path.stem for path in STANDARD.glob("*.dcs")}


@pytest.mark.parametrize(("name", "target", "loop"), matrix())
def test_same_tokens(name: str, target: str, loop: str, tiny_llama: Path, tmp_path: Path) -> None:
    place = build(name, target, loop, tiny_llama, tmp_path / "artifact")
    outcomes = list(verify(tmp_path / "artifact", place))
    assert outcomes and [o.verdict for o in outcomes] == ["same"] * len(outcomes), list(map(str, outcomes))


IN_PLACE = ("greedy", "fast_dllm_dual", "token_recycling")
COMPARES = "dllm_cache"  # with what its rows were, before it writes over them: other numbers there are another run


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in IN_PLACE else [pytest.mark.slow]) for name in LIBRARY if name != COMPARES],
)
def test_what_steps_write_in_place_they_do_not_read(name: str, tiny_llama: Path, tmp_path: Path) -> None:
    build(name, "onnx", "step", tiny_llama, tmp_path / "artifact")
    session = dcompile.load(tmp_path / "artifact")
    poisoning = Poisoning(session.executable)  # type: ignore[arg-type]
    answers = [
        s.generate([5, 6, 7, 8, 9], max_new_tokens=LENGTH) for s in (session, replace(session, executable=poisoning))
    ]
    assert answers[0].output_ids == answers[1].output_ids
    if name in IN_PLACE:
        assert any(poisoning.written.values()) and poisoning.rows > 0


@pytest.mark.parametrize(
    "name",
    [
        "fast_dllm_dual",
        *(
            pytest.param(n, marks=pytest.mark.slow)
            for n in (
                "greedy",
                "llada",
                "sdar",
                "credit",
                "ddtree",
                "klass",
                "diffusion_gemma",
                "freedave",
                "dllm_cache",
                "iter_smooth",
                "jacobi",
                "lookup_union",
                "prompt_lookup",
                "speculative",
                "token_recycling",
            )
        ),
    ],
)
def test_rows_of_a_batch(name: str, tiny_llama: Path, tmp_path: Path) -> None:
    """Four prompts of different lengths: each row gets the tokens that it gets alone."""
    build(name, "onnx", "inside", tiny_llama, tmp_path / "four", batch=4)
    build(name, "onnx", "inside", tiny_llama, tmp_path / "one")
    prompts = [[5, 6, 7, 8, 9], [11, 12], [21, 22, 23, 24, 25, 26, 27, 28, 29], [31, 32, 33]]
    together = dcompile.load(tmp_path / "four").generate(prompts, max_new_tokens=LENGTH)
    alone = dcompile.load(tmp_path / "one")
    for seed, (prompt, row) in enumerate(zip(prompts, together, strict=True)):
        alone.forget()  # what the row before left to its session
        single = alone.generate(prompt, max_new_tokens=LENGTH, seed=seed)
        assert (row.output_ids, row.model_calls) == (single.output_ids, single.model_calls)
