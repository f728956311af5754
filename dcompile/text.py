"""Text to tokens and back, with the tokenizer and chat template of an artifact; no transformers.

Chat templates run in Jinja's sandbox with the names that transformers gives them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from dcompile.diagnostic import error
from dcompile.model import Facts

TOKENIZER = "tokenizer.json"
TEMPLATE = "chat_template.jinja"
BROKEN = "\N{REPLACEMENT CHARACTER}"  # what a decoder gives for half a character


@dataclass(frozen=True)
class Text:
    """A tokenizer, the checkpoint's chat template if it has one, and its special tokens."""

    tokenizer: Tokenizer
    template: str | None
    bos: str | None
    eos: str | None
    eos_ids: frozenset[int]

    def encode(self, text: str, special: bool = True) -> list[int]:
        """Token ids; `special` lets the tokenizer add what it adds to a bare text (often a bos)."""
        return [int(i) for i in self.tokenizer.encode(text, add_special_tokens=special).ids]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens, without special ones."""
        return str(self.tokenizer.decode([int(i) for i in ids], skip_special_tokens=True))

    def chat(self, messages: Sequence[dict[str, str]]) -> str:
        """Messages (`role`, `content`) in the form of the checkpoint, ready for the answer."""
        if self.template is None:
            raise error("no-chat-template", "the model has no chat template", "give the text with --prompt")
        try:
            compiled = _environment().from_string(self.template)
            return compiled.render(
                messages=list(messages), tools=None, documents=None, add_generation_prompt=True,
                bos_token=self.bos or "", eos_token=self.eos or "",
            )  # fmt: skip
        except Exception as e:  # a template is a program of the checkpoint: it can fail in any way
            raise error("chat-template", f"the chat template of the model refuses these messages: {e}") from e


def open_text(folder: Path, facts: Facts) -> Text | None:
    """The tokenizer of an artifact or checkpoint folder; None where it has none (then ids go in and out)."""
    path = folder / TOKENIZER
    if not path.is_file():
        return None
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as e:  # the library raises bare Exception
        raise error("unreadable-tokenizer", f"`{path}` cannot be read: {e}") from e
    tokenizer.no_padding()
    tokenizer.no_truncation()
    template = folder / TEMPLATE
    name: Callable[[int | None], str | None] = lambda i: None if i is None else tokenizer.id_to_token(i)  # noqa: E731
    return Text(
        tokenizer,
        template.read_text(encoding="utf-8") if template.is_file() else None,
        name(facts.bos_id),
        name(facts.eos_ids[0] if facts.eos_ids else None),
        frozenset(facts.eos_ids),
    )


def whole(text: str) -> str:
    """`text` without half a character at its end."""
    return text.rstrip(BROKEN)


def find_stop(text: str, stops: Sequence[str]) -> int | None:
    """Where the first of the stop strings begins in `text`."""
    found = [at for s in stops if (at := text.find(s)) >= 0]
    return min(found) if found else None


def safe(text: str, stops: Sequence[str]) -> str:
    """`text` without an end that may turn out to be the beginning of a stop string."""
    held = max((n for s in stops for n in range(1, len(s)) if text.endswith(s[:n])), default=0)
    return text[: len(text) - held]


class _Generation(Extension):
    """`{% generation %}`, with which transformers marks the assistant's words: they are rendered as they stand."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **rest: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **rest)


def _refuse(message: str) -> None:
    raise jinja2.TemplateError(message)
