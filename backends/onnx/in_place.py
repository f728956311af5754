"""Which results of a graph may be written over the input of the same name: caches that a host keeps in its buffers.

A host that gives ONNX Runtime one buffer for both spares the copy of the cache, which is most of what a step would
move. It may do so where nothing reads what is overwritten: the cache is read for what is written, before it is, and by
attention, whose bias hides what is fed from the cached part. The names stand in the file's metadata.
"""

from __future__ import annotations

import torch
from torch import fx

from dcompile.backends.onnx.appending import ATTEND_APPENDING
from dcompile.backends.onnx.front import FRONT
from dcompile.passes.facts import ATTEND, ancestors, arguments
from dcompile.program import Graph

aten = torch.ops.aten


def in_place(graph: Graph) -> list[str]:
    """The names, in the order of the results."""
    return [name for name, (place, out) in graph.handed_on().items() if _may(place, out)]


def _may(place: fx.Node, out: fx.Node) -> bool:
    if place.meta["val"].dim() != 4 or not _writes(out, place):
        return False
    before = ancestors([out])
    return all(_reads_first(user, place, before) for user in place.users)


def _writes(out: fx.Node, place: fx.Node) -> bool:
    """Whether a result is a graph's input with some rows replaced."""
    if out.target is aten.scatter.src:
        return arguments(out)[0] is place
    made, at = arguments(out)[:2] if len(out.args) > 1 else (None, 0)
    return isinstance(made, fx.Node) and made.target is ATTEND_APPENDING and arguments(made)[2][at - 1] is place


def _reads_first(user: fx.Node, place: fx.Node, before: set[fx.Node]) -> bool:
    """`before`: all that is computed when the cache has been written, the write itself included."""
    if user.target in (aten.scatter.src, aten.gather.default, ATTEND_APPENDING):
        return user in before
    if user.target is FRONT:
        return all(reader.target is ATTEND for reader in user.users)
    return user.target is ATTEND and place in (arguments(user)[1][0], arguments(user)[2][0])
