"""Straight-line programs on TVM: what is written, what a fresh process needs, what bad input gets."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from dcompile.backends import ports
from dcompile.backends.eager.run import interpret
from dcompile.backends.tvm.build import TVM
from dcompile.backends.tvm.run import Executable, load
from tests.backends import toys

torch.set_num_threads(1)


def inputs(seed: int) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    canvas = draw.integers(0, 3, (toys.ROWS, toys.SLOTS)) * draw.integers(0, 6, (toys.ROWS, toys.SLOTS))
    return {"canvas": canvas, "k": draw.standard_normal((toys.ROWS, 2, toys.SLOTS, toys.WIDTH // 2)).astype("float32")}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str], Executable]]:
    folder, weights = Path(tmp_path_factory.mktemp("tvm")), toys.weights(wide=True)
    program = toys.program(toys.graph("first", toys.step, weights), toys.graph("second", toys.step, weights))
    files = TVM().build(program, folder)
    executable = load(folder, files, threads=1)
    yield folder, files, executable
    executable.close()


@pytest.mark.parametrize("seed", range(5))
def test_a_step_gives_the_tokens_of_eager(built: tuple[Path, dict[str, str], Executable], seed: int) -> None:
    graph = toys.graph("first", toys.step, toys.weights(wide=True))
    given = inputs(seed)
    want = interpret(graph.module, *[torch.from_numpy(given[p.name]) for p in graph.inputs])
    found = built[2].run("first", given)
    for port, tensor in zip(graph.outputs, want, strict=True):
        if tensor.dtype.is_floating_point:
            np.testing.assert_allclose(found[port.name], tensor.numpy(), rtol=1e-6, atol=1e-6)
        else:
            np.testing.assert_array_equal(found[port.name], tensor.numpy())


def test_what_comes_back_is_not_copied(built: tuple[Path, dict[str, str], Executable]) -> None:
    folder, files, _ = built
    executable = load(folder, files)
    name = next(iter(files))
    signature = executable._signatures[name]
    given = {p.name: np.zeros(p.shape, p.dtype) for p in signature.inputs}
    results = executable.run(name, given)
    assert all(executable._tensor(r) is executable._tensor(r) for r in results.values())
    assert not any(r.flags.writeable for r in results.values())
    assert executable._tensor(given[signature.inputs[0].name]) is not executable._tensor(
        given[signature.inputs[0].name]
    )
    del results
    assert not executable._returned


def test_graphs_share_their_weights(built: tuple[Path, dict[str, str], Executable]) -> None:
    folder, files, _ = built
    first, second = (ports.read(folder)[name].extra["weights"] for name in ("first", "second"))
    assert first == second and len(first) > 0
    size = sum(w.numel() * w.element_size() for n, w in toys.weights(wide=True).items() if n in first)
    assert size < (folder / "weights.safetensors").stat().st_size < size + 1000
    assert set(files.values()) == {"program.so"}


def test_a_wrong_shape_or_dtype_is_told(built: tuple[Path, dict[str, str], Executable]) -> None:
    given = inputs(0)
    with pytest.raises(ValueError, match=r"`canvas` must be int64\[2, 12\], got int32\[2, 12\]"):
        built[2].run("first", {**given, "canvas": given["canvas"].astype("int32")})
    with pytest.raises(ValueError, match=r"`k` must be"):
        built[2].run("first", {**given, "k": given["k"][:1]})


def test_a_fresh_process_needs_no_torch(built: tuple[Path, dict[str, str], Executable]) -> None:
    folder, files, executable = built
    given = inputs(3)
    np.savez(folder / "given.npz", **given)
    script = f"""
import sys, numpy as np
from pathlib import Path
sys.modules["torch"] = None  # importing it is an error now
from dcompile.backends.tvm.run import load
folder = Path({str(folder)!r})
print(load(folder, {files!r}, 1).run("second", dict(np.load(folder / "given.npz")))["out0"].tolist())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(executable.run("second", given)["out0"].tolist())


def test_the_same_program_gives_the_same_files(built: tuple[Path, dict[str, str], Executable], tmp_path: Path) -> None:
    weights = toys.weights(wide=True)
    TVM().build(
        toys.program(toys.graph("first", toys.step, weights), toys.graph("second", toys.step, weights)), tmp_path
    )
    for name in ("program.so", "weights.safetensors", "graphs.json"):
        assert (tmp_path / name).read_bytes() == (built[0] / name).read_bytes(), name


def test_a_build_is_quiet(tmp_path: Path) -> None:
    """Nothing on the error stream of the process, where TVM's compiler writes; other lines come through."""
    script = f"""
import os, sys, torch
from pathlib import Path
from dcompile.backends.tvm.build import TVM
from dcompile.backends.tvm.quiet import without_lines
from tests.backends import toys
TVM().build(toys.program(toys.graph("first", toys.step, toys.weights())), Path({str(tmp_path)!r}))
with without_lines("noise"):
    os.write(2, b"some noise\\nbut this\\n")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == "but this\n"
