"""Trained parts of strategies, with random weights of the real shape for the tests' tiny model."""

from __future__ import annotations

import atexit
import shutil
import tempfile
import warnings
from functools import cache
from pathlib import Path
from zlib import crc32

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

HIDDEN = 32  # of the model that the tests write
SCALE = 0.02  # so small that heads mostly guess what the model would say next


@cache
def folder() -> Path:
    made = Path(tempfile.mkdtemp(prefix="parts-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


@cache
def heads(count: int = 1, takes: int = 1, gives: int = 1, hidden: int = HIDDEN, scale: float = SCALE) -> str:
    """A file of `count` linear layers from so many vectors to so many."""
    path = folder() / f"heads-{count}-{takes}-{gives}-{hidden}-{scale}.safetensors"
    g = torch.Generator().manual_seed(crc32(path.name.encode()))
    rows = gives * hidden if gives else 1
    found: dict[str, Tensor] = {}
    for n in range(count):
        stem = f"{n}.0" if count > 1 else "0"
        found[f"{stem}.weight"] = torch.randn(rows, takes * hidden, generator=g) * scale
        found[f"{stem}.bias"] = torch.randn(rows, generator=g) * scale
    save_file(found, path)
    return str(path)


class Sampler(nn.Module):
    """Two vectors to one, as the sampler of multi-token prediction is published: two layers behind a norm."""

    def __init__(self, hidden: int, scale: float) -> None:
        super().__init__()
        torch.manual_seed(6)
        self.one, self.two = nn.Linear(2 * hidden, hidden), nn.Linear(hidden, hidden)
        for weight in self.parameters():
            nn.init.normal_(weight, std=scale)

    def forward(self, x: Tensor) -> Tensor:
        normed = x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-5)  # a LayerNorm is an operation that tvm lacks
        return self.two(nn.functional.silu(self.one(normed)))


@cache
def sampler(hidden: int = HIDDEN, scale: float = SCALE) -> str:
    """A sampler as a program of torch.export, of any number of rows."""
    path = folder() / f"sampler-{hidden}-{scale}.pt2"
    rows = ({0: torch.export.Dim("rows")},)
    net = Sampler(hidden, scale).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(net, (torch.zeros(3, 2 * hidden),), dynamic_shapes=rows), path)
    return str(path)
