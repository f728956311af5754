"""Prompts and options as the input arrays of an artifact's entry graph (docs/artifact.md)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dcompile.artifact import Canvas, Manifest
from dcompile.controls import Controls
from dcompile.diagnostic import error

EOS_SLOTS = 8  # a graph compares with this many eos ids
Arrays = dict[str, npt.NDArray[np.generic]]


@dataclass(frozen=True)
class Request:
    """One row: its prompt, how many answer positions it asks for, its options; `template`: the tokens that the answer
    begins with, None for a hole."""

    prompt: tuple[int, ...]
    length: int
    controls: Controls
    template: tuple[int | None, ...] = ()


def extent(canvas: Canvas, prompt: int, length: int) -> int:
    """The answer positions of a row's canvas: `length`, made longer as the strategy's canvas declares."""
    counted = prompt if canvas.multiple_from == "canvas" else 0
    return -(-(counted + length) // canvas.multiple) * canvas.multiple - counted


def capacity(manifest: Manifest) -> int:
    """The slots that prompt and answer may take: those behind them are for drafts."""
    return manifest.capacity - manifest.canvas.overhang


def check(manifest: Manifest, requests: Sequence[Request]) -> None:
    """Refuse what the artifact cannot run, in the words of the caller."""
    if not 1 <= len(requests) <= manifest.batch:
        title = f"{len(requests)} prompts for an artifact of batch {manifest.batch}"
        raise error("batch-mismatch", title, f"give 1 to {manifest.batch} prompts, or build with a larger --batch")
    for request in requests:
        _check_prompt(manifest, request.prompt)
        _check_controls(manifest, request)
        _check_template(manifest, request)
        _check_blocks(manifest.canvas, len(request.prompt), request.length)
    _check_capacity(manifest, requests)


def _check_prompt(manifest: Manifest, prompt: Sequence[int]) -> None:
    if not prompt:
        raise error("empty-prompt", "the prompt holds no token", "give at least one token")
    _check_ids(manifest, prompt)


def _check_ids(manifest: Manifest, ids: Iterable[int]) -> None:
    vocab = manifest.model.vocab
    if wrong := [i for i in ids if not 0 <= i < vocab]:
        title = f"token id {wrong[0]} is outside the vocabulary of {vocab} tokens"
        raise error("token-out-of-range", title, f"ids run from 0 to {vocab - 1}")


def _check_template(manifest: Manifest, request: Request) -> None:
    template = request.template
    if template and manifest.canvas.init != "masked":
        begins = {"empty": "empty", "uniform": "with random tokens"}[manifest.canvas.init]
        title = f"a template needs an answer that begins masked, and this strategy's begins {begins}"
        raise error("template-without-masks", title, "put the tokens behind the prompt, or build a strategy with masks")
    if len(template) > request.length:
        title = f"a template of {len(template)} tokens is longer than the answer of {request.length}"
        raise error("template-too-long", title, f"ask for at least {len(template)} new tokens")
    _check_ids(manifest, (i for i in template if i is not None))


def _check_controls(manifest: Manifest, request: Request) -> None:
    controls = request.controls
    if request.length < 1:
        raise error("option-out-of-range", f"{request.length} new tokens", "ask for at least 1")
    if controls.temperature > 0 and not manifest.has_rng:
        raise error(
            "no-generator",
            f"temperature {controls.temperature:g} on an artifact built without its random generator",
            "use temperature 0, or build without --no-sampling",
        )
    _check_ids(manifest, (*controls.banned, *controls.eos_ids))
    if len(controls.eos_ids) > EOS_SLOTS:
        raise error("option-out-of-range", f"{len(controls.eos_ids)} eos ids", f"give at most {EOS_SLOTS}")


def _check_blocks(canvas: Canvas, prompt: int, length: int) -> None:
    for counted, size, what in ((0, canvas.whole_answer, "answer"), (prompt, canvas.whole_canvas, "prompt and answer")):
        if (counted + length) % size:
            title = f"the strategy wants {what} in whole blocks of {size} tokens, and {counted + length} is none"
            near = max(1, round((counted + length) / size)) * size - counted
            raise error("uneven-blocks", title, f"ask for {near if near > 0 else near + size} new tokens")


def _check_capacity(manifest: Manifest, requests: Sequence[Request]) -> None:
    start = max(len(r.prompt) for r in requests)
    length = max(extent(manifest.canvas, len(r.prompt), r.length) for r in requests)
    if start + length > (slots := capacity(manifest)):
        title = f"a prompt of {start} and an answer of {length} tokens do not fit the capacity of {slots}"
        room = slots - start
        shorter = f"ask for at most {room} new tokens, " if room > 0 else "shorten the prompt, "
        raise error("prompt-too-long", title, shorter + "or build with a larger --max-length")


def feed(manifest: Manifest, requests: Sequence[Request], memory: Arrays) -> Arrays:
    """All inputs of the entry graph, whether it lists them or not. Rows without a request repeat the last one.

    tokens int64 [B, C], left-padded so that answers begin in one slot `start`; masked canvases hold the mask id where
    the answer will be, or the tokens of a template. `memory`: what earlier runs of the session left, empty before the
    first.
    """
    rows = [*requests, *[requests[-1]] * (manifest.batch - len(requests))]
    start = max(len(r.prompt) for r in rows)
    tokens = np.zeros((manifest.batch, manifest.capacity), np.int64)
    for r, row in enumerate(rows):
        tokens[r, start - len(row.prompt) : start] = row.prompt
        if manifest.canvas.init == "masked":
            assert manifest.model.mask_id is not None, "a masked canvas needs a mask id"
            end = start + extent(manifest.canvas, len(row.prompt), row.length)
            tokens[r, start:end] = manifest.model.mask_id
            for slot, token in enumerate(row.template, start):
                tokens[r, slot] = manifest.model.mask_id if token is None else token
    arrays: Arrays = {
        "tokens": tokens,
        "pad": _ints(start - len(r.prompt) for r in rows),
        "start": _ints(start for _ in rows),
        "length": _ints(r.length for r in rows),
    }
    blank = {p.name: np.zeros(p.shape, p.dtype) for p in manifest.session}
    fresh = {"fresh": np.ones(manifest.batch, np.bool_)}
    return arrays | _options(manifest, rows) | blank | fresh | memory


def remember(manifest: Manifest, count: int, before: Arrays, after: Arrays) -> Arrays:
    """The session's states when its first `count` rows have run: theirs of `after`, the others' of `before`."""
    used = np.arange(manifest.batch) < count
    kept = {
        p.name: np.where(used.reshape(-1, *[1] * (len(p.shape) - 1)), after[p.name], before[p.name])
        for p in manifest.session
    }
    return {**kept, "fresh": np.where(used, False, before["fresh"])} if kept else {}


def _options(manifest: Manifest, rows: Sequence[Request]) -> Arrays:
    controls = [r.controls for r in rows]
    banned = np.zeros(manifest.model.vocab, np.bool_)
    banned[list(controls[0].banned)] = True
    eos = np.full(EOS_SLOTS, -1, np.int64)
    eos[: len(controls[0].eos_ids)] = controls[0].eos_ids
    return {
        "temperature": _floats(c.temperature for c in controls),
        "top_k": _ints(c.top_k for c in controls),
        "top_p": _floats(c.top_p for c in controls),
        "min_p": _floats(c.min_p for c in controls),
        "penalty": _floats(c.repetition_penalty for c in controls),
        "banned": banned,
        "min_length": _ints(c.min_length for c in controls),
        "eos": eos,
        "seed": _ints(c.seed for c in controls),
    }


def _ints(values: Iterable[int]) -> npt.NDArray[np.int64]:
    return np.array(list(values), np.int64)


def _floats(values: Iterable[float]) -> npt.NDArray[np.float32]:
    return np.array(list(values), np.float32)
