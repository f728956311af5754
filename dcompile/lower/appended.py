"""Rows appended behind the nodes of a draft: embeddings in place of tokens; what adapters add at these rows alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from dcompile.diagnostic import CompileError, Diagnostic, Label
from dcompile.models import Model
from dcompile.record import constant
from dcompile.strategy import Layer, Rows
from dcompile.trees import Tree


@dataclass(frozen=True)
class Appended:
    """Embeddings [m, E], and by the name of a linear layer its low-rank matrices A [r, inputs] and B [outputs, r]."""

    embeddings: Tensor
    adapters: Mapping[str, tuple[Tensor, Tensor]]

    def weights(self, name: str) -> dict[str, Tensor]:
        """By the names that they bear in an artifact."""
        out = {f"rows.{name}.embeddings": self.embeddings}
        for layer, (down, up) in self.adapters.items():
            out |= {f"rows.{name}.{layer}.lora_A": down, f"rows.{name}.{layer}.lora_B": up}
        return out


def appended(rows: Rows, model: Model) -> Appended:
    """The tensors of declared rows. Raises CompileError where an adapter fits no layer of the model."""
    found = {name: (_matrix(down), _matrix(up)) for name, down, up in rows.adapters}
    layers: dict[str, nn.Module] = dict(model.backbone.named_modules())
    for name, (down, up) in found.items():
        layer = layers.get(name)
        if not isinstance(layer, nn.Linear) or layer.weight.shape != (up.shape[0], down.shape[1]):
            title = f"`{rows.name}` adapts `{name}`, {down.shape[1]} to {up.shape[0]}: no linear layer of the model"
            help = "names are those of the base model, such as `layers.0.self_attn.q_proj`"
            raise CompileError([Diagnostic("wrong-rows", title, Label(rows.span, "declared here"), help=help)])
    return Appended(_floats(rows.embeddings, rows.count, rows.width), found)


def _matrix(layer: Layer) -> Tensor:
    return _floats(layer.weight, layer.outputs, layer.inputs)


def _floats(data: bytes, *shape: int) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.float32).reshape(shape).clone()  # a weight is no view


def embedded(backbone: Any, tree: Tree, ids: Tensor, rows: Appended) -> Tensor:
    """What the nodes of a tree are fed [B, n, E]: the embeddings of their tokens `ids` [B, n], then the rows'."""
    tokens: Tensor = backbone.get_input_embeddings()(ids[:, : tree.proper])
    which = constant([ahead - 1 for ahead in tree.ahead[tree.proper :]])
    own = torch.index_select(rows.embeddings, 0, which).unsqueeze(0)
    return torch.cat([tokens, own.expand(tokens.shape[0], *own.shape[1:])], 1)


@contextmanager
def adapted(backbone: nn.Module, tree: Tree, rows: Appended) -> Iterator[None]:
    """Inside, the adapters act on the appended rows of what the backbone is fed; all other rows are untouched."""
    layers = dict(backbone.named_modules())
    hooks = [layers[name].register_forward_hook(_adding(tree.proper, *pair)) for name, pair in rows.adapters.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _adding(first: int, down: Tensor, up: Tensor) -> Any:
    """A hook that adds B A x to a layer's output at the rows from `first` on."""

    def hook(module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> Tensor:
        more = linear(linear(given[0][:, first:], down), up)
        return torch.cat([out[:, :first], out[:, first:] + more], 1)

    return hook
