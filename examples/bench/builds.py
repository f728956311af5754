"""What is raced, written once into a folder: artifacts by the command line, as a user would, and GenAI's models."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

CAPACITY = 1100  # slots: the long context and its answer
NOTES = "build.json"
DCOMPILE = str(Path(sys.executable).with_name("dcompile"))


@dataclass(frozen=True)
class Built:
    """An artifact: seconds (of processors) and most bytes of memory of its build, bytes of its folder, and of keys and
    values how many are copied each step, out of how many."""

    folder: Path
    seconds: float
    memory: int
    size: int
    copied: int
    cache: int


def at_once(orders: Mapping[str, Callable[[], Built]]) -> dict[str, Built]:
    """Artifacts by name, two at a time: each is made by a process of its own."""
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(orders, pool.map(lambda order: order(), orders.values()), strict=True))


def artifact(folder: Path, strategy: str, model: Path, *options: str, capacity: int = CAPACITY) -> Built:
    """`dcompile build STRATEGY`, or what is known of it from an earlier run."""
    notes = folder.with_name(f"{folder.name}-{NOTES}")
    if folder.exists() and notes.exists():
        known = json.loads(notes.read_text())
        return Built(**{**known, "folder": folder})
    command = [DCOMPILE, "build", strategy, "-m", str(model), "-o", str(folder), "--force"]
    command += ["--max-length", str(capacity), *options]
    print("$ dcompile", *command[1:], flush=True)
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert child.stdout is not None
    said = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(said)
    found = re.search(r"([\d,]+) of ([\d,]+) bytes of keys and values", " ".join(said.split()))
    copied, cache = (int(n.replace(",", "")) for n in found.groups()) if found else (0, 0)
    size = sum(p.stat().st_size for p in folder.iterdir())
    built = Built(folder, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, size, copied, cache)
    notes.write_text(json.dumps({**asdict(built), "folder": None}))
    return built


def checkpoint(model: Path, folder: Path) -> Path:
    """The dequantised weights of a GGUF file as a transformers checkpoint folder."""
    if folder.exists():
        return folder
    from transformers import LlamaForCausalLM

    from dcompile.models import load_model
    from dcompile.models.kept import real

    loaded = load_model(model)
    backbone: Any = real(loaded.backbone)
    whole = LlamaForCausalLM(backbone.config)
    whole.model = backbone
    whole.lm_head.weight = whole.model.embed_tokens.weight
    whole.config.architectures = ["LlamaForCausalLM"]
    whole.save_pretrained(folder)
    for path in loaded.files:
        shutil.copy(path, folder)
    return folder


def genai(source: Path, precision: str, out: Path) -> Path:
    """GenAI's own model of a checkpoint, with an eos that is never proposed."""
    path = out / "genai_config.json"
    if not path.exists():
        command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", str(source), "-o", str(out)]
        command += ["-p", precision, "-e", "cpu"]
        command += ["--extra_options", "int4_accuracy_level=4"] if precision == "int4" else []
        made = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if made.returncode:
            raise SystemExit(made.stdout)
    config = json.loads(path.read_text())
    config["model"]["eos_token_id"] = config["model"]["vocab_size"] - 1
    path.write_text(json.dumps(config))
    return out


def tuned(strategy: str, model: Path, prompts: list[list[int]], out: Path, *options: str) -> tuple[Path | None, str]:
    """What `dcompile tune` chooses for these prompts: the strategy file, or None where it says not to speculate; and
    what it said last."""
    asked, said = out.with_suffix(".txt"), out.with_suffix(".log")
    if not said.exists():
        asked.write_text("\n".join(map(str, prompts)) + "\n")
        command = [DCOMPILE, "tune", strategy, "-m", str(model), "--prompts", str(asked)]
        command += ["-o", str(out), "--max-length", str(CAPACITY), "--widest", "4", *options]
        print("$ dcompile", *command[1:], flush=True)
        text = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        said.write_text(text)
    return (out if out.exists() else None), said.read_text().strip().splitlines()[-1]
