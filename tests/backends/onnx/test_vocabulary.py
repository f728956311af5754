"""Where only scores of a distribution are used, no distribution is written down: shown on the graphs as they run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnxruntime as ort
import pytest

import dcompile
from dcompile.artifact import open_artifact
from dcompile.backends.onnx import vocabulary
from dcompile.feed import feed
from dcompile.options import Options, requests
from dcompile.verify import verify
from tests.backends.library import LIBRARY

MODELS = Path(__file__).parents[2] / "conformance" / "models"

# By what they look at: argmax and its probability, entropy, margin, logit gap, gathered entries of two calls.
STRATEGIES = ("fast_dllm_dual", "dparallel_none", "dimple_margin", "prophet", "hierarchy", "local_leap", "sdar")
POWERS = {"Exp", "Softmax", "LogSoftmax", "Log"}


def wide_powers(folder: Path, vocab: int) -> Iterator[str]:
    """The exponentials, softmaxes and logarithms of a run whose results are as long as the vocabulary."""
    manifest = open_artifact(folder).manifest
    inputs = feed(manifest, requests(manifest, [(5, 9, 17, 23, 8)], Options(max_new_tokens=32), lambda words: ()), {})
    options = ort.SessionOptions()
    options.enable_profiling, options.profile_file_prefix = True, str(folder.parent / "run")
    session = ort.InferenceSession(folder / "main.onnx", options)
    session.run(None, {port.name: inputs[port.name] for port in session.get_inputs()})
    for event in json.loads(Path(session.end_profiling()).read_text()):
        if event.get("args", {}).get("op_name") in POWERS and event["name"].endswith("_kernel_time"):
            (result,) = event["args"]["output_type_shape"]
            if any(shape[-1:] >= [vocab] for shape in result.values()):
                yield event["name"]


def build(strategy: str, out: Path, **options: Any) -> int:
    """Build without its generator, whose draws read the whole distribution; the vocabulary's size."""
    model, settings = LIBRARY[strategy]
    made = dcompile.build(strategy, MODELS / model, out, max_length=96, settings=settings, rng=False, **options)
    return made.manifest.model.vocab


@pytest.mark.parametrize(
    "strategy",
    [pytest.param(s, marks=pytest.mark.slow if s in ("prophet", "dparallel_none") else []) for s in STRATEGIES],
)
def test_scores_leave_no_distribution(strategy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "TILE", 32)  # as if the tiny vocabulary were a long one
    vocab = build(strategy, tmp_path / "artifact")
    assert list(wide_powers(tmp_path / "artifact", vocab)) == []
    outcomes = list(verify(tmp_path / "artifact", None, ([5, 9, 17, 23, 8],), max_new_tokens=32))
    assert [o.verdict for o in outcomes] == ["same"]


def test_without_the_pass_there_are_some(tmp_path: Path) -> None:
    vocab = build("fast_dllm_dual", tmp_path / "artifact", without=["fuse-scores"])
    assert list(wide_powers(tmp_path / "artifact", vocab))
