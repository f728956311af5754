"""Literate tests: the ```dcs blocks of a Markdown page are run; the ```text block behind each is what they print."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from dcompile.diagnostic import CompileError
from dcompile.dsl import load
from dcompile.dsl.checker import check_model, check_models
from dcompile.model import Facts
from dcompile.source import Source

MODELS = Path(__file__).parents[1] / "conformance" / "models"  # where the paths of examples start
BLOCK = re.compile(r"^```dcs *([^\n]*)\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.M | re.S)


@dataclass(frozen=True)
class Example:
    """A program, how it is run (`set:name=value`, `model:shift`), and what it printed when that was last accepted."""

    title: str
    options: str
    text: str
    printed: str


def examples(path: Path) -> list[Example]:
    """The examples of a page; each is named by the heading above it."""
    page = path.read_text(encoding="utf-8")
    out = []
    for found in BLOCK.finditer(page):
        headings = re.findall(r"^#+ (.*)$", page[: found.start()], re.M)
        title = headings[-1] if headings else path.stem
        out.append(Example(title, found[1], found[2], found[3] or ""))
    return out


def printed(example: Example) -> str:
    """What the checker says of a program: the rendered mistakes, or nothing."""
    words = example.options.split()
    settings = dict(word[4:].split("=", 1) for word in words if word.startswith("set:"))
    models = [word[6:] for word in words if word.startswith("model:")]
    try:
        strategy = load(Source("example.dcs", example.text, MODELS), settings)
    except CompileError as e:
        return f"{e}\n"
    if len(models) > 1:
        kinds = zip(strategy.models, models, strict=True)
        found = check_models(strategy, {use.name: facts(kind) for use, kind in kinds})
    else:
        found = [d for kind in models for d in check_model(strategy, facts(kind))]
    return "\n\n".join(map(str, found)) + ("\n" if found else "")


def facts(kind: str) -> Facts:
    """A small model of a kind: `causal`, `full`, `no-mask`, `shift`, `block_causal`; `causal/500` has 500 tokens."""
    kind, _, vocab = kind.partition("/")
    attention = kind if kind in ("causal", "block_causal") else "full"
    mask = None if kind in ("causal", "no-mask") else 3
    return Facts(
        "tiny", attention, kind == "shift", int(vocab or 512), 64, 2, 4, 2, 16, 2048, mask, (1,), source=f"tiny-{kind}"
    )  # type: ignore[arg-type]


def accepted(path: Path) -> str:
    """The page with each text block replaced by what comes out now."""

    def block(found: re.Match[str]) -> str:
        out = printed(Example("", found[1], found[2], ""))
        text = f"\n```text\n{out}```\n" if out else ""
        return f"```dcs{' ' + found[1] if found[1] else ''}\n{found[2]}```\n{text}"

    return BLOCK.sub(block, path.read_text(encoding="utf-8"))
