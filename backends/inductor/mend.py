"""Faults of Inductor in torch 2.13, mended while it compiles."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from torch._inductor.codegen.cpp import CppScheduling
from torch._inductor.scheduler import SchedulerNode

_recompute = SchedulerNode.recompute_size_and_body


@contextmanager
def mended() -> Iterator[None]:
    """Compile with readers of scattered tensors in their place: behind the scatter."""
    with mock.patch.object(SchedulerNode, "recompute_size_and_body", _recompute_and_rename):
        yield


@contextmanager
def loops_apart() -> Iterator[None]:
    """Compile without fusing outer loops: it fails where a value is read only by a store into it."""
    with mock.patch.object(CppScheduling, "can_fuse_vertical_outer_loop", lambda *_: False):
        yield


def _recompute_and_rename(node: SchedulerNode, *args: Any, **kwargs: Any) -> None:
    """Reads of what another node writes into are named after the last write; a node whose loops are laid out anew to
    fit another's forgot that, and might run before the write (pytorch/pytorch#185509)."""
    _recompute(node, *args, **kwargs)
    node.set_read_writes(node.read_writes.rename(node.mutation_renames))
