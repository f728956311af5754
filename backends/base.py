"""What a backend is: two facts and three methods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from dcompile.diagnostic import Diagnostic
    from dcompile.models import Model
    from dcompile.passes.base import Stage
    from dcompile.program import Program


class Backend(ABC):
    """The build side. A backend holds no state; `load` stands in a module of its own (`registry.LOADERS`), so that a
    deployed app imports the runtime alone."""

    name: ClassVar[str]
    stages: ClassVar[tuple[Stage, ...]] = ()
    loops: ClassVar[tuple[str, ...]] = ("inside", "block", "step")
    quantises: ClassVar[bool] = False  # whether it can multiply with matrices in blocks
    in_place: ClassVar[bool] = (
        False  # whether steps write into the host's caches: then no pass need spare copies of them
    )

    def chunk(self, models: Sequence[Model], batch: int, capacity: int) -> int | None:
        """How many slots of a prompt are best stored at a time; None leaves it to lowering."""
        return None

    @abstractmethod
    def missing(self, program: Program) -> Sequence[Diagnostic]:
        """What of `program` this backend cannot run; empty means that it can."""

    @abstractmethod
    def build(self, program: Program, folder: Path) -> dict[str, str]:
        """Write everything a later process needs into `folder`; the file of each graph by the graph's name."""
