"""The artifact: a folder that loads alone. `manifest.json` says what is in it; nothing here needs torch.

The same inputs give the same bytes: the manifest holds no times and no paths, and its keys are sorted.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from dcompile.diagnostic import error
from dcompile.model import Facts

FORMAT: Literal[1] = 1
MANIFEST = "manifest.json"
RULES = "rules"  # the folder of the strategy's extern rules, NAME.py
TREES = "trees"  # the folder of the strategy's draft trees that come from files, NAME.tree
MODULES = "modules"  # the folder of the strategy's trained networks, NAME.safetensors, .onnx or .pt2


def _inside(path: str) -> str:
    """A relative POSIX path that stays in the folder, on every system."""
    parts = path.split("/")
    if not path or any(p in ("", ".", "..") for p in parts) or any(c in path for c in "\\:\0") or path == MANIFEST:
        raise ValueError("not a path inside the artifact")
    return path


Inside = Annotated[str, AfterValidator(_inside)]
Size = Annotated[int, Field(ge=0, lt=2**31)]
Positive = Annotated[int, Field(ge=1, lt=2**31)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Port(_Value):
    """An input or output of a graph."""

    name: str
    dtype: Literal["bool", "uint8", "int8", "int32", "int64", "float16", "bfloat16", "float32", "float64"]
    shape: tuple[Size, ...]


class GraphFile(_Value):
    """A graph that can be run alone, and the file that holds it."""

    name: str
    file: Inside
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


class StrategyText(_Value):
    """The strategy as it was built: its text, that text's hash, its parameters."""

    name: str
    text: str
    sha256: Sha256
    settings: dict[str, bool | int | float | tuple[int, ...]]


class Canvas(_Value):
    """What the host must know to lay out an answer (`dcompile.strategy.Canvas`).

    `whole_answer`, `whole_canvas`: what the answer's length, and prompt and answer together, must be a multiple of.
    `revises`: a committed token may still change, so nothing can be shown before the end. `drafts`: how many drafted
    tokens a call may accept at most. `overhang`: so many of the slots are for drafts behind the answer.
    """

    init: Literal["masked", "uniform", "empty"]
    multiple: Positive = 1
    multiple_from: Literal["canvas", "answer"] = "answer"
    whole_answer: Positive = 1
    whole_canvas: Positive = 1
    revises: bool = False
    drafts: Size = 0
    overhang: Size = 0


class Quantized(_Value):
    """Matrices in blocks: the fewest bits of those that the build rounded, and whether products may round
    activations. Or in bfloat16, and so is what they multiply."""

    weights: Literal["int4", "int4-symmetric", "int8", "bfloat16"]
    activations: Literal["float32", "int8"] = "float32"


class Machine(_Value):
    """What compiled code runs on: a triple (`c` where it is source), a processor by LLVM's name, and those of its
    instructions that another of the kind may lack."""

    triple: str
    cpu: str
    features: tuple[str, ...] = ()


class Verification(_Value):
    """What `verify` found: prompts run, those with the oracle's tokens, and those that part at a near-tie."""

    prompts: Size
    same: Size
    near_ties: Size
    tokens: Size
    greatest_gap: float | None = None


class Manifest(_Value):
    """Everything that an app needs to know. Graph 0 is the entry; see docs/artifact.md for the inputs and outputs."""

    format: Literal[1] = FORMAT
    strategy: StrategyText
    model: Facts
    target: str
    loop: Literal["inside", "block", "step"]
    capacity: Positive
    batch: Positive
    dtype: str
    canvas: Canvas
    has_rng: bool
    stops_on_eos: bool
    graphs: Annotated[tuple[GraphFile, ...], Field(min_length=1)]
    state: tuple[Port, ...]
    session: tuple[Port, ...] = ()
    files: dict[Inside, Sha256] = {}
    versions: dict[str, str] = {}
    verification: Verification | None = None
    others: dict[str, Facts] = {}
    quantized: Quantized | None = None
    machine: Machine | None = None


@dataclass(frozen=True)
class Artifact:
    """An artifact on disk whose files are what its manifest says."""

    folder: Path
    manifest: Manifest

    def file(self, name: str) -> Path:
        return self.folder / name


