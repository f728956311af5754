"""Greedy decoding of SmolLM2-135M-Instruct: dcompile's artifacts, and the engines that people would use instead."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import builds
import report
from engines import has_llama_cpp
from race import Run, race, ratio
from texts import prompts
from worker import Worker

CODES = ("--quantize", "int4", "--activations", "int8")  # of the GGUF file
ROUND = ("--quantize", "int4-symmetric", "--activations", "int8")  # as GenAI's builder rounds
INSIDE, FP32 = "dcompile fp32, inside", "dcompile fp32"
EXACT, INT4 = "dcompile int4 exact", "dcompile int4"
SYMMETRIC_INSIDE, SYMMETRIC = "dcompile int4 symmetric, inside", "dcompile int4 symmetric"
CPU_EXACT, CPU = "dcompile cpu int4 exact", "dcompile cpu int4 symmetric"
CPU_DRAFTS, DRAFTS = f"{CPU}, drafts", f"{SYMMETRIC}, one draft"
EAGER, COMPILED = "transformers", "transformers, torch.compile"
GENAI32, GENAI4, LLAMA = "GenAI fp32", "GenAI int4", "llama.cpp Q4_1"
DRAFTED = ("code", "chat")  # kinds of prompts for which drafts are tuned


# Of the target `onnx`; where nothing is said, its loop is cut at steps: the form for a host that gives the caches.
STEP = ("--loop", "step")
OWN = ("--target", "cpu")  # the loop inside
ARTIFACTS = {
    CPU_EXACT: (*OWN, "--quantize", "int4"),
    CPU: (*OWN, *ROUND),
    INSIDE: (),
    FP32: STEP,
    EXACT: ("--quantize", "int4", *STEP),
    INT4: (*CODES, *STEP),
    SYMMETRIC_INSIDE: ROUND,
    SYMMETRIC: (*ROUND, *STEP),
    DRAFTS: (*ROUND, *STEP, "--set", "width=1"),
}


RACED = {
    CPU_EXACT: (GENAI4, LLAMA, GENAI32),
    CPU: (GENAI4, LLAMA),
    CPU_DRAFTS: (GENAI4, CPU),
    FP32: (GENAI32,),
    INSIDE: (GENAI32,),
    EXACT: (GENAI32,),
    SYMMETRIC: (GENAI4, LLAMA),
    DRAFTS: (GENAI4, SYMMETRIC),
    SYMMETRIC_INSIDE: (GENAI4,),
    INT4: (GENAI4, LLAMA),
}


def autoregression(args: argparse.Namespace) -> tuple[dict[str, float | None], str, list[Run]]:
    """Greedy decoding, plain and with the drafts that `dcompile tune` chooses."""
    made = builds.at_once({name: partial(artifact, args, name, options) for name, options in ARTIFACTS.items()})
    asked = prompts(made[FP32].folder)
    said = []
    if not args.no_tune:
        known = [prompt for kind in DRAFTED for prompt in asked[kind]]
        out, text = builds.tuned("recent_lookup", args.model, known, args.folder / "tuned.dcs", *OWN, *ROUND)
        said.append(f"- `dcompile tune` for `cpu` on the prompts of code and chat: {text}")
        if out is not None:
            made[CPU_DRAFTS] = builds.artifact(args.folder / "cpu-drafts", str(out), args.model, *OWN, *ROUND)
    drafting = CPU_DRAFTS if CPU_DRAFTS in made else CPU
    specs = {name: {"engine": "dcompile", "folder": str(b.folder)} for name, b in made.items()} | competitors(args)
    workers = [Worker(name, {**spec, "threads": args.threads}) for name, spec in specs.items()]
    runs = [
        run
        for kind in report.KINDS
        for run in race(workers, kind, asked[kind], args.tokens, args.rounds, (EAGER, COMPILED))
    ]
    for worker in workers:
        worker.close()
    ratios = {
        "ar_int4_vs_genai": ratio(runs, CPU, GENAI4),
        "ar_int4_vs_llamacpp": ratio(runs, CPU, LLAMA),
        "ar_int4_exact_vs_genai": ratio(runs, CPU_EXACT, GENAI4),
        "ar_int4_exact_vs_llamacpp": ratio(runs, CPU_EXACT, LLAMA),
        "ar_int4_exact_vs_genai_fp32": ratio(runs, CPU_EXACT, GENAI32),
        "ar_int4_onnx_vs_genai": ratio(runs, SYMMETRIC, GENAI4),
        "ar_int4_inside_vs_genai": ratio(runs, SYMMETRIC_INSIDE, GENAI4),
        "ar_int4_codes_vs_genai": ratio(runs, INT4, GENAI4),
        "ar_int4_onnx_vs_llamacpp": ratio(runs, SYMMETRIC, LLAMA),
        "ar_int4_codes_vs_llamacpp": ratio(runs, INT4, LLAMA),
        "ar_fp32_vs_genai": ratio(runs, FP32, GENAI32),
        "ar_fp32_inside_vs_genai": ratio(runs, INSIDE, GENAI32),
        "ar_exact_vs_genai_fp32": ratio(runs, EXACT, GENAI32),
        **{f"spec_{kind}_vs_genai_int4": ratio(runs, drafting, GENAI4, kind) for kind in report.KINDS},
        **{f"spec_{kind}_onnx_vs_genai_int4": ratio(runs, DRAFTS, GENAI4, kind) for kind in report.KINDS},
        "kv_bytes_copied_fraction": made[INSIDE].copied / made[INSIDE].cache,
        "artifact_over_weights": max(over_weights(made[n], args.model, n) for n in made),
    }
    same = {n: FP32 for n in specs if n != FP32}
    table = report.markdown(report.speeds(runs, same))
    report.draw(runs, report.PAGE.with_suffix(".png") if args.page else args.out.with_suffix(".png"))
    shares = ", ".join(f"{kind} {share:.0%}" for kind, share in report.repeats(runs, FP32).items())
    said.append(f"- of the answers, so much ends a run of three tokens that stood before: {shares}")
    raced = report.markdown(report.pairs(runs, RACED))
    return ratios, "\n\n".join((table, raced, "\n".join(said), size_table(made))), runs


def artifact(args: argparse.Namespace, name: str, options: tuple[str, ...]) -> builds.Built:
    """Greedy decoding, or what drafts."""
    folder = args.folder / name.removeprefix("dcompile ").replace(", ", "-").replace(" ", "-")
    return builds.artifact(folder, "recent_lookup" if name == DRAFTS else "greedy", args.model, *options)


def competitors(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The other engines, by name."""
    source = builds.checkpoint(args.model, args.folder / "checkpoint")
    found: dict[str, dict[str, Any]] = {
        GENAI32: {"engine": "genai", "folder": str(builds.genai(source, "fp32", args.folder / "genai"))},
        GENAI4: {"engine": "genai", "folder": str(builds.genai(source, "int4", args.folder / "genai-int4"))},
        EAGER: {"engine": "transformers", "folder": str(source)},
        COMPILED: {"engine": "transformers-compiled", "folder": str(source)},
    }
    if has_llama_cpp():
        found[LLAMA] = {"engine": "llama.cpp", "path": str(args.model)}
    return found


