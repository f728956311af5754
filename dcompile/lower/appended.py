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
from dcompile.models.kept import real
from dcompile.models.layers import KNOWN, is_plain
from dcompile.record import constant
from dcompile.strategy import Layer, Rows
from dcompile.trees import Tree


@dataclass(frozen=True)
class Appended:
    """Embeddings [m, E], or where rows begin inside the model, by the layer that each `starts` at, its map: a matrix
    [E, E] and perhaps a bias [E]; by the name of a linear layer its low-rank matrices A [r, inputs] and B [outputs, r].
    """

    embeddings: Tensor | None
    adapters: Mapping[str, tuple[Tensor, Tensor]]
    starts: tuple[int, ...] = ()
    maps: tuple[tuple[Tensor, Tensor | None], ...] = ()

    def weights(self, name: str) -> dict[str, Tensor]:
        """By the names that they bear in an artifact."""
        out = {} if self.embeddings is None else {f"rows.{name}.embeddings": self.embeddings}
        for n, (weight, bias) in enumerate(self.maps):
            out |= {f"rows.{name}.{n}.weight": weight} | ({} if bias is None else {f"rows.{name}.{n}.bias": bias})
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
    if not rows.starts:
        return Appended(_floats(rows.embeddings, rows.count, rows.width), found)
    if not is_plain(real(model.backbone)):
        title = f"the layers of `{model.facts.family}` cannot be entered by further rows"
        help = f"known are the layers of {', '.join(KNOWN)}"
        raise CompileError([Diagnostic("no-layers", title, Label(rows.span, "declared here"), help=help)])
    maps = tuple((_matrix(m), None if m.bias is None else _floats(m.bias, m.outputs)) for m in rows.maps)
    return Appended(None, found, rows.starts, maps)


def _matrix(layer: Layer) -> Tensor:
    return _floats(layer.weight, layer.outputs, layer.inputs)


def _floats(data: bytes, *shape: int) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.float32).reshape(shape).clone()  # a weight is no view


def embedded(backbone: Any, tree: Tree, ids: Tensor, rows: Appended) -> Tensor:
    """What the nodes of a tree are fed [B, n, E]: the embeddings of their tokens `ids` [B, n], then the rows' if they
    have any."""
    tokens: Tensor = backbone.get_input_embeddings()(ids[:, : tree.proper])
    if rows.embeddings is None:
        return tokens
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
        if given[0].shape[1] == first:  # no row is there yet
            return out
        more = linear(linear(given[0][:, first:], down), up)
        return torch.cat([out[:, :first], out[:, first:] + more], 1)

    return hook
