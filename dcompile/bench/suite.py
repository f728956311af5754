"""A suite: a model, and tasks of questions whose answers can be told right from wrong. It is a Python file."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dcompile.diagnostic import error

NAMED = {"lists": "examples/list_tasks/suite.py"}  # in a checkout of the project


@dataclass(frozen=True)
class Question:
    """A user's message, and whether a text is a right answer to it."""

    text: str
    right: Callable[[str], bool]


@dataclass(frozen=True)
class Suite:
    """`model`: a checkpoint; `length`: of every answer, in tokens; `room`: for the longest prompt and its answer, in
    tokens; `tasks`: questions by the task's name; `strategies`: what is measured where the user names none, as texts of
    `points`."""

    model: Path
    length: int
    room: int
    tasks: Mapping[str, Sequence[Question]]
    strategies: tuple[str, ...]


def open_suite(name: str, count: int) -> Suite:
    """The suite of that name, or in that file, with `count` questions a task: what its `suite(count)` gives."""
    path = _find(name)
    sys.path.insert(0, str(path.parent))  # its neighbours are imported by their names
    try:
        spec = importlib.util.spec_from_file_location(f"{path.parent.name}_{path.stem}", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    made = module.suite(count) if hasattr(module, "suite") else None
    if not isinstance(made, Suite):
        raise error("bad-suite", f"`{path}` has no function `suite(count)` that gives a dcompile.bench.suite.Suite")
    return made


def _find(name: str) -> Path:
    if name in NAMED:
        roots = (Path.cwd(), Path(__file__).parents[2])
        found = next((root / NAMED[name] for root in roots if (root / NAMED[name]).is_file()), None)
        if found is None:
            raise error("no-suite", f"`{NAMED[name]}` is not here", "run in a checkout of dcompile, or name a file")
        return found
    if Path(name).suffix != ".py" or not Path(name).is_file():
        raise error(
            "no-suite", f"there is no suite `{name}`", f"the suites are: {', '.join(NAMED)}; or name a .py file"
        )
    return Path(name).resolve()
