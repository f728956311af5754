"""What the large model says of texts that were written with less of it, on prompts that nothing was trained on."""

from __future__ import annotations

import torch
from answers import asks, chats, code
from torch import Tensor

from dcompile.models import Model

NEW_TOPICS = ("autumn", "a coffee machine")


def asked(model: Model, problems: int) -> dict[str, list[list[int]]]:
    """Prompts by their kind: so many problems of HumanEval from number 123 on, and chats on topics that are new."""
    return {"code": code(model, 123, problems), "chat": chats(model, asks(NEW_TOPICS))}


@torch.inference_mode()
def heard(model: Model, prompt: list[int], tokens: list[int]) -> tuple[Tensor, Tensor]:
    """Of each token of an answer: its logarithmic probability, and whether it is the model's likeliest; float, bool
    [N]."""
    ids = torch.tensor([prompt + tokens[:-1]])
    hidden = model.backbone(input_ids=ids).last_hidden_state[0, len(prompt) - 1 :]
    logs, said = torch.log_softmax(model.head(hidden), -1), torch.tensor(tokens)
    return logs.gather(1, said[:, None])[:, 0], logs.argmax(-1) == said