def over_weights(built: builds.Built, model: Path, name: str) -> float:
    """Bytes of an artifact over those of the model's weights, each tied one once, in the artifact's precision."""
    from gguf import GGMLQuantizationType, GGUFReader

    from dcompile.models.blocks import WIDE

    bits = {GGMLQuantizationType.Q4_1: 4, GGMLQuantizationType.Q4_0: 4, GGMLQuantizationType.Q8_0: 8}

    def size(tensor: Any) -> int:
        count = int(tensor.n_elements)
        if name in (INSIDE, FP32):
            return count * 4
        if not name.startswith((SYMMETRIC, CPU)) or tensor.tensor_type not in bits:
            return int(tensor.n_bytes)
        return count * bits[tensor.tensor_type] // 8 + count // WIDE * 2  # a float16 for each block

    return built.size / sum(map(size, GGUFReader(str(model)).tensors))


def size_table(made: dict[str, builds.Built]) -> str:
    """What was built, how long it took and what it weighs."""
    rows = [["artifact", "built in, processor s", "memory of the build, MB", "size, MB", "KV copied a step"]]
    for name, built in made.items():
        share = f"{built.copied / built.cache:.1%}" if built.cache else ""
        rows.append([name, f"{built.seconds:.0f}", f"{built.memory / 1e6:.0f}", f"{built.size / 1e6:.1f}", share])
    return report.markdown(rows)
