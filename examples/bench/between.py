"""What a strategy's rules cost between two forwards, on a masked model of SmolLM2-135M's size with full attention.

    python examples/bench/between.py                    # or with names of strategies

The model is planted (planted.py); for KLASS, which asks besides that distributions come to rest, attention is weaker
and the head larger. Each strategy is built for `onnx`, loop inside, and run once under ONNX Runtime's profiler. A
node's name tells the line of the strategy that it comes from: what a line that calls the model does belongs to the
forward (the head as well), all other lines and the loops' own conditions are the work between two forwards.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from planted import CALM, PLANTED, SIZES, planted

import dcompile
from dcompile.artifact import open_artifact
from dcompile.explain.onnx import CONTROL
from dcompile.feed import feed
from dcompile.options import Options, requests

STRATEGIES = ("fast_dllm_dual", "fast_dllm_none", "local_leap", "klass", "hierarchy")


def main() -> None:
    """Print a line a strategy, and with --lines the lines of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("strategies", nargs="*", default=STRATEGIES)
    parser.add_argument("--folder", type=Path, default=Path("build/bench"))
    parser.add_argument("--prompt", type=int, default=64, help="tokens")
    parser.add_argument("--answer", type=int, default=64, help="tokens")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--lines", action="store_true", help="print the time of each line as well")
    args = parser.parse_args()
    for name in args.strategies:
        measured(name, args)


def measured(name: str, args: argparse.Namespace) -> float:
    """Build a strategy's artifact, unless it is there, and report on it."""
    calm = name == "klass"
    model = planted(args.folder / ("calm" if calm else "planted"), CALM if calm else PLANTED)
    artifact = args.folder / f"between-{name}"
    if not artifact.exists():
        dcompile.build(name, model, artifact, "onnx", max_length=256, rng=False)
    return report(name, artifact, args)


def report(name: str, artifact: Path, args: argparse.Namespace) -> float:
    """Run under the profiler and print where the time of a step goes; the fraction of it between two forwards."""
    prompt = np.random.default_rng(0).integers(10, SIZES["vocab_size"], args.prompt).tolist()
    result = dcompile.load(artifact, args.threads).generate(prompt, max_new_tokens=args.answer, eos_ids=[])
    times = profile(artifact, prompt, args)
    text = (artifact / "strategy.dcs").read_text(encoding="utf-8")
    forward = sum(ns for place, ns in times.items() if is_forward(place, text))
    whole, calls = sum(times.values()), result.model_calls
    print(
        f"{name}: {calls} calls, {sum(result.committed_per_call) / calls:.1f} tokens a call, "
        f"{whole / calls / 1e3:.1f} ms a step, {100 * (whole - forward) / whole:.1f} % of it between two forwards"
    )
    if args.lines:
        for place, ns in times.most_common(12):
            line = text.splitlines()[int(place.removesuffix(".model")[1:]) - 1].strip() if place[:1] == "L" else ""
            print(f"  {ns / calls / 1e3:8.3f} ms  {place:10} {line}")
    return (whole - forward) / whole


def is_forward(place: str, text: str) -> bool:
    """Whether nodes of this origin run the model: its own, and all that a line with a call does."""
    if not place.startswith("L"):
        return place in ("model", "prefill")
    line = text.splitlines()[int(place.removesuffix(".model")[1:]) - 1]
    return place.endswith(".model") or "= lm(" in line


def profile(artifact: Path, prompt: list[int], args: argparse.Namespace) -> Counter[str]:
    """Microseconds by origin, of one run of the artifact."""
    manifest = open_artifact(artifact).manifest
    options = Options(max_new_tokens=args.answer, eos_ids=[])
    inputs = feed(manifest, requests(manifest, [tuple(prompt)], options, None), {})
    with tempfile.TemporaryDirectory() as folder:
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = args.threads
        settings.enable_profiling, settings.profile_file_prefix = True, f"{folder}/run"
        session = ort.InferenceSession(str(artifact / "main.onnx"), settings)
        session.run(None, {port.name: inputs[port.name] for port in session.get_inputs()})
        events = json.loads(Path(session.end_profiling()).read_text())
    return by_origin(e for e in events if e.get("cat") == "Node" and e["name"].endswith("_kernel_time"))


def by_origin(events: Iterable[dict[str, Any]]) -> Counter[str]:
    """Microseconds by origin. The nodes inside of loops and branches count by themselves; of a loop that a line of the
    strategy makes, what its nodes leave (starting turns, copying) counts as well."""
    times: Counter[str] = Counter()
    open_: list[tuple[int, str]] = []  # loops and branches that an event may lie in: their ends and origins
    for event in sorted(events, key=lambda e: (e["ts"], -e["dur"])):
        place = event["name"].partition("/")[0] if "/" in event["name"] else "-"
        open_ = [(end, outer) for end, outer in open_ if end > event["ts"]]
        if event["args"]["op_name"] not in CONTROL:
            times[place] += event["dur"]
            if open_ and open_[-1][1] != "-":
                times[open_[-1][1]] -= event["dur"]
            continue
        if place != "-":
            times[place] += event["dur"]
            if open_ and open_[-1][1] != "-":
                times[open_[-1][1]] -= event["dur"]
        open_.append((event["ts"] + event["dur"], place))
    return times


if __name__ == "__main__":
    main()
