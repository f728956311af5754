"""Run an artifact: `load(path).generate(prompt)`. Needs NumPy and the runtime of the artifact's target; no torch."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, overload

import numpy as np

from dcompile.artifact import Artifact, open_artifact
from dcompile.backends import processors, registry
from dcompile.diagnostic import error, suggest
from dcompile.drive import Executable
from dcompile.feed import Arrays, check
from dcompile.generation import Generation
from dcompile.options import Options, requests
from dcompile.result import Result as Result
from dcompile.text import Text, open_text

Prompt = str | Sequence[int]


@dataclass(frozen=True)
class Session:
    """An open artifact. A prompt is a text or token ids. `memory`: the states that live for the session."""

    artifact: Artifact
    executable: Executable
    text: Text | None = None
    memory: Arrays = field(default_factory=dict)

    @overload
    def generate(self, prompt: str | Sequence[int], **options: Any) -> Result: ...
    @overload
    def generate(self, prompt: Sequence[str] | Sequence[Sequence[int]], **options: Any) -> list[Result]: ...
    def generate(self, prompt: Any, **options: Any) -> Result | list[Result]:
        """Answer one prompt with a Result, or a sequence of prompts with a list of them.

        `options` are the fields of `dcompile.options.Options`: `max_new_tokens`, `temperature`, `top_k`, `top_p`,
        `min_p`, `repetition_penalty`, `banned_tokens`, `min_length`, `eos_ids`, `stop`, `seed`, `template`. Raises
        CompileError for what the artifact cannot run.
        """
        one = _is_one(prompt)
        results = self.run([prompt] if one else prompt, **options).results()
        return results[0] if one else results

    def run(self, prompts: Sequence[Prompt], **options: Any) -> Generation:
        """As `generate`, for who wants to see more than results: the finished generation."""
        return self._start(prompts, options).finish()

    def stream(self, prompt: Prompt, **options: Any) -> Stream:
        """Answer one prompt piece by piece: iterate over the texts, then read `result`.

        Text comes after each turn of a cut loop. It comes at the end where the loop is inside, or where the strategy
        may still change what it has committed.
        """
        if not _is_one(prompt):
            raise error("batch-mismatch", "only one prompt can be streamed", "use `generate` for several")
        return Stream(self._start([prompt], options))

    def chat(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """The prompt of a conversation (`role`, `content`), in the form of the checkpoint's chat template."""
        text = self._tokenizer("a conversation")
        return text.encode(text.chat(messages), special=False)

    def _start(self, prompts: Sequence[Prompt], options: dict[str, Any]) -> Generation:
        manifest = self.artifact.manifest
        chosen = _options(options)
        if chosen.stops:
            self._tokenizer("a stop string")
        rows = requests(manifest, [self.encode(p) for p in prompts], chosen, self._template)
        check(manifest, rows)
        return Generation(manifest, self.executable, self.text, rows, chosen.stops, self.memory)

    def forget(self) -> None:
        """Begin a new session: its states start again."""
        self.memory.clear()

    def encode(self, prompt: Prompt) -> tuple[int, ...]:
        """A prompt as token ids."""
        if isinstance(prompt, str):
            return tuple(self._tokenizer("a text").encode(prompt))
        return tuple(operator.index(i) for i in prompt)

    def _template(self, words: str) -> Sequence[int]:
        """A template's text as token ids."""
        return self._tokenizer("a template").encode(words, special=False)

    def _tokenizer(self, what: str) -> Text:
        if self.text is None:
            raise error("no-tokenizer", f"{what} needs a tokenizer, and the artifact has none", "give token ids")
        return self.text


class Stream:
    """The text of an answer as it comes; `result` is there when the iteration has ended."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self.result: Result | None = None

    def __iter__(self) -> Iterator[str]:
        yield from self._generation.pieces()
        self.result = self._generation.results()[0]


def load(path: str | Path, threads: int | None = None) -> Session:
    """Open the artifact at `path` and check every file of it. `threads`: of the runtime; None lets it choose."""
    artifact = open_artifact(path)
    if threads is not None and threads < 1:
        raise error("option-out-of-range", f"{threads} threads", "give at least 1")
    processors.check(artifact.manifest.machine)
    files = {g.name: g.file for g in artifact.manifest.graphs}
    executable = registry.loader(artifact.manifest.target)(artifact.folder, files, threads)
    return Session(artifact, executable, open_text(artifact.folder, artifact.manifest.model))


def _options(options: dict[str, Any]) -> Options:
    known = [f.name for f in fields(Options)]
    if unknown := [name for name in options if name not in known]:
        raise error("unknown-option", f"`generate` has no option `{unknown[0]}`", suggest(unknown[0], known, "options"))
    return Options(**options)


def _is_one(prompt: Any) -> bool:
    return isinstance(prompt, str) or len(prompt) == 0 or (not isinstance(prompt[0], str) and np.ndim(prompt[0]) == 0)
