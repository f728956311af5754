"""Where a small model would leave the large one's text, and whether that matters.

The large model answers greedily; the small one reads along and says at each place what it would have written. Where
that is another token, the large model writes on behind it. If its text comes back to what it said before, the other
token was no mistake (`rejoins`); if not, the texts part there. No annotator is asked. So a judge learns which drafted
tokens may stay (`judge`), and a router at which places the large model must write (`router`).

    python examples/smollm2/forks.py                    # writes build/forks.safetensors
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from answers import ASKS, MODEL, MORE_TOPICS, Answer, asks, chats, code, collect
from safetensors.torch import load_file, save_file
from shorten import SMALL
from torch import Tensor

from dcompile.models import Model, load_model

SEED, LENGTH = 7, 64
WINDOW, RUN, SLACK = 16, 6, 4  # tokens: written behind a fork; that must agree in a row; by which they may be shifted
FORKS = Path("build/forks.safetensors")
SAME, BACK, APART, UNKNOWN = range(4)  # what becomes of a place; unknown: too near the end of the answer


@dataclass(frozen=True)
class Places:
    """The places of answers: `answer` int [M], which one; `small` [M, E], the small model's hidden state; its `entropy`
    [M] in nats; `fate` int [M], one of the above; `large` [M, E], the large model's hidden state at the small one's
    token where fate is BACK or APART, else 0; `chance` [M], the large model's probability of that token, over its
    likeliest's."""

    answer: Tensor
    small: Tensor
    entropy: Tensor
    fate: Tensor
    large: Tensor
    chance: Tensor


def rejoins(before: Sequence[int], onward: Sequence[int]) -> bool:
    """Whether RUN tokens in a row of a text written behind another token (`onward`) stand at most SLACK tokens away in
    what was written at first (`before`, from the replaced token on)."""
    for i in range(len(onward) - RUN + 1):
        run = list(onward[i : i + RUN])
        starts = range(max(0, i + 1 - SLACK), i + 1 + SLACK + 1)  # onward[0] stands one behind the replaced token
        if any(list(before[j : j + RUN]) == run for j in starts):
            return True
    return False


@torch.inference_mode()
def onwards(model: Model, text: list[int], forks: list[tuple[int, int]]) -> tuple[Tensor, list[list[int]]]:
    """Of each fork (position, token) of one text: the hidden state at that token [F, E], and what the model writes
    behind it, WINDOW tokens, or fewer with the end token last."""
    from transformers import DynamicCache

    cache = DynamicCache()
    model.backbone(input_ids=torch.tensor([text]), past_key_values=cache, use_cache=True)
    cache.batch_repeat_interleave(len(forks))
    places = torch.tensor([place for place, _ in forks])[:, None]
    fed = torch.tensor([token for _, token in forks])[:, None]
    mask = (torch.arange(len(text)) < places).long()
    states, said = [], []
    for step in range(WINDOW):
        mask = torch.cat([mask, torch.ones_like(places)], 1)
        hidden = model.backbone(
            input_ids=fed, attention_mask=mask, position_ids=places + step, past_key_values=cache, use_cache=True
        ).last_hidden_state[:, -1]
        fed = model.head(hidden).argmax(-1, keepdim=True)
        states.append(hidden)
        said.append(fed[:, 0])
    return states[0], [_ended(row, model.facts.eos_ids) for row in torch.stack(said, 1).tolist()]


def _ended(tokens: list[int], ends: Sequence[int]) -> list[int]:
    return tokens[: next((n + 1 for n, token in enumerate(tokens) if token in ends), len(tokens))]


@torch.inference_mode()
def read(large: Model, small: Model, answer: Answer, number: int) -> Places:
    """The places of one answer."""
    text = torch.tensor([answer.prompt + answer.tokens[:-1]])
    hidden = small.backbone(input_ids=text).last_hidden_state[0, len(answer.prompt) - 1 :]
    logs = torch.log_softmax(small.head(hidden), -1)
    guess, said = logs.argmax(-1), torch.tensor(answer.tokens)
    fate = torch.where(guess == said, SAME, UNKNOWN)
    states, ratio = torch.zeros_like(hidden), torch.zeros(len(said))
    parted = [t for t in range(len(said) - WINDOW) if guess[t] != said[t]]
    if parted:
        start = len(answer.prompt)
        states[parted], texts = onwards(large, text[0].tolist(), [(start + t, int(guess[t])) for t in parted])
        chances = torch.softmax(large.head(answer.hidden[parted]), -1)
        ratio[parted] = chances.gather(1, guess[parted][:, None])[:, 0] / chances.amax(-1)
        for t, onward in zip(parted, texts, strict=True):
            fate[t] = BACK if rejoins(answer.tokens[t:], onward) else APART
    return Places(torch.full_like(said, number), hidden, -(logs.exp() * logs).sum(-1), fate, states, ratio)


def joined(parts: list[Places]) -> Places:
    """One behind the other."""
    return Places(**{name: torch.cat([vars(p)[name] for p in parts]) for name in vars(parts[0])})


def save(places: Places, path: Path) -> None:
    """Hidden states in float16."""
    small = {n: t.half() if t.dim() == 2 else t for n, t in vars(places).items()}
    save_file({n: t.contiguous() for n, t in small.items()}, path)


def load(path: Path) -> Places:
    """What `save` wrote, as float32."""
    return Places(**{n: t.float() if t.dim() == 2 else t for n, t in load_file(path).items()})


def told(places: Places) -> str:
    """How many places there are of each kind."""
    same, back, apart, unknown = (int((places.fate == n).sum()) for n in range(4))
    return f"{same} the same, {back} that come back, {apart} apart, {unknown} too near the end"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--small", type=Path, default=SMALL)
    parser.add_argument("--chats", type=int, default=112, help=f"at most {len(ASKS) * len(MORE_TOPICS)}")
    parser.add_argument("--problems", type=int, default=20, help="at most 41: those behind are for measuring")
    parser.add_argument("--answers", type=int, default=80, help="how many of them to read, in random order")
    parser.add_argument("-o", type=Path, default=FORKS)
    options = parser.parse_args()
    random.seed(SEED)
    large, small = load_model(options.model), load_model(options.small)
    asked = [*code(large, 82, options.problems), *chats(large, random.sample(asks(MORE_TOPICS), options.chats))]
    found: list[Places] = []
    answers = collect(large, asked, LENGTH, batch=48)
    random.shuffle(answers)
    begun = time.time()
    for number, answer in enumerate(answers[: options.answers]):
        found.append(read(large, small, answer, number))
        if number % 20 == 19:
            print(f"{number + 1} answers: {told(joined(found))}, {time.time() - begun:.0f} s", flush=True)
            save(joined(found), options.o)
    save(joined(found), options.o)
    print(f"wrote {options.o}: {told(joined(found))}")


if __name__ == "__main__":
    main()
