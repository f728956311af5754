"""Steps compiled for another processor, or to C, give the oracle's tokens from the C++ host of examples/cpp."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
import tvm
import tvm_ffi

import dcompile
from dcompile.compiler import in_blocks, load_all, read
from dcompile.reference import run as oracle
from dcompile.verify import verify
from tests.cli.checkpoint import write

ROOT = Path(__file__).parents[3]
LLADA = ROOT / "tests" / "conformance" / "models" / "tiny-llada-gqa"
ARM = "aarch64-linux-gnu"
PROMPT, LENGTH = [5, 6, 7, 8], 32
KINDS = [("greedy", None), ("masked", None), ("greedy", "int8")]
LIBRARIES = ("-ltvm_runtime", "-ltvm_runtime_extra", "-ltvm_ffi")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(platform.system() != "Linux", reason="the runtime's libraries are named as on Linux"),
]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("llama"))


def host(compiler: str, libraries: Sequence[Path], out: Path) -> Path:
    """The C++ example, compiled with TVM's runtime as a machine has it."""
    include = Path(tvm_ffi.__file__).parent / "include"
    places = [option for place in libraries for option in (f"-L{place}", f"-Wl,-rpath-link,{place}")]
    source = ROOT / "examples" / "cpp" / "run.cpp"
    command = [compiler, "-std=c++17", "-O1", f"-I{include}", str(source), "-o", str(out), *places]
    subprocess.run([*command, "-Wl,--no-as-needed", *LIBRARIES], check=True)
    return out


def answer(command: Sequence[str | Path], artifact: Path, environment: dict[str, str], *more: str | Path) -> list[int]:
    prompt = ",".join(map(str, PROMPT))
    whole = [*command, artifact, prompt, str(LENGTH), *more]
    done = subprocess.run(whole, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr
    return [int(token) for token in done.stdout.strip().split(",")]


def expected(strategy: str, model: Path, quantize: str | None) -> list[int]:
    """The oracle's tokens, on the floats that codes mean."""
    checked = read(strategy)
    models = {name: in_blocks(found, quantize) for name, found in load_all(checked, model).items()}
    return list(oracle(checked, models, PROMPT, length=LENGTH).output_ids)


def built(strategy: str, model: Path, out: Path, machine: str, quantize: str | None = None) -> Path:
    dcompile.build(
        strategy, model, out, "tvm", max_length=64, loop="step", rng=False, machine=machine, quantize=quantize
    )  # fmt: skip
    return out


def pair(name: str, llama: Path) -> tuple[str, Path]:
    return ("greedy", llama) if name == "greedy" else ("fast_dllm_dual", LLADA)


@pytest.mark.parametrize(("name", "quantize"), KINDS)
def test_an_arm_processor_gives_the_oracles_tokens(
    name: str, quantize: str | None, llama: Path, tmp_path: Path
) -> None:
    for tool, package in (("qemu-aarch64", "qemu-user"), (f"{ARM}-g++", f"g++-{ARM}")):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}: apt-get install {package}")
    libraries = [ROOT / "build" / "aarch64" / place / "lib" for place in ("tvm", "tvm_ffi")]
    if not all(place.is_dir() for place in libraries):
        pytest.skip("needs TVM's runtime for aarch64: make arm")
    strategy, model = pair(name, llama)
    artifact = built(strategy, model, tmp_path / "artifact", ARM, quantize)
    program = host(f"{ARM}-g++", libraries, tmp_path / "run")
    command = ["qemu-aarch64", "-L", f"/usr/{ARM}", "-E", "LD_LIBRARY_PATH=" + ":".join(map(str, libraries)), program]
    assert answer(command, artifact, {"PATH": "/usr/bin:/bin"}) == expected(strategy, model, quantize)


@pytest.mark.parametrize(("name", "quantize"), KINDS)
def test_c_gives_the_oracles_tokens(name: str, quantize: str | None, llama: Path, tmp_path: Path) -> None:
    if shutil.which("cc") is None or shutil.which("g++") is None:
        pytest.skip("needs a C and a C++ compiler")
    strategy, model = pair(name, llama)
    artifact = built(strategy, model, tmp_path / "artifact", "c", quantize)
    with pytest.raises(dcompile.CompileError) as caught:
        dcompile.load(artifact)
    (problem,) = caught.value.diagnostics
    assert problem.help is not None
    said = problem.help.removeprefix("compile it: ").replace("-O3", "-O1")
    subprocess.run(said, shell=True, check=True)
    outcomes = list(verify(artifact, model, [PROMPT], max_new_tokens=LENGTH))
    assert [o.verdict for o in outcomes] == ["same"]
    libraries = [Path(tvm.__file__).parent / "lib", Path(tvm_ffi.__file__).parent / "lib"]
    program = host("g++", libraries, tmp_path / "run")
    environment = {"LD_LIBRARY_PATH": ":".join(map(str, libraries))}
    found = answer([program], artifact, environment, artifact / "program.so")
    assert found == expected(strategy, model, quantize)


def test_the_example_is_short() -> None:
    assert len((ROOT / "examples" / "cpp" / "run.cpp").read_text().splitlines()) <= 130
