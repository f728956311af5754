"""The options of a generation, checked, with the checkpoint's defaults."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import index
from typing import Any, SupportsIndex, TypeVar

from dcompile.artifact import Manifest
from dcompile.controls import Controls
from dcompile.diagnostic import error
from dcompile.feed import Request, capacity, extent

_Number = TypeVar("_Number", int, float)
Template = str | Sequence[int | None]
Holes = tuple[int | None, ...]
SEEDS = 2**62  # a seed plus a row number stays an int64


@dataclass(frozen=True)
class Options:
    """What a caller may ask of a generation; None is the checkpoint's own default.

    Without a temperature from either, decoding is greedy. `seed`: row r draws with `seed + r`; a sequence gives each
    row its own; None draws one, which the Result tells. `stop`: strings that end the text. `min_length`: answer tokens
    before an eos may come. `eos_ids` replaces the checkpoint's. `max_new_tokens` None: as long as the template, or all
    that the capacity holds. `template`: tokens that stand in the answer from the beginning and stay, None for the holes
    between them; a text, where the mask's token is a hole; or a list of one for each prompt.
    """

    max_new_tokens: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    banned_tokens: Sequence[int] = ()
    min_length: int = 0
    eos_ids: Sequence[int] | None = None
    stop: str | Sequence[str] = ()
    seed: int | Sequence[int] | None = None
    template: Template | Sequence[Template] | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings; an empty one says nothing."""
        return tuple(s for s in ((self.stop,) if isinstance(self.stop, str) else self.stop) if s)


def requests(
    manifest: Manifest, prompts: Sequence[tuple[int, ...]], options: Options, encode: Callable[[str], Sequence[int]]
) -> list[Request]:
    """One request a prompt; `encode` is the tokenizer. Raises CompileError for an option outside its range."""
    controls = _controls(manifest, options)
    templates = _templates(options.template, len(prompts), encode)
    length = options.max_new_tokens
    if length is None:
        length = max(map(len, templates), default=0) or room(manifest, max((len(p) for p in prompts), default=0))
    seeds = _seeds(options.seed, len(prompts), controls.temperature > 0)
    rows = zip(prompts, seeds, templates, strict=True)
    return [Request(p, length, replace(controls, seed=s), t) for p, s, t in rows]


def _templates(
    given: Template | Sequence[Template] | None, rows: int, encode: Callable[[str], Sequence[int]]
) -> list[Holes]:
    """The template of each row; () is none."""
    if given is None:
        return [()] * rows
    one = isinstance(given, str) or all(i is None or isinstance(i, SupportsIndex) for i in given)
    each: Sequence[Any] = [given] * rows if one else given
    if len(each) != rows:
        title = f"{len(each)} templates for {rows} prompts"
        raise error("batch-mismatch", title, "give one template, or one for each prompt")
    return [tuple(None if i is None else index(i) for i in (encode(t) if isinstance(t, str) else t)) for t in each]


def _controls(manifest: Manifest, options: Options) -> Controls:
    asked = manifest.model.sampling
    temperature = options.temperature
    if temperature is None:
        temperature = asked.temperature if manifest.has_rng else 0.0
    controls = Controls(
        temperature=temperature,
        top_k=_first(options.top_k, asked.top_k),
        top_p=_first(options.top_p, asked.top_p),
        min_p=_first(options.min_p, asked.min_p),
        repetition_penalty=_first(options.repetition_penalty, asked.repetition_penalty),
        banned=tuple(options.banned_tokens),
        min_length=options.min_length,
        eos_ids=tuple(manifest.model.eos_ids if options.eos_ids is None else options.eos_ids),
    )
    _check_ranges(controls)
    return controls


def _check_ranges(controls: Controls) -> None:
    good = {
        "temperature": (controls.temperature, 0 <= controls.temperature < math.inf, "0 or more"),
        "top_k": (controls.top_k, 0 <= controls.top_k < SEEDS, "0 (off) or more"),
        "top_p": (controls.top_p, 0 < controls.top_p <= 1, "above 0, up to 1 (off)"),
        "min_p": (controls.min_p, 0 <= controls.min_p <= 1, "0 (off) to 1"),
        "repetition_penalty": (controls.repetition_penalty, 0 < controls.repetition_penalty < math.inf, "above 0"),
        "min_length": (controls.min_length, 0 <= controls.min_length < SEEDS, "0 or more"),
    }
    for name, (value, fine, range_) in good.items():
        if not fine:
            raise error("option-out-of-range", f"{name} is {value:g}", f"{name} is {range_}")


def _seeds(seed: int | Sequence[int] | None, rows: int, random: bool) -> list[int]:
    if seed is None:
        seed = secrets.randbelow(2**31) if random else 0
    if isinstance(seed, Sequence) and len(seed) != rows:
        raise error("batch-mismatch", f"{len(seed)} seeds for {rows} prompts", "give one seed, or one for each prompt")
    seeds = list(seed) if isinstance(seed, Sequence) else [seed + r for r in range(rows)]
    if wrong := [s for s in seeds if not 0 <= s < SEEDS]:
        raise error("option-out-of-range", f"seed is {wrong[0]}", "a seed is 0 or more, and below 2^62")
    return seeds


def room(manifest: Manifest, prompt: int, most: int | None = None) -> int:
    """The longest answer, of `most` tokens, behind a prompt of that length; at least 1, whether or not it fits."""
    canvas, free = manifest.canvas, capacity(manifest) - prompt
    lengths = range(free if most is None else min(most, free), 0, -1)
    fits = (n for n in lengths if extent(canvas, prompt, n) <= free)
    return next((n for n in fits if not n % canvas.whole_answer and not (prompt + n) % canvas.whole_canvas), 1)


def _first(asked: _Number | None, default: _Number) -> _Number:
    return default if asked is None else asked
