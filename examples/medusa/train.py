"""Train Medusa's heads for SmolLM2 on text of its own (Cai et al. 2024, "Medusa", heads alone: Medusa-1).

The model answers prompts greedily. Each head learns, from the hidden state that a token was read off, which token came
so many places later: head k the one k + 1 behind it. A head is one residual block, h + SiLU(W h + b), in front of the
model's own frozen head; W and b begin at 0, so that it begins as the model's own guess of the next token.
Cross-entropy times 0.8^k over the tokens that occur, AdamW at 1e-3 with a cosine, all in float32. Prompts: chats on
made-up topics; a twentieth of the answers is kept to report on.

    python examples/medusa/train.py                # writes examples/medusa/heads.safetensors
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from dcompile.models import Model, load_model

HERE = Path(__file__).parent
SEED, HEADS, LENGTH = 7, 4, 64
ASKS = (
    "Explain {} in a few sentences.", "Write a short story about {}.", "Give five tips about {}.", "What is {}?",
    "Write a polite email about {}.", "List the advantages and disadvantages of {}.",
    "Write a Python function that has to do with {}.", "Summarise what people should know about {}.",
)  # fmt: skip
TOPICS = (
    "rain", "the history of bread", "bicycles", "sorting a list", "photosynthesis", "moving to a new city", "volcanoes",
    "saving money", "learning the piano", "prime numbers", "the ocean", "a lost dog", "cooking rice", "electric cars",
    "the printing press", "reading a file", "gardening", "sleep", "a job interview", "maps", "counting words", "bees",
    "the moon", "public libraries", "chess", "a birthday party", "solar power", "running a marathon", "old castles",
    "tea", "matrix multiplication", "friendship", "winter", "the human heart", "train travel", "dates and times",
)  # fmt: skip


@dataclass(frozen=True)
class Samples:
    """Hidden states [N, E] and, of each, the tokens [N, HEADS] behind the next one; -1 where the answer has ended."""

    hidden: Tensor
    later: Tensor


def prompts(model: Model, count: int) -> Iterator[list[int]]:
    """Token ids of so many chats."""
    tokenizer = Tokenizer.from_file(str(next(f for f in model.files if f.name == "tokenizer.json")))
    for ask, topic in random.sample(list(itertools.product(ASKS, TOPICS)), count):
        said = f"<|im_start|>user\n{ask.format(topic)}<|im_end|>\n<|im_start|>assistant\n"
        yield tokenizer.encode(said).ids


@torch.inference_mode()
def write(model: Model, batch: list[list[int]]) -> list[Samples]:
    """The model's answers of at most LENGTH tokens, the end token included: what it had in mind before each token, and
    which tokens came later."""
    from transformers import DynamicCache

    width = max(map(len, batch))
    fed = torch.tensor([[0] * (width - len(p)) + p for p in batch])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in batch])
    cache, ends = DynamicCache(), torch.tensor(model.facts.eos_ids)
    states, tokens, live = [], [], [torch.ones(len(batch), dtype=torch.bool)]
    while len(tokens) < LENGTH and live[-1].any():
        places = (mask.cumsum(1) - 1).clamp(min=0)[:, -fed.shape[1] :]
        hidden = model.backbone(
            input_ids=fed, attention_mask=mask, position_ids=places, past_key_values=cache, use_cache=True
        ).last_hidden_state[:, -1]
        fed = model.head(hidden).argmax(-1, keepdim=True)
        states.append(hidden)
        tokens.append(torch.where(live[-1], fed[:, 0], -1))
        mask = torch.cat([mask, live[-1].long()[:, None]], 1)
        live.append(live[-1] & ~torch.isin(fed[:, 0], ends))
    said = torch.stack([*tokens, *[torch.full((len(batch),), -1)] * (HEADS + 1)], 1)
    later = torch.stack([said[:, k + 1 : k + 1 + len(tokens)] for k in range(HEADS)], 2)
    there = (said[:, : len(tokens)] >= 0) & (later[:, :, 0] >= 0)
    whole = torch.stack(states, 1)
    return [Samples(h[keep], after[keep]) for h, after, keep in zip(whole, later, there, strict=True)]


def collect(model: Model, count: int, batch: int) -> list[Samples]:
    """One entry for each answer."""
    asked = sorted(prompts(model, count), key=len)
    found: list[Samples] = []
    begun = time.time()
    for first in range(0, len(asked), batch):
        found += write(model, asked[first : first + batch])
        told = f"{len(found)} answers, {sum(len(s.hidden) for s in found)} tokens"
        print(f"{told}, {time.time() - begun:.0f} s", flush=True)
    return found


class Head(nn.Module):
    """The residual block of one head."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(size, size)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, h: Tensor) -> Tensor:
        return h + nn.functional.silu(self.linear(h))


