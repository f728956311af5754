"""The largest logit without the whole head: the tokens of the whole product, whatever the numbers are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dcompile import ops
from dcompile.backends.eager.run import interpret
from dcompile.backends.onnx import screen
from dcompile.backends.onnx.build import ONNX
from dcompile.backends.onnx.run import load
from dcompile.backends.onnx.sink import SinkHead
from dcompile.passes.base import Stage, run_passes
from dcompile.program import Graph, Port, Program, modules
from dcompile.record import Recorder
from tests.backends.harness import FACTS, STRATEGY

torch.set_num_threads(1)

TOKENS, WIDTH = 65536, 64
SAME = (77, 40000, 65000)  # rows of the head that are one and the same
CLOSE = range(300, 500)  # rows that differ by less than their codes do


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def floats() -> dict[str, Tensor]:
    weight = noise(TOKENS, WIDTH)
    weight[list(SAME)] = 3 * weight[SAME[0]]
    weight[list(CLOSE)] = 3 * weight[CLOSE[0]] + 1e-3 * noise(len(CLOSE), WIDTH, seed=1)
    return {"head.weight": weight}


def blocks(least: bool = False) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    width = 16 if least else 32
    codes = torch.randint(0, 256, (TOKENS, WIDTH // 32, width), generator=generator, dtype=torch.uint8)
    scale = torch.rand((TOKENS, WIDTH // 32), generator=generator).to(torch.float16)
    codes[list(SAME)], scale[list(SAME)] = codes[SAME[0]].clone(), 3.0
    offset = {"head.least": -7 * scale} if least else {}
    return {"head.codes": codes, "head.scale": scale, **offset}


HEADS = {"floats": floats, "eight bits": blocks, "four bits": lambda: blocks(least=True)}


def bits_of(head: dict[str, Tensor]) -> int:
    return 4 if "head.least" in head else 8


def matrix(head: dict[str, Tensor]) -> Tensor:
    if "head.weight" in head:
        return head["head.weight"]
    return ops.from_blocks(head["head.codes"], head["head.scale"], head.get("head.least"), bits_of(head))


def logits_of(head: dict[str, Tensor], x: Tensor) -> Tensor:
    if "head.weight" in head:
        return torch.nn.functional.linear(x, head["head.weight"])
    codes, scale, least = head["head.codes"], head["head.scale"], head.get("head.least")
    return torch.ops.dcompile.linear_blocks(x, codes, scale, least, bits_of(head), False)


def recorded(head: dict[str, Tensor], rows: int, greedy: bool = True, twice: bool = False) -> Program:
    """A head whose logits a branch reads: one side the largest, the other the largest of others (or of two, what they
    are)."""
    recorder = Recorder(head)
    with recorder.recording():
        x = recorder.input("x", (rows, 1, WIDTH), torch.float32)
        other = recorder.input("other", (1,), torch.bool)
        logits = logits_of(head, x).reshape(rows, TOKENS)
        best = (lambda: [torch.argmax(logits, -1)]) if greedy else (lambda: [torch.argsort(logits, -1)[:, 0]])
        changed = recorder.branch(other, lambda: [torch.argmax(torch.abs(logits), -1)], best)
        module = recorder.finish([*changed, *([logits.sum(-1)] if twice else [])])
    inputs = (Port("x", "float32", (rows, 1, WIDTH)), Port("other", "bool", (1,)))
    ends = (Port("token", "int64", (rows,)), *([Port("sum", "float32", (rows,))] if twice else []))
    return Program(STRATEGY, FACTS, rows, 8, (Graph("main", module, inputs, ends),))


def tokens(program: Program, xs: list[Tensor], folder: Path, other: bool = False) -> Tensor:
    files = ONNX().build(program, folder)
    executable = load(folder, files, 1)
    flag = torch.tensor([other])
    found = [executable.run("main", {"x": x.numpy(), "other": flag.numpy()})["token"].copy() for x in xs]
    executable.close()
    return torch.stack([torch.from_numpy(f) for f in found])


def states(head: Tensor, rows: int) -> list[Tensor]:
    """Ordinary ones, with one large channel, along rows of the head that are alike, of zeros, and very small."""
    wild = noise(rows, 1, WIDTH, seed=5)
    wild[..., 3] *= 100
    along = head[[SAME[0], CLOSE[7], CLOSE[70], SAME[1]]][:rows].reshape(-1, 1, WIDTH)
    return [noise(rows, 1, WIDTH, seed=4), wild, along.expand(rows, 1, WIDTH), torch.zeros(rows, 1, WIDTH), wild * 1e-9]


def sunk(program: Program) -> Program:
    return run_passes(program, (Stage("onnx", (SinkHead(),)),))


def kinds(folder: Path) -> list[str]:
    return [n.op_type for n in ir.load(folder / "main.onnx").graph.all_nodes()]


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("name", HEADS)
def test_the_tokens_of_the_whole_product(name: str, rows: int, tmp_path: Path) -> None:
    head = HEADS[name]()
    xs = states(matrix(head), rows)
    found = tokens(sunk(recorded(head, rows)), xs, tmp_path)
    assert "MatMulInteger" in kinds(tmp_path)
    for x, chosen in zip(xs, found, strict=True):
        logits = logits_of(head, x).reshape(rows, TOKENS)
        gap = logits.amax(-1) - logits.gather(-1, chosen.reshape(-1, 1)).reshape(-1)
        assert (gap <= 1e-6 * logits.abs().amax(-1)).all()
        clear = logits.topk(2).values.diff(dim=-1).abs().reshape(-1) > 1e-4 * logits.abs().amax(-1)
        assert torch.equal(chosen[clear], logits.argmax(-1)[clear])
    assert found[2][0] == SAME[0]  # the first of rows that are the same
    assert (found[3] == 0).all()  # of logits that are all 0


def test_rows_that_are_not_numbers_give_some_token(tmp_path: Path) -> None:
    x = torch.full((1, 1, WIDTH), torch.nan)
    assert 0 <= int(tokens(sunk(recorded(floats(), 1)), [x], tmp_path)) < TOKENS


def test_the_other_side_has_the_logits(tmp_path: Path) -> None:
    head = floats()
    x = noise(2, 1, WIDTH, seed=9)
    found = tokens(sunk(recorded(head, 2)), [x], tmp_path, other=True)[0]
    assert torch.equal(found, logits_of(head, x).reshape(2, TOKENS).abs().argmax(-1))


def test_the_head_stands_in_the_sides(tmp_path: Path) -> None:
    head = floats()
    program = sunk(recorded(head, 1))
    outer, *sides = [m.graph for m in modules(program.graphs[0].module)]
    linear = torch.ops.aten.linear.default
    assert [len(g.find_nodes(op="call_function", target=linear)) for g in (outer, *sides)] == [0, 1, 1]
    x, flag = noise(1, 1, WIDTH, seed=3), torch.tensor([False])
    want = interpret(recorded(head, 1).graphs[0].module, x, flag)
    assert torch.equal(interpret(program.graphs[0].module, x, flag, check=True)[0], want[0])


@pytest.mark.parametrize("case", [{"greedy": False}, {"twice": True}], ids=str)
def test_left_where_it_is(case: dict[str, Any], tmp_path: Path) -> None:
    """Where both sides need all logits, or something beside the branch does."""
    program = sunk(recorded(floats(), 1, **case))
    linear = torch.ops.aten.linear.default
    assert len(program.graphs[0].module.graph.find_nodes(op="call_function", target=linear)) == 1
    ONNX().build(program, tmp_path)
    assert "MatMulInteger" not in kinds(tmp_path)


def test_many_rows_are_multiplied(tmp_path: Path) -> None:
    ONNX().build(sunk(recorded(floats(), screen.ROWS + 1)), tmp_path)
    assert "MatMulInteger" not in kinds(tmp_path)


def test_a_bound_of_nothing_loses_the_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cases above are such that the bounds decide."""
    right = screen.steps_and_bounds
    head = floats()
    monkeypatch.setattr(screen, "steps_and_bounds", lambda *given: (right(*given)[0], 0 * right(*given)[1]))
    x = torch.stack([head["head.weight"][i] for i in CLOSE][:4]).reshape(4, 1, WIDTH)
    found = tokens(sunk(recorded(head, 4)), [x], tmp_path)[0]
    assert not torch.equal(found, logits_of(head, x).reshape(4, TOKENS).argmax(-1))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1.0, 30.0, 1000.0]), st.sampled_from([1e-6, 1.0, 1e4]))
def test_no_product_is_further_off_than_its_bound(seed: int, outlier: float, size: float) -> None:
    weight, x = noise(50, 48, seed=seed), size * noise(48, seed=seed + 1)
    x[seed % 48] *= outlier
    weight[:, (seed + 1) % 48] *= outlier
    step, bound = screen.steps_and_bounds([weight], 32)
    unit = x.abs().max() / 127
    first = torch.round(x / unit)
    near = unit * (first + torch.round((x / unit - first) * 128) / 128)
    rough = torch.round(weight / step.unsqueeze(1)) * step.unsqueeze(1)
    error = (rough.double() @ near.double() - weight.double() @ x.double()).abs()
    assert (error <= bound * x.norm()).all()
    assert (bound <= 0.1 * weight.norm(dim=1)).all()  # and of use
