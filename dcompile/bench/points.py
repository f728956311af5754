"""Which strategies are measured, at which parameters: `fast_dllm_none:threshold=0.5,0.7,0.9`."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path

from dcompile.diagnostic import error


@dataclass(frozen=True)
class Point:
    """One measurement: a strategy (a name or a path) and its parameters, as texts. The points of one `line` differ in
    what `at` says, such as `threshold=0.5`."""

    line: str
    at: str
    strategy: str
    settings: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return f"{self.line}: {self.at}" if self.at else self.line


def points(text: str) -> list[Point]:
    """A strategy and its parameters, one point for each choice among the values between commas. A line is named after
    what its points have in common, files without their folders.

    Neither a path nor a value may hold `:` or `,`.
    """
    strategy, *given = text.split(":")
    pairs = [item.partition("=") for item in given]
    if bad := [item for item, (name, _, values) in zip(given, pairs, strict=True) if not name or not values]:
        raise error(
            "bad-point", f"`{bad[0]}` in `{text}` is not NAME=VALUE", "write STRATEGY:NAME=VALUE,VALUE:NAME=VALUE"
        )
    names = [name for name, _, _ in pairs]
    choices = [values.split(",") for _, _, values in pairs]
    fixed = [f"{name}={Path(c[0]).name}" for name, c in zip(names, choices, strict=True) if len(c) == 1]
    varied = [name for name, values in zip(names, choices, strict=True) if len(values) > 1]
    line = " ".join([strategy, *fixed, *([f"by {', '.join(varied)}"] if varied else [])])
    return [
        Point(line, " ".join(f"{n}={v}" for n, v in zip(names, chosen, strict=True) if n in varied), strategy,
              tuple(zip(names, chosen, strict=True)))
        for chosen in product(*choices)
    ]  # fmt: skip
