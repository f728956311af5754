"""A prompt's chunk is fed without its dead rows."""

from __future__ import annotations

import json
from pathlib import Path

import onnxruntime as ort
import pytest

import dcompile
from dcompile.artifact import open_artifact
from dcompile.backends.onnx import rows
from dcompile.feed import feed
from dcompile.options import Options, requests
from tests.cli.checkpoint import write


@pytest.fixture(scope="module")
def greedy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    dcompile.build("greedy", write(folder / "model"), folder / "greedy", "onnx", max_length=64, rng=False)
    return folder / "greedy"


def test_a_width_divides_no_size() -> None:
    assert rows.chunk(frozenset({64, 1024}), 1024) == 97
    assert rows.chunk(frozenset({64, 97 * 3, 89}), 1024) == 83
    assert rows.chunk(frozenset({64}), 64) == 61
    assert rows.chunk(frozenset({64}), 8) is None
    assert rows.chunk(frozenset(), 1024) is None


def test_no_width_ends_a_slice_to_the_end() -> None:
    assert all((2**63 - 1) % n and (2**31 - 1) % n for n in rows.PRIMES)


def test_parts() -> None:
    """Multiples of the width, and a canvas with what is fed behind it; 161 is a size of the model here."""
    sizes = frozenset((64, 100, 161))
    assert rows.parts([1, 97, 9, 64, 194], 97, sizes) == [(1,), rows.Rows(1), (9, 64), rows.Rows(2)]
    assert rows.parts([197, 161], 97, sizes) == [rows.Rows(1, 100), (161,)]


@pytest.mark.parametrize("length", [1, 2, 20, 62, 63])
def test_only_what_the_prompt_has_is_multiplied(greedy: Path, tmp_path: Path, length: int) -> None:
    """Rows of the products in the prompt's chunks (61 slots each): all of the prompt but its last token."""
    fed = products(greedy, [3 + n % 200 for n in range(length)], tmp_path)
    chunks = [n for n in (min(length - 1, 61), length - 1 - 61) if n > 0]
    assert [n for n in fed if n != 1] == [n for n in chunks if n != 1]


def products(artifact: Path, prompt: list[int], folder: Path) -> list[int]:
    """The rows of the first layer's first product, each time it runs."""
    manifest = open_artifact(artifact).manifest
    inputs = feed(manifest, requests(manifest, [tuple(prompt)], Options(max_new_tokens=1, eos_ids=[]), None), {})
    settings = ort.SessionOptions()
    settings.enable_profiling, settings.profile_file_prefix = True, str(folder / "run")
    session = ort.InferenceSession(str(artifact / "main.onnx"), settings)
    session.run(None, {port.name: inputs[port.name] for port in session.get_inputs()})
    events = [e for e in json.loads(Path(session.end_profiling()).read_text()) if e.get("cat") == "Node"]
    ran = [e for e in events if e["name"].endswith("_kernel_time") and "MatMul" in e["args"]["op_name"]]
    name = ran[0]["name"]
    return [next(iter(e["args"]["input_type_shape"][0].values()))[1] for e in ran if e["name"] == name]
