"""Every target gives the oracle's tokens, however its loop is cut: a strategy is built, loaded and verified."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import dcompile
from dcompile.verify import verify
from tests.cli.checkpoint import write

MODELS = Path(__file__).parents[1] / "conformance" / "models"
CAPACITY, LENGTH = 64, 32

STRATEGIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "greedy": ("greedy", "tiny-llama", {}),
    "llada": ("llada", "tiny-llada", {"block": 16, "steps": 16}),
    "fast-none": ("fast_dllm_none", "tiny-llada-gqa", {"block": 16, "threshold": 0.8}),
    "fast-prefix": ("fast_dllm_prefix", "tiny-llada-gqa", {"block": 16, "threshold": 0.8}),
    "fast-dual": ("fast_dllm_dual", "tiny-llada-gqa", {"block": 16, "threshold": 0.8}),
    "sdar": ("sdar", "tiny-sdar", {"block": 4, "steps": 4, "threshold": 0.85}),
}
TARGETS = [
    ("eager", "inside"),
    ("onnx", "inside"),
    ("onnx", "block"),
    ("onnx", "step"),
    ("cpu", "inside"),
    ("tvm", "step"),
]
QUICK = {
    *((name, "onnx", "inside") for name in STRATEGIES), ("fast-dual", "onnx", "step"), ("greedy", "onnx", "block"),
    ("greedy", "onnx", "step"), ("fast-dual", "eager", "inside"), ("fast-dual", "tvm", "step"),
}  # fmt: skip


def matrix() -> list[Any]:
    """All pairs; those that are not quick run with `make test-all`."""
    return [
        pytest.param(name, target, loop, marks=[] if (name, target, loop) in QUICK else pytest.mark.slow)
        for name in STRATEGIES
        for target, loop in TARGETS
    ]


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny-llama")
    return write(folder)


def build(name: str, target: str, loop: str, llama: Path, out: Path, batch: int = 1) -> Path:
    strategy, model, settings = STRATEGIES[name]
    place = llama if model == "tiny-llama" else MODELS / model
    rng = target != "tvm"
    dcompile.build(
        strategy, place, out, target, settings=settings, max_length=CAPACITY, loop=loop, batch=batch, rng=rng
    )
    return place


@pytest.mark.parametrize(("name", "target", "loop"), matrix())
def test_same_tokens(name: str, target: str, loop: str, tiny_llama: Path, tmp_path: Path) -> None:
    place = build(name, target, loop, tiny_llama, tmp_path / "artifact")
    outcomes = list(verify(tmp_path / "artifact", place))
    assert outcomes and [o.verdict for o in outcomes] == ["same"] * len(outcomes), list(map(str, outcomes))


@pytest.mark.parametrize(
    "name", ["fast-dual", *(pytest.param(n, marks=pytest.mark.slow) for n in ("greedy", "llada", "sdar"))]
)
def test_rows_of_a_batch(name: str, tiny_llama: Path, tmp_path: Path) -> None:
    """Four prompts of different lengths: each row gets the tokens that it gets alone."""
    build(name, "onnx", "inside", tiny_llama, tmp_path / "four", batch=4)
    build(name, "onnx", "inside", tiny_llama, tmp_path / "one")
    prompts = [[5, 6, 7, 8, 9], [11, 12], [21, 22, 23, 24, 25, 26, 27, 28, 29], [31, 32, 33]]
    together = dcompile.load(tmp_path / "four").generate(prompts, max_new_tokens=LENGTH)
    alone = dcompile.load(tmp_path / "one")
    for prompt, row in zip(prompts, together, strict=True):
        single = alone.generate(prompt, max_new_tokens=LENGTH)
        assert (row.output_ids, row.model_calls) == (single.output_ids, single.model_calls)
