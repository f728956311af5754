"""Write a small model of SmolLM2's vocabulary: its first layers and its last ones, the last ones taught to do without
those between (layers are dropped as ShortGPT does, Men et al. 2024; the rest is distillation, Hinton et al. 2015).

The large model answers prompts in bfloat16, chats once greedily and once by draws. The lower layers stay as they are,
so what they give is computed once; the upper ones learn to end in the large model's distribution of each next token,
over the tokens that occur (Kullback-Leibler divergence, AdamW with a cosine, products in bfloat16). Embeddings and head
stay the large model's. The result is an ordinary Llama checkpoint in float16.

    python examples/smollm2/shorten.py                  # writes build/smollm2-short
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import random
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from answers import MODEL, TOPICS, Answer, asks, chats, code, collect, hasty
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForCausalLM

from dcompile.models import Model, load_model

SEED, LENGTH, TEMPERATURE = 7, 64, 0.8
SMALL = Path("build/smollm2-short")


@dataclass(frozen=True)
class Line:
    """One answer: `lower` [T, E], what the lower layers give at prompt and answer but for its last token; `wanted` [N,
    E], the large model's hidden states at the last N of these places."""

    lower: Tensor
    wanted: Tensor


def part(backbone: Any, layers: Sequence[int], ended: bool = True) -> Any:
    """A Llama of some layers of another, copied; without its final norm if it is not `ended`."""
    config = copy.deepcopy(backbone.config)
    config.num_hidden_layers = len(layers)
    made: Any = AutoModel.from_config(config).eval()
    made.embed_tokens.load_state_dict(backbone.embed_tokens.state_dict())
    made.norm.load_state_dict(backbone.norm.state_dict())
    for place, number in zip(made.layers, layers, strict=True):
        place.load_state_dict(backbone.layers[number].state_dict())
    if not ended:
        made.norm = nn.Identity()
    return made


@torch.inference_mode()
def lines(bottom: Any, answers: list[Answer]) -> list[Line]:
    """What the upper layers learn from."""
    found = []
    for answer in answers:
        ids = torch.tensor([answer.prompt + answer.tokens[:-1]])
        found.append(Line(bottom(input_ids=ids).last_hidden_state[0], answer.hidden))
    return found


def distance(top: Any, batch: list[Line], table: Tensor, hasty: bool = False) -> Tensor:
    """The divergence of the large model's distributions from those of `top`, on average, in nats; `table` [U, E].
    `hasty`: products in bfloat16."""
    with torch.autocast("cpu", torch.bfloat16, enabled=hasty):
        return _distance(top, batch, table)


def _distance(top: Any, batch: list[Line], table: Tensor) -> Tensor:
    padded = nn.utils.rnn.pad_sequence([line.lower for line in batch], batch_first=True)  # causal: padding is not seen
    hidden = top(inputs_embeds=padded).last_hidden_state
    had = torch.cat([h[len(x.lower) - len(x.wanted) : len(x.lower)] for h, x in zip(hidden, batch, strict=True)])
    wanted = torch.log_softmax((torch.cat([x.wanted for x in batch]) @ table.T).float(), -1)
    logs = torch.log_softmax((had @ table.T).float(), -1)
    return nn.functional.kl_div(logs, wanted, reduction="batchmean", log_target=True)


def train(top: Any, learned: list[Line], table: Tensor, epochs: int, batch: int, rate: float) -> None:
    """Teach the upper layers and the final norm, in place."""
    top.requires_grad_(True).embed_tokens.requires_grad_(False)
    weights = [p for p in top.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=0.01)
    order = torch.Generator().manual_seed(SEED)
    steps, warm = epochs * math.ceil(len(learned) / batch), 20
    plan = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda n: min((n + 1) / warm, 0.5 * (1 + math.cos(math.pi * n / steps)))
    )
    begun = time.time()
    for epoch in range(epochs):
        total = 0.0
        for rows in torch.randperm(len(learned), generator=order).split(batch):
            loss = distance(top, [learned[n] for n in rows], table, hasty=True)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            plan.step()
            total += float(loss.detach()) * len(rows)
        print(f"epoch {epoch + 1}: {total / len(learned):.3f} nats, {time.time() - begun:.0f} s", flush=True)
    top.requires_grad_(False)


@torch.inference_mode()
def agreement(top: Any, head: nn.Module, aside: list[Line]) -> float:
    """The share of places at which the likeliest token is the large model's."""
    same, count = 0, 0
    for line in aside:
        had = top(inputs_embeds=line.lower[None]).last_hidden_state[0, -len(line.wanted) :]
        same += int((head(had).argmax(-1) == head(line.wanted).argmax(-1)).sum())
        count += len(line.wanted)
    return same / count


def save(model: Model, bottom: Any, top: Any, folder: Path) -> None:
    """The lower and the upper layers as one checkpoint, with the large model's tokenizer."""
    count = len(bottom.layers)
    config = copy.deepcopy(model.backbone.config)
    config.num_hidden_layers = count + len(top.layers)
    whole: Any = AutoModelForCausalLM.from_config(config)
    weights = {f"model.{name}": value for name, value in top.state_dict().items() if not name.startswith("layers.")}
    for first, layers in ((0, bottom.layers), (count, top.layers)):
        for n, layer in enumerate(layers):
            weights |= {f"model.layers.{first + n}.{name}": value for name, value in layer.state_dict().items()}
    weights |= {f"lm_head.{name}": value for name, value in model.head.state_dict().items()}
    whole.load_state_dict(weights)
    whole.half().save_pretrained(folder)
    for file in model.files:
        shutil.copy(file, folder / file.name)
    ends = {"eos_token_id": list(model.facts.eos_ids), "pad_token_id": model.facts.pad_id}
    (folder / "generation_config.json").write_text(json.dumps(ends) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--lower", type=int, default=10, help="layers that are kept as they are")
    parser.add_argument("--upper", type=int, default=2, help="layers that are taught")
    parser.add_argument("--topics", type=int, default=len(TOPICS))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("-o", type=Path, default=SMALL)
    options = parser.parse_args()
    torch.manual_seed(SEED)
    random.seed(SEED)
    model = load_model(options.model)
    talk = chats(model, asks(TOPICS[: options.topics]))
    writer = hasty(options.model)
    answers = [
        *collect(writer, talk, LENGTH, batch=96),
        *collect(writer, talk, LENGTH, TEMPERATURE, batch=96),
        *collect(writer, code(model, 0, 82), LENGTH, batch=16),  # their lengths differ much
    ]
    random.shuffle(answers)
    numbers = range(model.facts.layers)
    bottom = part(model.backbone, numbers[: options.lower], ended=False)
    top = part(model.backbone, numbers[-options.upper :])
    found = lines(bottom, answers)
    kept = len(found) // 20
    seen = torch.tensor(sorted({token for answer in answers for token in answer.tokens}))
    weight: Tensor = model.head.weight  # type: ignore[assignment]
    print(f"{sum(len(a.tokens) for a in answers)} tokens, {len(seen)} of them differ; {kept} answers kept aside")
    print(f"agreement before: {agreement(top, model.head, found[:kept]):.1%}", flush=True)
    train(top, found[kept:], weight.detach()[seen].clone(), options.epochs, 8, 1e-3)
    print(f"agreement: {agreement(top, model.head, found[:kept]):.1%}")
    save(model, bottom, top, options.o)
    print(f"wrote {options.o}")


if __name__ == "__main__":
    main()
