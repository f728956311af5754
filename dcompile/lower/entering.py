"""Appended rows that begin inside the model (hidden transfer): from their layer on they stand among the nodes, made of
what their nodes are there. The layers before do not compute them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from dcompile.lower.appended import Appended
from dcompile.lower.vectors import few
from dcompile.models.kept import real
from dcompile.record import constant
from dcompile.trees import Tree


def there(tree: Tree, rows: Appended, layer: int) -> list[int]:
    """The nodes of a tree that go through a layer: all that hold tokens, and the rows that began at it or before."""
    return [node for node, ahead in enumerate(tree.ahead) if ahead == 0 or rows.starts[ahead - 1] <= layer]


def present(tree: Tree, rows: Appended, layers: int) -> dict[int, Tensor]:
    """`Slots.present`."""
    found = {layer: there(tree, rows, layer) for layer in range(layers)} if rows.starts else {}
    return {layer: constant(nodes) for layer, nodes in found.items() if len(nodes) < tree.size}


@contextmanager
def entered(backbone: nn.Module, tree: Tree, rows: Appended) -> Iterator[None]:
    """Inside, rows enter the backbone at their layers; each layer is told where those stand that go through it."""
    hooks, before = [], list(range(tree.proper))
    layers: Any = real(backbone).layers if rows.starts else ()
    for number, layer in enumerate(layers):
        now = there(tree, rows, number)
        hooks.append(layer.register_forward_pre_hook(_entering(tree, rows, before, now), with_kwargs=True))
        before = now
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _entering(tree: Tree, rows: Appended, before: list[int], now: list[int]) -> Any:
    def hook(module: nn.Module, given: tuple[Tensor, ...], more: dict[str, Any]) -> tuple[tuple[Tensor, ...], Any]:
        hidden, *others = given
        if now != before:
            hidden, order = torch.cat([hidden, *_new(tree, rows, hidden, before, now)], 1), [*before]
            for ahead in range(1, len(rows.starts) + 1):
                order += [node for node in now if tree.ahead[node] == ahead and node not in before]
            hidden = few(hidden, [order.index(node) for node in now])
        if len(now) < tree.size:
            angles = tuple(few(x, now) for x in more["position_embeddings"])
            more = {**more, "position_embeddings": angles, "position_ids": few(more["position_ids"], now)}
        return (hidden, *others), more

    return hook


def _new(tree: Tree, rows: Appended, hidden: Tensor, before: list[int], now: list[int]) -> Iterator[Tensor]:
    """What the rows that begin here enter as, those of one map together."""
    for ahead, (weight, bias) in enumerate(rows.maps, 1):
        mine = [node for node in now if tree.ahead[node] == ahead and node not in before]
        if mine:
            yield linear(few(hidden, [tree.hosts[node] for node in mine]), weight, bias)
