"""SmolLM2-135M-Instruct and a diffusion model of its size: dcompile's artifacts against what people would use instead.

    make bench        # or: python examples/bench/run.py --parts ar --rounds 5 --tokens 128

Every engine runs in a process of its own, on the same threads, with the same prompt ids, greedily, for the same number
of tokens with eos ignored; engines take turns, and a ratio is the median over rounds of both in the same round. Writes
`build/bench.json` and a plot beside it; with --page also the tables and the plot of docs/performance.md.

In fp32 all compute with the same weights. In int4 dcompile and llama.cpp take the codes of the GGUF file as they are;
GenAI's builder and `int4 symmetric` round what they mean once more. `int4` multiplies with activations of eight bits,
as GenAI and llama.cpp do; `int4 exact` with floats.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import report
from autoregression import autoregression
from diffusion import between, diffusion
from stepping import tvm

from dcompile.doctor import machine

PARTS = ("ar", "diffusion", "tvm", "between")


def main() -> None:
    """Run the parts that are asked for and write what they give."""
    args = parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    results: dict[str, Any] = {"command": shlex.join(["python", "examples/bench/run.py", *sys.argv[1:]])}
    results |= {"machine": machine(), "ratios": {}, "runs": {}}
    texts = []
    for part in args.parts:
        ratios, text, runs = PART[part](args)
        results["ratios"] |= ratios
        results["runs"][part] = [vars(run) | {"prompt": len(run.prompt)} for run in runs]
        texts.append(text)
        print(f"\n{text}\n", flush=True)
        report.write_json(args.out, results)
    for name, value in results["ratios"].items():
        print(f"{name:26} {'not measured' if value is None else f'{value:.3f}'}")
    print(f"{args.out} written after {(time.perf_counter() - began) / 60:.0f} minutes")
    if args.page:
        report.replace_part(report.PAGE, "\n\n".join(texts))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--model", type=Path, default=Path("models/smollm2-135m-instruct.gguf"))
    parser.add_argument("--folder", type=Path, default=Path("build/bench"))
    parser.add_argument("--out", type=Path, default=Path("build/bench.json"))
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3, help="of each kind of prompt")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-tune", action="store_true", help="leave out drafts, which are tuned first")
    parser.add_argument("--page", action="store_true", help="write the tables into docs/performance.md")
    return parser.parse_args()


PART = {"ar": autoregression, "diffusion": diffusion, "tvm": tvm, "between": between}

if __name__ == "__main__":
    main()
