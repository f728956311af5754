"""The kernels of the target `cpu`: compiled once for this machine, linked into each package that Inductor makes."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.runtime.cache_dir_utils import cache_dir
from torch.utils._filelock import FileLock

from dcompile.backends.inductor.blocks import EMBED_PACKED, LINEAR_PACKED
from dcompile.backends.inductor.tiles import EMBED_ROUGH, LINEAR_ROUGH
from dcompile.diagnostic import error
from dcompile.ops import AFTER, OWN, PICK, ROOM, STORE

ATTEND = torch.ops.dcompile.attend.default
SOURCES = Path(__file__).with_name("cpp")
NAME = "dcompile_kernels"
FLAGS = ("-std=c++20", "-O3", "-march=native", "-fopenmp", "-fPIC", "-ffp-contract=fast", "-Wno-psabi")

TENSOR, NUMBER, RESULT = "AtenTensorHandle", "int64_t", "AtenTensorHandle*"
TENSORS, NUMBERS = "const AtenTensorHandle*, int64_t", "const int64_t*, int64_t"
MATRIX = *[TENSOR] * 3, *[NUMBER] * 4  # three of them its form


def _shim(name: str, *parameters: str) -> list[str]:
    return [f"AOTITorchError aoti_torch_cpu_{name}({', '.join(parameters)}, {RESULT})"]


SHIMS: dict[Any, list[str]] = {
    ATTEND: _shim("attend", TENSOR, *[TENSORS] * 3, "double"),
    OWN: _shim("own", TENSOR, NUMBER),
    ROOM: _shim("room", NUMBERS, NUMBER),
    STORE: _shim("store", *[TENSOR] * 3, TENSORS),
    PICK: _shim("pick", TENSOR, TENSORS),
    AFTER: _shim("after", TENSOR, TENSORS),
    LINEAR_PACKED: _shim("linear_packed", *MATRIX, TENSORS),
    EMBED_PACKED: _shim("embed_packed", *MATRIX),
    LINEAR_ROUGH: _shim("linear_rough", *MATRIX, TENSORS),
    EMBED_ROUGH: _shim("embed_rough", *MATRIX),
}
OPTIONS: dict[str, Any] = {"aot_inductor.custom_ops_to_c_shims": SHIMS, "aot_inductor.custom_op_libs": [NAME]}


@contextmanager
def linked() -> Iterator[None]:
    """Where the linker finds the kernels."""
    folder = _library()
    places = [str(folder), *filter(None, [os.environ.get("LIBRARY_PATH")])]
    with mock.patch.dict(os.environ, LIBRARY_PATH=os.pathsep.join(places)):
        yield


def _library() -> Path:
    """The folder of a static library, made where it is not yet; named after all that it is made of."""
    compiler = get_cpp_compiler()
    sources = sorted(SOURCES.iterdir())
    made_of = [compiler, *FLAGS, torch.__version__, torch.backends.cpu.get_cpu_capability()]
    text = "\n".join([*made_of, *(s.read_text() for s in sources)])
    folder = Path(cache_dir()) / "dcompile" / f"kernels-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (folder / f"lib{NAME}.a").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            _compile(compiler, [s for s in sources if s.suffix == ".cpp"], folder)
    return folder


def _compile(compiler: str, sources: list[Path], folder: Path) -> None:
    include = Path(torch.__file__).with_name("include")
    objects = [folder / f"{source.stem}.o" for source in sources]
    for source, made in zip(sources, objects, strict=True):
        _run(compiler, *FLAGS, f"-I{include}", "-c", str(source), "-o", str(made))
    _run("ar", "rcs", str(folder / f"lib{NAME}.a"), *map(str, objects))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise error(
            "no-compiler", f"`{command[0]}` cannot compile the kernels of the target `cpu`", "\n".join(lines[:8])
        )
