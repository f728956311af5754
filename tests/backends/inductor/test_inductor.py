"""AOTInductor packages: the tokens of eager, shared weights, bad input. Compiled once; more under `slow`."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._inductor import config
from torch.fx.experimental.proxy_tensor import make_fx

from dcompile.backends import ports
from dcompile.backends.eager.run import interpret
from dcompile.backends.inductor.build import CPU, CUDA
from dcompile.backends.inductor.run import Executable, load
from dcompile.program import Graph
from tests.backends import toys
from tests.backends.harness import program_of
from tests.backends.op_cases import CASES
from tests.backends.test_ops import differs, outputs

torch.set_num_threads(1)
Built = tuple[Path, Executable, dict[str, Graph]]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    graph = toys.graph("main", toys.unmasking, toys.weights())
    yield from compiled(tmp_path_factory.mktemp("cpu"), "cpu", graph)


def compiled(folder: Path, device: str, *graphs: Graph) -> Iterator[Built]:
    executable = load(folder, {"cpu": CPU, "cuda": CUDA}[device]().build(toys.program(*graphs), folder), threads=1)
    yield folder, executable, {g.name: g for g in graphs}
    executable.close()


def inputs(seed: int) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    canvas = draw.integers(0, 3, (toys.ROWS, toys.SLOTS)) * draw.integers(0, 6, (toys.ROWS, toys.SLOTS))
    return {"canvas": canvas, "limit": draw.integers(2, 14, toys.ROWS)}


def same_as_eager(built: Built, name: str, given: dict[str, np.ndarray]) -> None:
    graph = built[2][name]
    want = interpret(graph.module, *[torch.from_numpy(given[p.name]) for p in graph.inputs])
    found = built[1].run(name, given)
    for port, tensor in zip(graph.outputs, want, strict=True):
        assert found[port.name].dtype == port.dtype
        np.testing.assert_array_equal(found[port.name], tensor.numpy())


@pytest.mark.parametrize("seed", range(6))
def test_loops_give_the_tokens_of_eager(built: Built, seed: int) -> None:
    same_as_eager(built, "main", inputs(seed))


def test_the_inputs_are_left_as_they_are(built: Built) -> None:
    given = inputs(1)
    before = {name: array.copy() for name, array in given.items()}
    first = built[1].run("main", given)["out0"].copy()
    assert not np.array_equal(first, before["canvas"])
    for name, array in given.items():
        np.testing.assert_array_equal(array, before[name])
    np.testing.assert_array_equal(built[1].run("main", given)["out0"], first)


def test_a_wrong_shape_or_dtype_is_told(built: Built) -> None:
    with pytest.raises(ValueError, match=r"`limit` must be int64\[2\], got float64\[2\]"):
        built[1].run("main", {**inputs(0), "limit": np.zeros(2)})
    with pytest.raises(ValueError, match=r"`canvas` must be"):
        built[1].run("main", {**inputs(0), "canvas": np.zeros((2, 3), "int64")})


def test_a_package_holds_no_weights_and_no_sources(built: Built) -> None:
    folder, _, _ = built
    assert sorted(p.name for p in folder.iterdir()) == ["graphs.json", "main.pt2", "weights.safetensors"]
    with zipfile.ZipFile(folder / "main.pt2") as package:
        assert not [n for n in package.namelist() if n.endswith(".cpp")]
        head = toys.weights()["model.head"].detach().numpy().tobytes()
        assert not [n for n in package.namelist() if head in package.read(n)]
    names = ports.read(folder)["main"].extra["weights"]
    assert {"model.embed", "model.head", "model.layers.0.weight"} <= set(names)


def test_a_gpu_is_asked_for() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    (gap,) = CUDA().missing(toys.program())
    assert gap.code == "no-gpu"


def test_a_compiler_is_asked_for() -> None:
    with config.patch({"cpp.cxx": ("no-such-compiler",)}):
        (gap,) = CPU().missing(toys.program())
    assert gap.code == "no-compiler"


@pytest.mark.slow
def test_graphs_share_one_weights_file(tmp_path: Path) -> None:
    weights = toys.weights(wide=True)
    pair = toys.graph("first", toys.step, weights), toys.graph("second", toys.step, weights)
    for built in compiled(tmp_path, "cpu", *pair):
        size = sum(w.numel() * w.element_size() for w in weights.values())
        assert size <= (tmp_path / "weights.safetensors").stat().st_size < size + 1000
        given = {**inputs(2), "k": np.ones((toys.ROWS, 2, toys.SLOTS, toys.WIDTH // 2), "float32")}
        for name in ("first", "second"):
            same_as_eager(built, name, {p.name: given[p.name] for p in built[2][name].inputs})


@pytest.mark.slow
@pytest.mark.parametrize("composite", [True, False], ids=["composite", "decomposed"])
def test_operations(tmp_path: Path, composite: bool) -> None:
    """All cases of the op suite in one graph: one compilation."""
    given = [x.clone() for _, xs in CASES.values() for x in xs]

    def everything(*tensors: Tensor) -> list[Tensor]:
        rest = iter(tensors)
        return [y for f, xs in CASES.values() for y in outputs(f(*[next(rest) for _ in xs]))]

    module = make_fx(everything, tracing_mode="fake", pre_dispatch=composite)(*given)
    program = program_of(module)
    executable = load(tmp_path, CPU().build(program, tmp_path), threads=1)
    found = executable.run("main", {f"in_{i}": x.numpy() for i, x in enumerate(given)})
    owners = [name for name, (f, xs) in CASES.items() for _ in outputs(f(*xs))]
    wrong = {}
    for i, (name, want) in enumerate(zip(owners, everything(*given), strict=True)):
        if why := differs(torch.from_numpy(found[f"out_{i}"].copy()), want):
            wrong[name] = why
    assert not wrong, wrong


@pytest.mark.cuda
@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_tokens_of_eager(tmp_path: Path) -> None:
    for built in compiled(tmp_path, "cuda", toys.graph("main", toys.unmasking, toys.weights())):
        for seed in range(6):
            same_as_eager(built, "main", inputs(seed))
