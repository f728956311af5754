"""A model that needs no runtime: graphs that commit tokens of a script, and a tokenizer of single characters."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from dcompile.artifact import Artifact, Canvas, GraphFile, Manifest, Port, StrategyText
from dcompile.model import Facts
from dcompile.session import Session
from dcompile.text import Text

EOS, MASK, VOCAB = 1, 2, 400
INPUTS = (
    "tokens pad start length temperature top_k top_p min_p penalty banned min_length eos seed".split()  # noqa: SIM905
)


def facts(**changes: Any) -> Facts:
    given: dict[str, Any] = {
        "family": "fake", "attention": "full", "shift": False, "vocab": VOCAB, "hidden": 4, "layers": 1, "heads": 1,
        "kv_heads": 1, "head_dim": 4, "max_positions": 64, "mask_id": MASK, "eos_ids": (EOS,),
    }  # fmt: skip
    return Facts(**given | changes)


def manifest(**changes: Any) -> Manifest:
    port = {name: Port(name=name, dtype="int64", shape=(1,)) for name in [*INPUTS, "masked"]}
    inputs = tuple(port[n] for n in INPUTS)
    loop = changes.get("loop", "inside")
    graphs = [GraphFile(name="first", file="m", inputs=inputs, outputs=())]
    if loop != "inside":
        graphs.append(GraphFile(name="next", file="m", inputs=(*inputs, port["masked"]), outputs=()))
    given: dict[str, Any] = {
        "strategy": StrategyText(name="s", text="", sha256=hashlib.sha256(b"").hexdigest(), settings={}),
        "model": facts(), "target": "fake", "loop": "inside", "capacity": 32, "batch": 1, "dtype": "float32",
        "canvas": Canvas(init="masked"), "has_rng": True, "stops_on_eos": True, "graphs": tuple(graphs), "state": (),
    }  # fmt: skip
    return Manifest(**given | changes)


@dataclass
class Script:
    """Commits `answers[row]` from left to right, `width` tokens a call; ends a row behind its eos."""

    answers: list[list[int]]
    loop: str = "block"
    width: int = 1
    ends: bool = True
    ran: list[str] = field(default_factory=list)
    fed: list[dict[str, Any]] = field(default_factory=list)

    def run(self, graph: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        self.ran.append(graph)
        self.fed.append({k: np.array(v) for k, v in inputs.items()})
        state = dict(inputs)
        if "masked" not in state:
            state |= self._begin(inputs)
        else:
            state |= self._kept
        while self._step(state) and self.loop == "inside":
            pass
        self._kept = {k: state[k] for k in ("masked", "order", "calls", "batch_calls", "fed", "count", "ended")}
        return {**{k: state[k] for k in ("tokens", *self._kept)}, "next": np.array([1 if self._live(state) else -1])}

    def _begin(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        batch, capacity = inputs["tokens"].shape
        at = np.arange(capacity)[None]
        masked = (at >= inputs["start"][:, None]) & (at < (inputs["start"] + inputs["length"])[:, None])
        zero = np.zeros(batch, np.int64)
        return {
            "masked": masked, "order": np.zeros((batch, capacity), np.int64), "calls": zero.copy(),
            "batch_calls": np.zeros(1, np.int64), "fed": zero.copy(), "count": zero.copy(),
            "ended": np.zeros(batch, np.bool_),
        }  # fmt: skip

    def _live(self, state: Mapping[str, Any]) -> list[int]:
        return [r for r in range(len(state["pad"])) if not state["ended"][r] and state["count"][r] < state["length"][r]]

    def _step(self, state: dict[str, Any]) -> bool:
        state["tokens"] = state["tokens"].copy()
        state["batch_calls"] = state["batch_calls"] + 1
        for r in self._live(state):
            state["calls"][r] += 1
            for _ in range(self.width):
                n, slot = state["count"][r], state["start"][r] + state["count"][r]
                if n >= state["length"][r] or state["ended"][r]:
                    break
                answer = self.answers[r % len(self.answers)]
                state["tokens"][r, slot] = answer[n % len(answer)]
                state["masked"][r, slot], state["order"][r, slot] = False, state["calls"][r]
                state["count"][r] += 1
                state["fed"][r] += 1
                state["ended"][r] = self.ends and state["tokens"][r, slot] in state["eos"]
        return bool(self._live(state))


def text() -> Text:
    """Bytes as tokens: `<pad>`, `<eos>`, `<mask>`, then the 256 bytes from id 3."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {"<mask>": MASK, **{c: i + 3 for i, c in enumerate(alphabet)}}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.add_special_tokens(["<mask>"])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return Text(tokenizer, None, None, None, frozenset({EOS}))


def session(script: Script, words: bool = True, **changes: Any) -> Session:
    """A session over a script; the manifest's `changes` are as in `manifest`."""
    made = manifest(loop=script.loop, **changes)
    return Session(Artifact(Path("none"), made), script, text() if words else None)
