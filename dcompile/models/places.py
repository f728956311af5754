"""Where a model lies: a checkpoint folder, a GGUF file, a folder with a GGUF in it, a hub id."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dcompile.diagnostic import CompileError, error, suggest

WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def find_checkpoint(path: str | Path) -> Path:
    """A GGUF file, or a folder with a config.json; a hub id is fetched if there is a network. Raises CompileError."""
    place = Path(path).expanduser()
    if place.is_file():
        if place.suffix == ".gguf":
            return place
        raise error("unknown-checkpoint", f"`{path}` is not a model", "give a checkpoint folder or a .gguf file")
    if place.is_dir():
        return _inside(place)
    if HUB_ID.fullmatch(str(path)) and not place.parent.is_dir():
        return _from_hub(str(path))
    near = [p.name for p in place.parent.iterdir()] if place.parent.is_dir() else []
    raise error("unknown-checkpoint", f"there is no model at `{path}`", _nearest(place, near))


def _inside(folder: Path) -> Path:
    if (folder / "config.json").is_file():
        return folder
    found = sorted(folder.glob("*.gguf"))
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(f.name for f in found)
        raise error("unknown-checkpoint", f"`{folder}` holds several GGUF files", f"name one of them: {names}")
    help = "a checkpoint folder holds config.json and the weights; a .gguf file will do as well"
    raise error("unknown-checkpoint", f"`{folder}` holds no model", help)


def _nearest(place: Path, near: list[str]) -> str:
    hint = suggest(place.name, near, "names in that folder")
    return hint if hint.startswith("did you mean") else "give a checkpoint folder or a .gguf file"


def _from_hub(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download

        patterns = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model", "*.txt"]
        return _inside(Path(snapshot_download(name, allow_patterns=patterns)))
    except CompileError:
        raise
    except Exception as problem:  # the hub client raises a dozen unrelated types for "not reachable"
        help = f"there is no such folder here, and the hub did not give it: {type(problem).__name__}"
        raise error("unknown-checkpoint", f"there is no model at `{name}`", help) from problem


def weight_files(place: Path) -> list[Path]:
    """The files that hold the weights, sorted by name."""
    if place.is_file():
        return [place]
    for pattern in WEIGHTS:
        if found := sorted(place.glob(pattern)):
            return found
    raise error("unreadable-checkpoint", f"`{place}` has no weights", "expected *.safetensors beside config.json")


def fingerprint(files: Iterable[Path]) -> str:
    """sha256 over the sha256 of each file, in the order given."""
    whole = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            whole.update(hashlib.file_digest(stream, "sha256").digest())
    return whole.hexdigest()


def read_json(path: Path, needed: bool = False) -> dict[str, Any]:
    """A JSON object; {} for a missing file unless `needed`. Raises CompileError for anything else."""
    if not needed and not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise error("unreadable-checkpoint", f"cannot read `{path}`: {problem}") from problem
    if not isinstance(value, dict):
        raise error("unreadable-checkpoint", f"`{path}` holds no JSON object")
    return value
