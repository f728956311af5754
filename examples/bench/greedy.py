"""Greedy SmolLM2-135M-Instruct: dcompile's artifact (loop inside) against ONNX Runtime GenAI, alternating.

    make bench        # or: python examples/bench/greedy.py --tokens 128 --rounds 5 --precision int4

In fp32 both compute with the same weights. In int4 dcompile takes the codes of the GGUF file as they are, and GenAI's
builder rounds what they mean once more; both multiply with activations of eight bits (accuracy level 4). So their
tokens differ. `exact` is dcompile's artifact of the same codes with activations in floats, with the tokens of fp32.

Both get the same prompt ids, generate the same number of tokens with eos ignored, on the same threads. Prints tokens a
second end to end (prefill included), the median ratios, whether the tokens are the same, the artifact's size, and the
time in which this machine's memory can be read once for all weights: every token needs that.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dcompile

PROMPTS = (
    "What is the capital of France?",
    "Write a Python function that reverses a linked list, and explain it.",
    "Explain in three sentences why the sky is blue.",
)
Engine = Callable[[list[int], int], list[int]]


def main() -> None:
    """Build both, then measure them in turn."""
    args = parse_args()
    for precision in args.precision:
        print(f"-- {precision}")
        compare(precision, args)


def compare(precision: str, args: argparse.Namespace) -> None:
    """Both engines with weights of this precision."""
    ours = build_ours(args, precision)
    session = dcompile.load(ours, threads=args.threads)
    prompts = [session.chat([{"role": "user", "content": p}]) for p in PROMPTS]
    engines = {"dcompile": engine(session), "onnxruntime-genai": genai(build_genai(args, precision), args)}
    if precision == "int4":
        engines["exact"] = engine(dcompile.load(build_ours(args, "exact"), threads=args.threads))
    measure(engines, prompts, args)
    weights = next(p for p in ours.iterdir() if p.suffix == ".safetensors").stat().st_size
    whole = sum(p.stat().st_size for p in ours.iterdir())
    print(f"artifact {whole / 1e6:.1f} MB, its weights file {weights / 1e6:.1f} MB")
    bus = bus_speed(args.threads)
    print(f"memory is read at {bus / 1e9:.1f} GB/s at best: no less than {weights / bus * 1e3:.1f} ms a token")


def engine(session: Any) -> Engine:
    """An artifact that has been opened."""
    return lambda prompt, count: list(session.generate(prompt, max_new_tokens=count, eos_ids=[]).output_ids)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("models/smollm2-135m-instruct.gguf"))
    parser.add_argument("--folder", type=Path, default=Path("build/bench"))
    parser.add_argument("--precision", nargs="+", choices=("fp32", "int4"), default=("fp32", "int4"))
    parser.add_argument("--capacity", type=int, default=1024)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def build_ours(args: argparse.Namespace, precision: str) -> Path:
    """The std strategy `greedy` for onnx, loop inside; kept from an earlier run."""
    out: Path = args.folder / {"fp32": "greedy"}.get(precision, f"greedy-{precision}")
    if not out.exists():
        began = time.perf_counter()
        options: dict[str, Any] = {} if precision == "fp32" else {"quantize": "int4"}
        options |= {"activations": "int8"} if precision == "int4" else {}
        dcompile.build("greedy", args.model, out, "onnx", max_length=args.capacity, **options)
        print(f"built in {time.perf_counter() - began:.0f} s")
    return out


def build_genai(args: argparse.Namespace, precision: str) -> Path:
    """GenAI's own model of the same weights, with an eos that is never proposed."""
    out: Path = args.folder / {"fp32": "genai"}.get(precision, f"genai-{precision}")
    if not (out / "genai_config.json").exists():
        checkpoint = args.folder / "checkpoint"
        if not checkpoint.exists():
            write_checkpoint(args.model, checkpoint)
        builder = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", str(checkpoint), "-o", str(out)]
        builder += ["-p", precision, "-e", "cpu"]
        builder += ["--extra_options", "int4_accuracy_level=4"] if precision == "int4" else []
        subprocess.run(builder, check=True, stdout=subprocess.DEVNULL)
    path = out / "genai_config.json"
    config = json.loads(path.read_text())
    config["model"]["eos_token_id"] = config["model"]["vocab_size"] - 1
    path.write_text(json.dumps(config))
    return out


