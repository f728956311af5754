"""What a backend is: two facts and three methods; the rest has a default."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from dcompile.diagnostic import error

if TYPE_CHECKING:
    from dcompile.artifact import Machine
    from dcompile.diagnostic import Diagnostic
    from dcompile.models import Model
    from dcompile.passes.base import Stage
    from dcompile.program import Program


BLOCKS = ("int4", "int4-symmetric", "int8")  # matrices in blocks


class Backend(ABC):
    """The build side. A backend holds no state; `load` stands in a module of its own (`registry.LOADERS`), so that a
    deployed app imports the runtime alone."""

    name: ClassVar[str]
    stages: ClassVar[tuple[Stage, ...]] = ()
    loops: ClassVar[tuple[str, ...]] = ("inside", "block", "step")
    quantises: ClassVar[tuple[str, ...]] = ()  # the precisions of matrices that it can multiply with, beside float32
    in_place: ClassVar[tuple[str, ...]] = ()  # forms of the loop that write into caches where they lie
    rounds: ClassVar[bool] = False  # whether such products may round what they multiply with

    def chunk(self, models: Sequence[Model], batch: int, capacity: int) -> int | None:
        """How many slots of a prompt are best stored at a time; None leaves it to lowering."""
        return None

    def compiling_for(self, machine: str) -> Backend:
        """This backend, compiling for what `--machine` names; refused by those that compile nothing, or here alone."""
        raise error("unknown-machine", f"target `{self.name}` compiles for no other machine", "choose the target `tvm`")

    @property
    def machine(self) -> Machine | None:
        """What the code runs on, where that is one kind of processor."""
        return None

    @abstractmethod
    def missing(self, program: Program) -> Sequence[Diagnostic]:
        """What of `program` this backend cannot run; empty means that it can."""

    @abstractmethod
    def build(self, program: Program, folder: Path) -> dict[str, str]:
        """Write everything a later process needs into `folder`; the file of each graph by the graph's name."""
