"""Faults of Inductor in torch 2.13, mended while it compiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from torch._inductor.loop_body import LoopBody
from torch._inductor.scheduler import SchedulerNode

_recompute = SchedulerNode.recompute_size_and_body
_place: Callable[[LoopBody, str], Any] = LoopBody.get_read_expr


@contextmanager
def mended() -> Iterator[None]:
    """Compile with what is below in the place of Inductor's own."""
    with (
        mock.patch.object(SchedulerNode, "recompute_size_and_body", _recompute_and_rename),
        mock.patch.object(LoopBody, "get_read_expr", _place_if_read),
    ):
        yield


def _recompute_and_rename(node: SchedulerNode, *args: Any, **kwargs: Any) -> None:
    """Reads of what another node writes into are named after the last write; a node whose loops are laid out anew to
    fit another's forgot that, and might run before the write (pytorch/pytorch#185509)."""
    _recompute(node, *args, **kwargs)
    node.set_read_writes(node.read_writes.rename(node.mutation_renames))


def _place_if_read(body: LoopBody, name: str) -> Any:
    """Where a loop reads a tensor; nowhere, if it only stores into it. Whether loops share a small buffer is decided by
    this, and failed with a KeyError for the target of a scatter."""
    try:
        return _place(body, name)
    except KeyError:
        return None
