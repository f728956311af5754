"""Layers as turns of a loop: what the pass makes, and that strategies say what they said, run node by node."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dcompile.backends import registry
from dcompile.backends.eager.build import Eager
from dcompile.backends.inductor.build import CPU
from dcompile.backends.inductor.roll_layers import RollLayers
from dcompile.backends.inductor.store_in_place import StoreInPlace
from dcompile.passes.base import Stage, run_passes
from dcompile.printing import text
from dcompile.program import Program
from dcompile.record import Recorder
from dcompile.verify import verify
from tests.backends.harness import program_of, through
from tests.backends.library import LIBRARY, LLAMA
from tests.backends.test_strategies import MODELS, build
from tests.cli.checkpoint import write
from tests.passes.test_golden import HERE, check

LAYERS = 5
CACHE = (1, 1, 4, 2)  # rows, heads, slots, numbers
STAGE = [Stage("alone", (StoreInPlace(), RollLayers()))]
Rows = dict[str, Tensor]


def layers(asked: bool) -> Program:
    """Turns of four layers, each with a weight and a cache of its own; the last gives its sum with the second's value,
    or with nothing."""
    weights = [torch.eye(2) * (n + 2) / 3 for n in range(4)]
    recorder = Recorder({f"w{n}": weight for n, weight in enumerate(weights)})
    with recorder.recording():
        x, n = recorder.input("in_0", (1, 1, 1, 2), torch.float32), recorder.input("in_1", (1,), torch.int64)
        bias = torch.zeros(1, 1, 1, 4)

        def turn(v: Rows) -> Rows:
            now, values, out = v["x"], [], {}
            for layer, weight in enumerate(weights):
                cache = v[f"k{layer}"]
                seen = torch.ops.dcompile.attend(now, [cache], [cache], [bias], 1.0)
                index = v["i"].reshape(1, 1, 1, 1).expand(1, 1, 1, 2)
                out[f"k{layer}"] = torch.scatter(cache, 2, index, now)
                values.append(seen)
                now = torch.nn.functional.linear(seen + now, weight)
            return {"i": v["i"] + 1, "x": now + values[1] if asked else now, **out}

        caches = {f"k{layer}": torch.zeros(CACHE) + layer for layer in range(4)}
        start = {"i": torch.zeros(1, dtype=torch.int64), "x": x, **caches}
        return program_of(recorder.finish([recorder.loop(start, lambda v: v["i"] < n, turn)["x"]]))


@pytest.mark.parametrize("asked", [False, True])
def test_four_layers(asked: bool, accept: bool) -> None:
    before = layers(asked)
    given = [torch.tensor([[[[0.5, -1.0]]]]), torch.tensor([4])]
    (want,) = through("eager")(before.graphs[0].module, given)
    found = text(before)
    after = run_passes(before, STAGE)
    assert torch.equal(through("eager")(after.graphs[0].module, given)[0], want)
    if asked:
        check(HERE / "roll-layers" / "four.txt", f"{found}\n---- roll-layers\n\n{text(after)}", accept)


@pytest.mark.slow
@pytest.mark.parametrize("asked", [False, True])
def test_the_target_gives_the_same(asked: bool) -> None:
    """For turns of none and of some."""
    module = run_passes(layers(asked), CPU.stages).graphs[0].module
    for turns in (0, 1, 4):
        given = [torch.tensor([[[[0.5, -1.0]]]]), torch.tensor([turns])]
        (want,) = through("eager")(layers(asked).graphs[0].module, given)
        assert torch.allclose(through("cpu")(module, given)[0], want, rtol=1e-5), turns


class Rolled(Eager):
    """What `cpu` compiles, run node by node: its operations on memory act there, too."""

    stages = CPU.stages
    in_place = CPU.in_place


def deeper(folder: Path, out: Path) -> Path:
    """A checkpoint whose layers stand there again and again."""
    shutil.copytree(folder, out)
    (path,) = out.glob("*.safetensors")
    tensors = load_file(path)
    found = [(name, re.fullmatch(r"(.*\.(?:layers|blocks)\.)(\d+)(\..*)", name)) for name in tensors]
    own = max(int(match[2]) for _, match in found if match) + 1
    for layer in range(own, LAYERS):
        tensors |= {
            f"{match[1]}{layer}{match[3]}": tensors[name].clone()
            for name, match in found
            if match and int(match[2]) == layer % own
        }
    save_file(tensors, path, {"format": "pt"})
    config = json.loads((out / "config.json").read_text())
    config |= {key: LAYERS for key in ("num_hidden_layers", "n_layers") if key in config}
    config |= {"layer_types": [config["layer_types"][0]] * LAYERS} if config.get("layer_types") else {}
    (out / "config.json").write_text(json.dumps(config))
    return out


QUICK = ("greedy", "recent_lookup", "fast_dllm_dual")
FLAT = ("assd", "diffusion_gemma", "keyformer")  # `deeper` does not know their models; attention that is spelled out
CHAOTIC = ("dmax", "iter_smooth")  # so deep, the oracle's own tokens change when a norm's weights grow by 3e-7 of it
DEEP = [name for name in LIBRARY if name not in (*FLAT, *CHAOTIC)]


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in QUICK else [pytest.mark.slow]) for n in DEEP])
def test_same_tokens(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.BUILDERS, "eager", f"{__name__}:Rolled")
    model, _ = LIBRARY[name]
    deep = write(tmp_path / LLAMA, layers=LAYERS) if model == LLAMA else deeper(MODELS / model, tmp_path / model)
    place = build(name, "eager", "inside", deep, tmp_path / "artifact", models=tmp_path)
    assert "pick" in (tmp_path / "artifact" / "main.graph.json").read_text()
    outcomes = list(verify(tmp_path / "artifact", place))
    assert outcomes and [o.verdict for o in outcomes] == ["same"] * len(outcomes), list(map(str, outcomes))