def joined(parts: list[Samples]) -> Samples:
    return Samples(torch.cat([p.hidden for p in parts]), torch.cat([p.later for p in parts]))


def train(samples: Samples, table: Tensor, number: Tensor, epochs: int, batch: int) -> list[Head]:
    """`table` [U, E]: the head's rows of the tokens that occur; `number` [V]: which row a token has."""
    heads = [Head(samples.hidden.shape[1]) for _ in range(HEADS)]
    weights = [p for head in heads for p in head.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=1e-3, weight_decay=0.0)
    steps = epochs * math.ceil(len(samples.hidden) / batch)
    plan = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: 0.5 * (1 + math.cos(math.pi * n / steps)))
    begun = time.time()
    for epoch in range(epochs):
        total = torch.zeros(HEADS)
        for rows in torch.randperm(len(samples.hidden)).split(batch):
            hidden, later = samples.hidden[rows], samples.later[rows]
            losses = []
            for k, head in enumerate(heads):
                wanted = torch.where(later[:, k] >= 0, number[later[:, k].clamp(min=0)], -100)
                losses.append(nn.functional.cross_entropy(head(hidden) @ table.T, wanted))
            optimizer.zero_grad()
            sum((0.8**k * loss for k, loss in enumerate(losses)), torch.zeros(())).backward()
            optimizer.step()
            plan.step()
            total += torch.stack(losses).detach() * len(rows)
        means = ", ".join(f"{x:.2f}" for x in (total / len(samples.hidden)).tolist())
        print(f"epoch {epoch + 1}: losses {means}, {time.time() - begun:.0f} s", flush=True)
    return heads


@torch.inference_mode()
def report(heads: list[Head], samples: Samples, table: Tensor, number: Tensor) -> None:
    """How often the token is the head's first guess, and among its first five, on answers kept aside."""
    for k, head in enumerate(heads):
        there = samples.later[:, k] >= 0
        wanted = number[samples.later[there, k]]
        ranked = (head(samples.hidden[there]) @ table.T).topk(5).indices == wanted[:, None]
        print(f"head {k}: right {ranked[:, 0].float().mean():.1%}, among five {ranked.any(1).float().mean():.1%}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, default=Path("models/smollm2-135m-instruct.gguf"))
    parser.add_argument("--chats", type=int, default=64, help="at most 288")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch", type=int, default=64, help="answers written at a time")
    parser.add_argument("-o", type=Path, default=HERE / "heads.safetensors")
    options = parser.parse_args()
    torch.manual_seed(SEED)
    random.seed(SEED)
    model = load_model(options.model)
    answers = collect(model, options.chats, options.batch)
    random.shuffle(answers)
    kept = len(answers) // 20
    samples, aside = joined(answers[kept:]), joined(answers[:kept])
    weight: Tensor = model.head.weight  # type: ignore[assignment]
    seen = torch.cat([samples.later, aside.later]).unique()
    seen = seen[seen >= 0]
    number = torch.zeros(model.facts.vocab, dtype=torch.int64).scatter(0, seen, torch.arange(len(seen)))
    table = weight.detach()[seen].clone()
    print(
        f"{len(samples.hidden)} samples, {len(seen)} tokens occur, {len(aside.hidden)} samples kept aside", flush=True
    )
    heads = train(samples, table, number, options.epochs, 256)
    report(heads, aside, table, number)
    tensors = {f"{k}.{n}": p.detach().half().contiguous() for k, h in enumerate(heads) for n, p in h.named_parameters()}
    save_file(tensors, options.o)
    print(f"wrote {options.o}")


if __name__ == "__main__":
    main()
