"""Trained parts of strategies, with random weights of the real shape for the tests' tiny model."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path
from zlib import crc32

import torch
from safetensors.torch import save_file
from torch import Tensor

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
