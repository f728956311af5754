"""Explaining a step: parts by name, costs by shape, and a run of each cut whose head is counted exactly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import dcompile
from dcompile import machine
from dcompile.artifact import open_artifact
from dcompile.diagnostic import CompileError
from dcompile.explain.events import part
from dcompile.explain.onnx import cost
from dcompile.explain.report import explain
from tests.cli import checkpoint
from tests.cli.command import Command

FLAT = machine.Machine("flat", {1: 1e9}, {1: 1e10}, {1: 2e10}, {1: 4e10}, {}, 5e8, 1e-6)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint.write(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("L10.model/attention/FusedMatMul_matmul.3", "attention"),
        ("L10.model/feed-forward/Mul_mul.12/QuickGeluFusion/", "feed-forward"),
        ("L10/head/MatMul_matmul", "head"),
        ("L10.model/cache/Where_where.1", "cache"),
        ("prefill/attention/FusedMatMul_matmul", "prefill"),
        ("L11/ArgMax_argmax.6", "rule"),
        ("Reshape_reshape.138", "loop"),
        ("Large/Reshape", "loop"),
        ("", "loop"),
    ],
)
def test_a_part_is_read_off_the_name(name: str, found: str) -> None:
    assert part(name) == found


def described(taken: list[list[int]], given: list[list[int]], **sizes: int) -> dict[str, object]:
    shapes = {"input_type_shape": [{"float": s} for s in taken], "output_type_shape": [{"float": s} for s in given]}
    return shapes | {f"{name}_size": str(size) for name, size in sizes.items()}


def test_costs_by_shape() -> None:
    packed = described([[1, 4, 576]], [[1, 4, 960]], parameter=0, activation=9216, output=15360)
    assert cost("FusedMatMul", packed) == (576 * 960 * 4, 2 * 4 * 576 * 960)
    both = described([[1, 9, 1, 64], [1, 9, 64, 32]], [[1, 9, 1, 32]], parameter=0, activation=75000, output=1152)
    assert cost("MatMul", both) == (0, 2 * 9 * 32 * 64)
    blocks = described([[1, 1, 64], [96, 2, 16]], [[1, 1, 96]], parameter=0, activation=256, output=384)
    assert cost("MatMulNBits", blocks) == (96 * 64 // 2 + 96 * 2 * 4, 2 * 96 * 64)
    looked_up = described([[49152, 576], [1, 32]], [[1, 32, 576]], parameter=113246208, activation=256, output=73728)
    assert cost("Gather", looked_up) == (2 * 73728, 0)
    large = described([[1, 3, 8192, 64]], [[1, 3, 8192, 64]], parameter=0, activation=6291456, output=6291456)
    assert cost("Neg", large) == (2 * 6291456, 3 * 8192 * 64)
    cache = [1, 3, 1100, 64]
    appended = described(
        [[1, 1, 960], cache, cache, [1], [], [1, 1, 1, 200]], [[1, 1, 576], cache, cache], output=1689600
    )
    assert cost("GroupQueryAttention", appended) == (2 * 4 * 3 * 200 * 64, 4 * 576 * 200)


@pytest.mark.parametrize("loop", ["inside", pytest.param("block", marks=pytest.mark.slow), "step"])
def test_a_run_is_accounted_for(loop: str, model: Path, tmp_path: Path) -> None:
    dcompile.build("greedy", model, tmp_path / "a", max_length=64, loop=loop)
    found = explain(open_artifact(tmp_path / "a"), FLAT, [5, 6, 7, 8], 12, 1)
    shares = {s.name: s for s in found.shares}
    assert {"embeddings", "attention", "feed-forward", "head", "cache", "rule"} <= shares.keys()
    head = shares["head"]
    one, row = 2 * 260 * 32, 2 * 32 * 4  # a product, and the row that is looked up for it and normed
    assert (head.operations, head.bytes) == (one + 32, 260 * 32 * 4 + row)
    assert head.predicted >= 260 * 32 * 4 / 1e9  # what FLAT reads a second
    matrices = 2 * (3 * 32 * 64)  # two layers, three matrices each
    assert shares["feed-forward"].bytes == 4 * matrices
    assert 2 * matrices <= shares["feed-forward"].operations <= 2.2 * matrices
    assert all(s.measured > 0 for s in found.shares) and found.result.model_calls == 12
    assert (found.copied > 0) == (loop != "step") and found.copying == found.copied / FLAT.copy
    if loop == "inside":  # two layers' tails of 32 rows, keys and values of two heads of 8 numbers, and small things
        assert 2 * 2 * 32 * 2 * 8 * 4 < found.copied < 4 * 2 * 2 * 32 * 2 * 8 * 4


def test_a_run_on_cpu_is_accounted_for(model: Path, tmp_path: Path) -> None:
    dcompile.build("greedy", model, tmp_path / "a", "cpu", max_length=64)
    found = explain(open_artifact(tmp_path / "a"), FLAT, [5, 6, 7, 8], 12, 1)
    shares = {s.name: s for s in found.shares}
    assert {"attention", "feed-forward", "head", "rule"} <= shares.keys()
    head, feed_forward = shares["head"], shares["feed-forward"]
    assert head.bytes == 260 * 32 * 4 and 2 * 260 * 32 <= head.operations <= 2 * 260 * 32 + 260
    matrices = 2 * (3 * 32 * 64)  # two layers, three matrices each
    assert feed_forward.bytes == 4 * matrices and 2 * matrices <= feed_forward.operations <= 2.2 * matrices
    # Keys and values of what a call sees, 4 to 15 tokens, of two layers, and the matrices of attention.
    of_cache = 2 * 2 * 2 * 8 * 4 * sum(range(4, 16)) / 12
    assert shares["attention"].bytes == of_cache + 4 * 2 * (2 * 32 * 32 + 2 * 16 * 32)
    assert found.copied is None and found.result.model_calls == 12 and found.prefill > 0


def test_the_command(model: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "known", lambda: FLAT)
    dcompile.build("greedy", model, tmp_path / "a", max_length=64)
    shown = command("explain", tmp_path / "a", "-n", 8, "--threads", 1)
    assert shown.code == 0, shown.err
    assert "feed-forward" in shown.out and "tokens/s" in shown.out and "bytes of text/s" in shown.out
    found = json.loads(command("explain", tmp_path / "a", "-n", 8, "--threads", 1, "--json").out)
    assert found["tokens"] == found["calls"] == 8 and found["machine"] == "flat"
    assert found["bytes_per_second"] > 0
    assert abs(sum(p["predicted_ms"] for p in found["parts"]) - found["predicted_ms"]) < 1e-6


def test_other_targets_tell_nothing(model: Path, tmp_path: Path) -> None:
    dcompile.build("greedy", model, tmp_path / "a", "eager", max_length=64)
    with pytest.raises(CompileError, match="cannot-explain"):
        explain(open_artifact(tmp_path / "a"), FLAT, [5], 2, 1)


def test_a_machine_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCOMPILE_CACHE", str(tmp_path))
    for name, small in (("LONG", 64), ("WIDE", 128), ("SIDE", 64), ("CHAIN", 20)):
        monkeypatch.setattr(machine, name, small)
    assert machine.known() is None
    made = machine.measure()
    rates = [*made.read.values(), *made.float32.values(), *made.int4.values(), *made.int8.values()]
    assert all(rate > 0 for rate in (*rates, made.copy, made.node)) and 1 in made.read
    assert machine.known() == made
    monkeypatch.setattr(machine, "processor", lambda: "another")
    assert machine.known() is None
    (tmp_path / machine.FILE).write_text("{")
    assert machine.known() is None
