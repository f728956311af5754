"""What TVM compiles for: the processor of this machine, another one by its triple, or C source for any compiler."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import Any

import tvm
from tvm.target import codegen

from dcompile.artifact import Machine
from dcompile.backends.processors import FEATURES, SOURCE, architecture, lacking
from dcompile.diagnostic import Diagnostic, error, suggest

GENERIC = {"x86_64": "x86-64", "aarch64": "generic"}  # what any processor of the kind is
TRIPLES = tuple(f"{kind}-linux-gnu" for kind in GENERIC)


@dataclass(frozen=True)
class Code:
    """`native`: compiled where it is to run, with every instruction that this processor has."""

    triple: str
    cpu: str = ""
    native: bool = False

    @property
    def is_source(self) -> bool:
        return self.triple == SOURCE

    @property
    def target(self) -> Any:
        """TVM's target."""
        if self.is_source:
            return tvm.target.Target({"kind": "c"})
        without = [f"-{f}" for f in lacking(self._known())] if self.native else []  # a hypervisor may hide some
        options = {"mtriple": self.triple, "mcpu": self.cpu, **({"mattr": without} if without else {})}
        return tvm.target.Target({"kind": "llvm", **options})

    @property
    def features(self) -> tuple[str, ...]:
        """The instructions that the code may use, of those that can be lacking."""
        hidden = set(lacking(self._known())) if self.native else set()
        return () if self.is_source else tuple(f for f in self._known() if f not in hidden)

    def _known(self) -> list[str]:
        target = tvm.target.Target({"kind": "llvm", "mtriple": self.triple, "mcpu": self.cpu})
        return sorted({str(f) for f in codegen.llvm_get_cpu_features(target)} & FEATURES.keys())

    @property
    def linker(self) -> str:
        """The compiler that makes a shared library of objects."""
        if self.triple.split("-")[0] == architecture():
            return os.environ.get("CXX", "g++")
        return f"{self.triple}-g++"

    def missing(self) -> list[Diagnostic]:
        """What must be installed before this can be built."""
        if self.is_source or shutil.which(self.linker) is not None:
            return []
        package = "g++" if self.linker == "g++" else f"g++-{self.triple.replace('_', '-')}"
        title = f"linking for {self.triple} needs `{self.linker}`"
        return [Diagnostic("no-compiler", title, help=f"install it: apt-get install {package} (Debian, Ubuntu)")]

    def described(self) -> Machine:
        """For the manifest."""
        return Machine(triple=self.triple, cpu=self.cpu, features=self.features)


def host() -> Code:
    """The processor of this machine."""
    kind = architecture()
    return Code(f"{kind}-linux-gnu", str(codegen.llvm_get_system_cpu()), native=True)


def code(said: str | None) -> Code:
    """What `--machine` says: `TRIPLE`, `TRIPLE:PROCESSOR`, `c`, or nothing."""
    if said is None:
        return host()
    if said == SOURCE:
        return Code(SOURCE)
    triple, colon, cpu = said.partition(":")
    if triple not in TRIPLES:
        known = suggest(triple, (*TRIPLES, SOURCE), "machines")
        raise error("unknown-machine", f"the target `tvm` cannot compile for `{said}`", known)
    if not colon:
        return Code(triple, GENERIC[triple.split("-")[0]])
    plain = tvm.target.Target({"kind": "llvm", "mtriple": triple})
    processors = [str(name) for name in codegen.llvm_get_cpu_archlist(plain)]
    if cpu not in processors:
        raise error("unknown-machine", f"{triple} has no processor `{cpu}`", suggest(cpu, processors, "processors"))
    return Code(triple, cpu)