def dumps(manifest: Manifest) -> str:
    """The text of manifest.json: the same for the same manifest."""
    return json.dumps(manifest.model_dump(mode="json"), sort_keys=True, indent=1, ensure_ascii=False) + "\n"


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(folder: Path, manifest: Manifest) -> Artifact:
    """Write the manifest of a finished folder, with the checksum of every file in it."""
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    files = {name: digest(folder / name) for name in names if name != MANIFEST}
    return rewrite(Artifact(folder, manifest.model_copy(update={"files": files})))


def rewrite(artifact: Artifact) -> Artifact:
    """Write the manifest in place of the old one, in one step."""
    beside = artifact.folder / f".{MANIFEST}.{secrets.token_hex(4)}"
    beside.write_text(dumps(artifact.manifest), encoding="utf-8")
    beside.replace(artifact.folder / MANIFEST)
    return artifact


@contextmanager
def new_folder(path: Path, force: bool = False) -> Iterator[Path]:
    """A folder to build in, which takes the name `path` when the block ends well; otherwise nothing is left.

    An existing `path` is an error unless `force`, and then it must be an artifact or empty.
    """
    path = path.absolute()
    check_free(path, force)
    path.parent.mkdir(parents=True, exist_ok=True)
    folder, old = (path.parent / f".{path.name}.{secrets.token_hex(4)}" for _ in range(2))
    folder.mkdir()
    try:
        yield folder
        if path.exists():
            path.rename(old)
        folder.rename(path)
    except BaseException:
        if old.exists() and not path.exists():
            old.rename(path)
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def check_free(path: Path, force: bool = False) -> None:
    """Refuse a `path` that a build may not take: asked before the work, and again when it is written."""
    if not os.path.lexists(path):
        return
    if not force:
        raise error("output-exists", f"`{path}` exists", "choose another name, or replace it with --force")
    if path.is_symlink() or not path.is_dir() or (any(path.iterdir()) and not (path / MANIFEST).is_file()):
        raise error("output-exists", f"`{path}` is not an artifact and is not replaced", "choose another name")


def open_artifact(path: str | Path) -> Artifact:
    """Read and check an artifact; whatever is wrong with it is a CompileError that says so."""
    folder = Path(path)
    if not (folder / MANIFEST).is_file():
        what = "holds no manifest.json" if folder.is_dir() else "is no folder"
        raise error("not-an-artifact", f"`{folder}` {what}", "give a folder that `dcompile build -o` wrote")
    try:
        manifest = parse((folder / MANIFEST).read_bytes())
    except OSError as e:
        raise error("not-an-artifact", f"`{folder / MANIFEST}` cannot be read: {e.strerror}") from e
    for name, checksum in manifest.files.items():
        _check_file(folder, name, checksum)
    return Artifact(folder, manifest)


def _check_file(folder: Path, name: str, checksum: str) -> None:
    path = folder.joinpath(PurePosixPath(name))
    if not path.is_file():
        raise error("missing-file", f"`{name}` is missing in the artifact `{folder}`", "build or copy it again")
    try:
        changed = digest(path) != checksum
    except OSError as e:
        raise error("missing-file", f"`{path}` cannot be read: {e.strerror}") from e
    if changed:
        raise error("changed-file", f"`{name}` in the artifact `{folder}` has been changed", "build or copy it again")


def parse(data: bytes) -> Manifest:
    """A manifest from the bytes of manifest.json; any bytes give a Manifest or a CompileError."""
    try:
        tree = from_json(data)
    except ValueError as e:
        raise error("not-an-artifact", f"manifest.json is not JSON: {e}", "build or copy the artifact again") from e
    number = tree.get("format") if isinstance(tree, dict) else None
    if isinstance(number, int) and number > FORMAT:
        title = f"the artifact has format {number}, and this dcompile reads format {FORMAT}"
        raise error("newer-format", title, "install a newer dcompile")
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as e:
        first = e.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise error("not-an-artifact", f"manifest.json is wrong at {where}: {first['msg']}") from e
    _check_sense(manifest)
    return manifest


def _check_sense(manifest: Manifest) -> None:
    names = [g.name for g in manifest.graphs]
    if len(set(names)) != len(names):
        raise error("not-an-artifact", "manifest.json names a graph twice")
    for graph in manifest.graphs:
        if graph.file not in manifest.files:
            raise error("not-an-artifact", f"manifest.json has no checksum of `{graph.file}`")
    if hashlib.sha256(manifest.strategy.text.encode()).hexdigest() != manifest.strategy.sha256:
        raise error("changed-file", "the strategy's text in manifest.json has been changed", "build it again")
