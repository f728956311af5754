"""Does an artifact give the oracle's tokens? Where it does not: the first difference, and how near the decision was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dcompile import compiler, whereabouts
from dcompile.artifact import MODULES, RULES, TREES, Artifact, Verification, rewrite
from dcompile.diagnostic import error
from dcompile.feed import Request
from dcompile.options import room
from dcompile.result import Row
from dcompile.session import Session, load
from dcompile.source import Source

if TYPE_CHECKING:
    from dcompile.models import Model
    from dcompile.reference import Difference
    from dcompile.strategy import Strategy

    Models = Mapping[str, Model]

LENGTH = 32  # answer tokens of the default run
TEXTS = ("The capital of France is", "1, 2, 3, 4,", "Once upon a time there was", "def main(arguments):\n")
IDS = 4  # prompts of token ids, for models that have no tokenizer


@dataclass(frozen=True)
class Outcome:
    """One prompt. `difference` is the first one that an oracle found which follows the artifact's commits."""

    prompt: tuple[int, ...]
    verdict: Literal["same", "near-tie", "different"]
    tokens: int
    own_calls: int
    calls: int
    at: int | None = None
    difference: Difference | None = None

    def __str__(self) -> str:
        if self.verdict == "same":
            return f"same: {self.tokens} tokens, {self.calls} model calls"
        gap = f", gap of the decision {self.difference.gap:.2g}" if self.difference is not None else ""
        where = f" at answer token {self.at}" if self.at is not None else ""
        calls = f", {self.calls} model calls for {self.own_calls}" if self.calls != self.own_calls else ""
        return f"{self.verdict}: first difference{where}{gap}{calls}"


def verify(
    path: str | Path,
    model: str | Path | Mapping[str, str | Path] | None = None,
    prompts: Sequence[str | Sequence[int]] = (),
    **options: Any,
) -> Iterator[Outcome]:
    """Compare an artifact with the oracle, prompt by prompt; the result is written into the manifest at the end.

    `model`: where its model lies, or each by its name, if this machine has not seen the build. `options` as of
    `Session.generate`.
    Raises CompileError.
    """
    session = load(path)
    strategy, loaded = _inputs(session.artifact, model)
    outcomes: list[Outcome] = []
    for group in _groups(session, [session.encode(p) for p in prompts] or default_prompts(session)):
        for outcome in _compare(session, strategy, loaded, group, options):
            outcomes.append(outcome)
            yield outcome
    _note(session.artifact, outcomes)


def default_prompts(session: Session) -> list[tuple[int, ...]]:
    """A few texts, or token ids from all over the vocabulary where the artifact has no tokenizer."""
    facts = session.artifact.manifest.model
    if session.text is not None and all(texts := [session.encode(t) for t in TEXTS]):
        return texts
    special = {facts.mask_id, facts.pad_id, facts.bos_id, *facts.eos_ids}
    plain = [i for i in range(facts.vocab) if i not in special]
    return [tuple(plain[(n * 97 + k * 31) % len(plain)] for k in range(5 + 2 * n)) for n in range(IDS)]


def _inputs(artifact: Artifact, model: str | Path | Mapping[str, str | Path] | None) -> tuple[Strategy, Models]:
    manifest = artifact.manifest
    text = manifest.strategy
    modules = {
        Path(f).stem: str(artifact.file(f)) for f in manifest.files if Path(f).parts[0] in (MODULES, RULES, TREES)
    }
    strategy = compiler.read(Source(f"{text.name}.dcs", text.text), text.settings | modules)
    first = strategy.models[0].name
    given = model if isinstance(model, Mapping) else {} if model is None else {first: model}
    facts = {first: manifest.model, **manifest.others}
    precision = None if manifest.quantized is None else manifest.quantized.weights
    loaded = {name: _model(given.get(name), found.fingerprint) for name, found in facts.items()}
    return strategy, {name: compiler.in_blocks(model, precision) for name, model in loaded.items()}


def _model(place: str | Path | None, fingerprint: str) -> Model:
    place = place if place is not None else whereabouts.recall(fingerprint)
    if place is None:
        title = "this machine has not seen the model that the artifact was built from"
        raise error("unknown-checkpoint", title, "say where it is with --model")
    loaded = compiler.load(place)
    if loaded.facts.fingerprint != fingerprint:
        raise error("another-model", f"`{place}` is not the model that the artifact was built from", "use --model")
    return loaded


def _groups(session: Session, prompts: Sequence[tuple[int, ...]]) -> Iterator[Sequence[tuple[int, ...]]]:
    manifest = session.artifact.manifest
    size = manifest.batch if manifest.canvas.whole_canvas == 1 else 1  # one length must suit all rows
    for n in range(0, len(prompts), size):
        yield prompts[n : n + size]


def _compare(
    session: Session, strategy: Strategy, model: Models, prompts: Sequence[tuple[int, ...]], options: dict[str, Any]
) -> Iterator[Outcome]:
    manifest = session.artifact.manifest
    if options.get("max_new_tokens") is None:
        most = max(LENGTH, manifest.canvas.whole_answer, manifest.canvas.whole_canvas)
        options = options | {"max_new_tokens": room(manifest, max(map(len, prompts)), most)}
    session.forget()
    generation = session.run(prompts, **options)
    for request, row in zip(generation.requests, generation.rows(), strict=True):
        yield _outcome(strategy, model, request, row)


def _outcome(strategy: Strategy, model: Models, request: Request, row: Row) -> Outcome:
    from dcompile.reference import Forced, run

    asked: dict[str, Any] = {
        "length": request.length, "sampling": request.controls, "template": request.template
    }  # fmt: skip
    own = run(strategy, model, request.prompt, **asked)
    if own.output_ids == row.ids and own.model_calls == row.calls:
        return Outcome(request.prompt, "same", len(row.ids), own.model_calls, row.calls)
    pairs = enumerate(zip_longest(own.output_ids, row.ids))
    at = next((n for n, (a, b) in pairs if a != b), None)
    follow = run(strategy, model, request.prompt, **asked, forced=Forced(row.canvas, row.order))
    found = follow.differences
    near = bool(found) and all(d.near_tie for d in found) and follow.model_calls == row.calls
    first = found[0] if found else None
    return Outcome(
        request.prompt, "near-tie" if near else "different", len(row.ids), own.model_calls, row.calls, at, first
    )


def _note(artifact: Artifact, outcomes: Sequence[Outcome]) -> None:
    """Write what was found into the manifest."""
    gaps = [o.difference.gap for o in outcomes if o.difference is not None]
    verdicts = [o.verdict for o in outcomes]
    found = Verification(
        prompts=len(outcomes),
        same=verdicts.count("same"),
        near_ties=verdicts.count("near-tie"),
        tokens=sum(o.tokens for o in outcomes),
        greatest_gap=max(gaps, default=None),
    )
    rewrite(Artifact(artifact.folder, artifact.manifest.model_copy(update={"verification": found})))
