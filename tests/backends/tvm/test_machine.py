"""What `--machine` names, what it is refused for, and where an artifact may be opened."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import dcompile
from dcompile.artifact import Machine
from dcompile.backends import processors, registry
from dcompile.backends.tvm import machine
from dcompile.backends.tvm.build import TVM
from dcompile.backends.tvm.run import load
from dcompile.compiler import Order, backend_for
from dcompile.diagnostic import CompileError
from tests.backends import toys

ARM = "aarch64-linux-gnu"


def refused(said: str, target: str = "tvm") -> str:
    with pytest.raises(CompileError) as caught:
        backend_for(Order(target, loop="step", machine=said))
    return str(caught.value)


def test_a_machine_is_a_triple_and_a_processor() -> None:
    backend = registry.builder("tvm").compiling_for(f"{ARM}:cortex-a76")
    assert backend.machine == Machine(
        triple=ARM, cpu="cortex-a76", features=("dotprod", "fullfp16", "lse", "neon")
    )  # fmt: skip
    assert registry.builder("tvm").compiling_for("x86_64-linux-gnu").machine == Machine(
        triple="x86_64-linux-gnu", cpu="x86-64"
    )
    assert registry.builder("tvm").compiling_for("c").machine == Machine(triple="c", cpu="")
    assert registry.builder("onnx").machine is None


def test_unknown_machines_are_told() -> None:
    assert refused("aarch64-linux-gun") == (
        "error[unknown-machine]: the target `tvm` cannot compile for `aarch64-linux-gun`\n"
        "  = help: did you mean `aarch64-linux-gnu`?"
    )
    assert "machines: `aarch64-linux-gnu`, `c`, `x86_64-linux-gnu`" in refused("vax")
    assert refused(f"{ARM}:cortex-a7x") == (
        "error[unknown-machine]: aarch64-linux-gnu has no processor `cortex-a7x`\n  = help: did you mean `cortex-a78`?"
    )
    assert "cannot compile for `c:fast`" in refused("c:fast")


def test_other_targets_compile_for_no_other_machine() -> None:
    assert refused(ARM, "onnx") == (
        "error[unknown-machine]: target `onnx` compiles for no other machine\n  = help: choose the target `tvm`"
    )


def test_what_linking_needs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    other = "aarch64" if processors.architecture() == "x86_64" else "x86_64"
    (problem,) = TVM(machine.code(f"{other}-linux-gnu")).missing(toys.program())
    assert str(problem) == (
        f"error[no-compiler]: linking for {other}-linux-gnu needs `{other}-linux-gnu-g++`\n"
        f"  = help: install it: apt-get install g++-{other.replace('_', '-')}-linux-gnu (Debian, Ubuntu)"
    )
    assert TVM(machine.code("c")).missing(toys.program()) == []


def message(found: Machine) -> str:
    with pytest.raises(CompileError) as caught:
        processors.check(found)
    return str(caught.value)


def test_code_of_another_machine_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors, "architecture", lambda: "x86_64")
    assert message(Machine(triple=ARM, cpu="generic")) == (
        "error[other-machine]: the artifact is compiled for aarch64-linux-gnu, and this machine is x86_64\n"
        "  = help: run it on aarch64, or build it here without --machine"
    )
    monkeypatch.setattr(processors, "flags", lambda: frozenset({"avx2", "fma"}))
    assert message(Machine(triple="x86_64-linux-gnu", cpu="znver4", features=("avx2", "avx512f", "fma"))) == (
        "error[other-machine]: the artifact is compiled for the processor `znver4`, and this one has no avx512f\n"
        "  = help: build it here, or anywhere with --machine x86_64-linux-gnu"
    )
    processors.check(Machine(triple="x86_64-linux-gnu", cpu="haswell", features=("avx2", "fma")))
    processors.check(Machine(triple="c", cpu=""))
    processors.check(None)


def test_what_a_hypervisor_hides_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    code = machine.Code("x86_64-linux-gnu", "znver4", native=True)
    monkeypatch.setattr(processors, "flags", lambda: frozenset({"avx2", "fma"}))
    assert code.features == ("avx2", "fma")
    assert "-avx512f" in str(code.target)
    assert "avx512f" in machine.code("x86_64-linux-gnu:znver4").features


def test_this_machine_may_run_what_it_builds() -> None:
    processors.check(machine.host().described())


def test_c_is_compiled_before_it_is_run(tmp_path: Path) -> None:
    backend = TVM(machine.code("c"))
    program = toys.program(toys.graph("first", toys.step, toys.weights()))
    files = backend.build(program, tmp_path)
    assert files == {"first": "kernels.c"}
    assert {p.name for p in tmp_path.iterdir()} == {"kernels.c", "program.c", "graphs.json", "weights.safetensors"}
    with pytest.raises(CompileError) as caught:
        load(tmp_path, files)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"error[not-compiled]: `{tmp_path}` holds C source, and no program.so made of it"
    assert lines[1].startswith(f"  = help: compile it: cd {tmp_path} && cc -O3 -w -shared -fPIC -I")
    assert lines[1].endswith("kernels.c program.c -o program.so -lm")


def test_the_manifest_names_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.cli.checkpoint import write

    model = write(tmp_path / "model", layers=1)
    made = dcompile.build("greedy", model, tmp_path / "out", "tvm", max_length=64, loop="step", rng=False, machine="c")
    assert made.manifest.machine == Machine(triple="c", cpu="")
