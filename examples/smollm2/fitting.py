"""Small networks that say yes or no of a hidden state: linear layers, ReLU between, fitted by logistic regression."""

from __future__ import annotations

import itertools
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


def fit(hidden: Tensor, yes: Tensor, widths: tuple[int, ...], epochs: int, decay: float) -> list[nn.Linear]:
    """Layers of these widths and a last one of width 1, fitted to hidden states [N, E] and answers bool [N].

    Binary cross-entropy on normalised numbers, AdamW at 1e-3 with a cosine, rows drawn by torch's generator; the
    normalisation becomes part of the first layer.
    """
    mean, deviation = hidden.mean(0), hidden.std(0) + 1e-6
    x, wanted = (hidden - mean) / deviation, yes.float()
    sizes = (hidden.shape[1], *widths, 1)
    layers = [nn.Linear(takes, gives) for takes, gives in itertools.pairwise(sizes)]
    weights = [p for layer in layers for p in layer.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=1e-3, weight_decay=decay)
    plan = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(epochs, 1))
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(128):
            optimizer.zero_grad()
            nn.functional.binary_cross_entropy_with_logits(logits(layers, x[rows]), wanted[rows]).backward()
            optimizer.step()
        plan.step()
    with torch.no_grad():
        layers[0].weight /= deviation
        layers[0].bias -= layers[0].weight @ mean
    return layers


def logits(layers: list[nn.Linear], x: Tensor) -> Tensor:
    """What the layers say of rows [N, E]: float [N]."""
    for n, layer in enumerate(layers):
        x = layer(torch.relu(x) if n else x)
    return x[:, 0]


@torch.no_grad()
def chances(layers: list[nn.Linear], x: Tensor) -> Tensor:
    """The probability of yes, float [N]."""
    return torch.sigmoid(logits(layers, x))


def ordered(score: Tensor, yes: Tensor) -> float:
    """How often a row of yes has a higher score than a row of no (the area under the ROC curve)."""
    rank = torch.empty(len(score)).scatter(0, score.argsort(), torch.arange(1.0, len(score) + 1))
    good, bad = int(yes.sum()), int((~yes).sum())
    return float((rank[yes].double().sum() - good * (good + 1) / 2) / (good * bad))


def apart(answer: Tensor, every: int = 5) -> Tensor:
    """bool [N]: rows of each fifth answer, which are kept to report on."""
    return answer % every == 0


def save(layers: list[nn.Linear], path: Path) -> None:
    """As a module of a strategy takes them, in float16."""
    named = {f"{n}.{name}": p.detach().half() for n, layer in enumerate(layers) for name, p in layer.named_parameters()}
    save_file(named, path)


def load(path: Path) -> list[nn.Linear]:
    """What `save` wrote."""
    tensors, layers = load_file(path), []
    for n in range(len(tensors) // 2):
        layer = nn.Linear(*reversed(tensors[f"{n}.weight"].shape))
        layer.load_state_dict({name: tensors[f"{n}.{name}"].float() for name in ("weight", "bias")})
        layers.append(layer)
    return layers
