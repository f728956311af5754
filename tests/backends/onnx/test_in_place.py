"""Caches that steps write into the host's buffers: which, by what kernel, and that nobody else's are touched."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import Tensor

import dcompile
from dcompile.backends.onnx.appending import ATTEND_APPENDING
from dcompile.backends.onnx.buffers import Buffers, names_in_place
from dcompile.backends.onnx.build import ONNX
from dcompile.backends.onnx.in_place import in_place
from dcompile.backends.onnx.run import Plain, load
from dcompile.diagnostic import CompileError
from dcompile.ops import FLOOR
from dcompile.program import Graph, Port, Program
from dcompile.record import Recorder
from dcompile.session import Session
from dcompile.verify import verify
from tests.backends.harness import FACTS, STRATEGY, through
from tests.cli.checkpoint import write

PROMPTS = [[5, 6, 7, 8, 9], [11, 12]]


@pytest.fixture(scope="module")
def stepping(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stepping")
    model = write(folder / "model", heads=2)  # of sixteen, as the kernel wants them to turn queries and keys
    dcompile.build("greedy", model, folder / "out", max_length=64, loop="step")
    return folder / "out"


def kinds(file: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(file, load_external_data=False).graph.node)


def graphs(session: Session) -> dict[str, ort.InferenceSession]:
    return {g.name: session.executable.session(g.name) for g in session.artifact.manifest.graphs}  # type: ignore[attr-defined]


def test_prompt_and_steps_write_all_caches_in_place(stepping: Path) -> None:
    session = dcompile.load(stepping)
    layers = session.artifact.manifest.model.layers
    caches = {f"{kind}{n}" for kind in "kv" for n in range(layers)}
    named = {name: set(names_in_place(graph)) for name, graph in graphs(session).items()}
    assert {name: names for name, names in named.items() if names} == {"1_prefill": caches, "3_last": caches}
    found = kinds(stepping / "3_last.onnx")
    assert (found["GroupQueryAttention"], found["RotaryEmbedding"]) == (layers, 0)


@pytest.fixture(scope="module")
def drafting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drafting")
    model, settings = write(folder / "model", heads=2), {"width": 4}
    dcompile.build("prompt_lookup", model, folder / "out", settings=settings, max_length=24, loop="step")
    return folder / "out"


def test_a_chain_of_drafts_is_appended_by_the_same_kernel(drafting: Path) -> None:
    found = kinds(drafting / "3_tree.onnx")
    assert (found["GroupQueryAttention"], found["RotaryEmbedding"], found["Attention"]) == (2, 0, 0)


def test_the_last_drafts_stand_behind_the_canvas(drafting: Path) -> None:
    """An answer up to the last slot: drafts of four have room behind it, and no text has."""
    session, plain = dcompile.load(drafting), drafting.parent / "plain"
    dcompile.build("greedy", drafting.parent / "model", plain, "eager", max_length=24)
    prompt = [5, 6, 7, 5, 6]
    answer = session.generate(prompt, max_new_tokens=19, eos_ids=[])
    assert answer.output_ids == dcompile.load(plain).generate(prompt, max_new_tokens=19, eos_ids=[]).output_ids
    assert session.generate(prompt, eos_ids=[]).output_ids == answer.output_ids
    with pytest.raises(CompileError, match="do not fit the capacity of 24"):
        session.generate(prompt, max_new_tokens=20)


@pytest.mark.parametrize(("loop", "batch"), [("inside", 1), ("block", 1), ("step", 2)])
def test_loops_and_batches_attend_otherwise(loop: str, batch: int, tmp_path: Path) -> None:
    """In a loop caches would be copied; in a batch rows are of different lengths."""
    dcompile.build("greedy", write(tmp_path / "model"), tmp_path / "out", max_length=64, loop=loop, batch=batch)
    session = dcompile.load(tmp_path / "out")
    assert all(kinds(file)["GroupQueryAttention"] == 0 for file in (tmp_path / "out").glob("*.onnx"))
    assert any(names_in_place(graph) for graph in graphs(session).values()) == (loop == "step")


def test_tokens_are_the_oracles(stepping: Path) -> None:
    outcomes = list(verify(stepping, stepping.parent / "model"))
    assert outcomes and [o.verdict for o in outcomes] == ["same"] * len(outcomes)


def test_two_generations_at_a_time_do_not_meet(stepping: Path) -> None:
    alone = [dcompile.load(stepping).generate(p, max_new_tokens=12, eos_ids=[]).output_ids for p in PROMPTS]
    session = dcompile.load(stepping)
    streams = [session.stream(p, max_new_tokens=12, eos_ids=[]) for p in PROMPTS]
    turns = [stream._generation._turns() for stream in streams]
    while turns:
        turns = [turn for turn in turns if next(turn, None) is not None]
    assert [stream._generation.results()[0].output_ids for stream in streams] == alone


def test_what_is_given_is_what_comes_back(stepping: Path) -> None:
    """The same results as with copies, the caches in the arrays that were handed in; all else is new each time."""
    session = graphs(dcompile.load(stepping))["3_last"]
    generator = np.random.default_rng(0)
    given = {i.name: _array(i, generator) for i in session.get_inputs()}
    want = Plain(session).run({name: array.copy() for name, array in given.items()})
    names = names_in_place(session)
    found = Buffers(session, names).run(given)
    seen = int(given["start"][0] + given["filled"][0])
    for name, value in found.items():
        assert (value is given.get(name)) == (name in names)
        np.testing.assert_array_equal(
            value[:, :, :seen] if name in names else value, want[name][:, :, :seen] if name in names else want[name]
        )


def _array(port: ort.NodeArg, generator: np.random.Generator) -> np.ndarray:
    """Something for each input: five slots are filled and stored."""
    shape = tuple(port.shape)
    if len(shape) == 4:
        return generator.standard_normal(shape, dtype=np.float32)
    if port.name == "stored":
        return np.broadcast_to(np.arange(shape[1]) < 5, shape).copy()
    if port.type == "tensor(float)":
        return np.ones(shape, np.float32) * (port.name != "temperature")
    if port.type == "tensor(bool)":
        return np.zeros(shape, np.bool_)
    number = {"start": 4, "filled": 2, "length": 9}.get(port.name, 0)
    if len(shape) == 3:  # the places of slots
        return np.arange(np.prod(shape), dtype=np.int64).reshape(shape)
    return np.full(shape, number, np.int64)


SLOTS, HEADS, GROUPS, DIM = 24, 4, 2, 16


def one_layer(recorder: Recorder, turns: bool, width: int) -> list[Tensor]:
    q = recorder.input("in_0", (1, HEADS, width, DIM), torch.float32)
    new = [recorder.input(f"in_{n}", (1, GROUPS, width, DIM), torch.float32) for n in (1, 2)]
    cache = [recorder.input(f"in_{n}", (1, GROUPS, SLOTS, DIM), torch.float32) for n in (3, 4)]
    bias = recorder.input("in_5", (1, 1, width, SLOTS), torch.float32)
    slot = recorder.input("in_6", (1, 1), torch.int64)
    angles = torch.arange(SLOTS).reshape(1, 1, -1, 1) * torch.cat([torch.arange(1, DIM // 2 + 1) / 7] * 2)
    position = torch.clamp(slot - 1, min=0) + torch.arange(width)  # in slot 0 the kernel counts from 0
    turning = ([angles.cos(), angles.sin()], position) if turns else ([], None)
    return list(ATTEND_APPENDING(q, new, cache, bias, slot, 0.3, *turning))


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("slot", [0, 1, 9, SLOTS - 3])
@pytest.mark.parametrize(("hidden", "turns"), [(0, False), (3, False), (1, True)])
def test_the_kernel_is_the_operation(slot: int, hidden: int, turns: bool, width: int) -> None:
    """As eager defines it, up to the last new slot; `hidden` slots at the front, as padding is; where the
    kernel `turns` query and key, by another position than the slot."""
    recorder = Recorder({})
    with recorder.recording():
        module = recorder.finish(one_layer(recorder, turns, width))
    generator = torch.Generator().manual_seed(slot)
    inputs = [
        torch.randn(n.meta["val"].shape, generator=generator) for n in module.graph.find_nodes(op="placeholder")[:5]
    ]
    places = torch.arange(SLOTS)
    seen = (places <= slot + torch.arange(width).reshape(-1, 1)) & (places >= min(hidden, slot))
    inputs += [torch.where(seen, 0.0, FLOOR).reshape(1, 1, width, -1), torch.tensor([[slot]])]
    want, found = through("eager")(module, inputs), through("onnx")(module, inputs)
    torch.testing.assert_close(found[0], want[0], rtol=1e-5, atol=1e-6)
    for a, b in zip(found[1:], want[1:], strict=True):
        torch.testing.assert_close(a[:, :, : slot + width], b[:, :, : slot + width], rtol=0, atol=1e-6 if turns else 0)


def rewriting(recorder: Recorder, reads: bool) -> list[Tensor]:
    """A cache of which two rows are replaced, and, where it `reads`, all that it held is given out."""
    cache = recorder.input("k", (1, GROUPS, SLOTS, DIM), torch.float32)
    index = torch.arange(2).reshape(1, 1, 2, 1).expand(1, GROUPS, 2, DIM)
    kept = torch.where(torch.ones(1, dtype=torch.bool), torch.ones(1, GROUPS, 2, DIM), torch.gather(cache, 2, index))
    made = torch.scatter(cache, 2, index, kept)
    return [made, cache.sum() if reads else kept.sum()]


@pytest.mark.parametrize("reads", [False, True])
def test_what_is_read_as_it_was_is_not_written_over(reads: bool, tmp_path: Path) -> None:
    recorder = Recorder({})
    with recorder.recording():
        module = recorder.finish(rewriting(recorder, reads))
    ports = Port("k", "float32", (1, GROUPS, SLOTS, DIM)), Port("sum", "float32", ())
    graph = Graph("main", module, ports[:1], ports)
    assert in_place(graph) == ([] if reads else ["k"])
    files = ONNX().build(Program(STRATEGY, FACTS, 1, SLOTS, (graph,), loop="step"), tmp_path)
    assert names_in_place(load(tmp_path, files).session("main")) == ([] if reads else ["k"])