def write_checkpoint(model: Path, folder: Path) -> None:
    """The dequantised weights as a transformers checkpoint folder."""
    import shutil

    from transformers import LlamaForCausalLM

    from dcompile.models import load_model

    loaded = load_model(model)
    whole = LlamaForCausalLM(loaded.backbone.config)
    whole.model = loaded.backbone
    whole.lm_head.weight = whole.model.embed_tokens.weight
    whole.config.architectures = ["LlamaForCausalLM"]
    whole.save_pretrained(folder)
    for path in loaded.files:
        shutil.copy(path, folder)


def genai(folder: Path, args: argparse.Namespace) -> Engine:
    """ONNX Runtime GenAI's generator loop."""
    import onnxruntime_genai as og

    config = og.Config(str(folder))
    config.overlay(json.dumps({"model": {"decoder": {"session_options": {"intra_op_num_threads": args.threads}}}}))
    model = og.Model(config)

    def run(prompt: list[int], count: int) -> list[int]:
        params = og.GeneratorParams(model)
        params.set_search_options(max_length=args.capacity, do_sample=False)
        generator = og.Generator(model, params)
        generator.append_tokens([prompt])
        for _ in range(count):
            generator.generate_next_token()
        return [int(t) for t in generator.get_sequence(0)[len(prompt) :]]

    return run


@dataclass(frozen=True)
class Time:
    """Seconds of a run, and of one that stops at its first token."""

    whole: float
    first: float
    tokens: int

    @property
    def speed(self) -> float:
        """Tokens a second, end to end."""
        return self.tokens / self.whole

    @property
    def step(self) -> float:
        """Seconds a token behind the first."""
        return (self.whole - self.first) / (self.tokens - 1)


def measure(engines: dict[str, Engine], prompts: list[list[int]], args: argparse.Namespace) -> None:
    """Alternate the engines; print each round's speeds, the medians, and the median ratio."""
    for engine in engines.values():
        engine(prompts[0], 8)
    times: dict[str, list[Time]] = {name: [] for name in engines}
    same = 0
    for turn in range(args.rounds):
        prompt, tokens = prompts[turn % len(prompts)], {}
        for name, engine in engines.items():
            began = time.perf_counter()
            engine(prompt, 1)
            first = time.perf_counter()
            tokens[name] = engine(prompt, args.tokens)
            times[name].append(Time(time.perf_counter() - first, first - began, args.tokens))
        same += len({tuple(tokens[name]) for name in list(engines)[:2]}) == 1
        print("  ".join(f"{name} {found[-1].speed:.1f} tok/s" for name, found in times.items()))
    for name, found in times.items():
        speed, first, step = (statistics.median(getattr(t, key) for t in found) for key in ("speed", "first", "step"))
        print(f"{name}: {speed:.1f} tok/s, first token {first * 1e3:.0f} ms, then {step * 1e3:.1f} ms a token")
    for what, key in (("end to end", "whole"), ("behind the first token", "step")):
        pairs = zip(times["dcompile"], times["onnxruntime-genai"], strict=True)
        ratios = [getattr(theirs, key) / getattr(ours, key) for ours, theirs in pairs]
        print(f"ratio {statistics.median(ratios):.2f} {what}, median of {args.rounds} alternating rounds")
    print(f"same tokens in {same} of {args.rounds}")


def bus_speed(threads: int, size: int = 2**27) -> float:
    """Bytes a second that `threads` threads read from memory: the best of ten sums over `size` floats."""
    import torch

    torch.set_num_threads(threads)
    floats, seconds = torch.ones(size), []
    for _ in range(10):
        began = time.perf_counter()
        floats.sum()
        seconds.append(time.perf_counter() - began)
    return size * 4 / min(seconds)


if __name__ == "__main__":
    main()
