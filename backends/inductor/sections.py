"""Which parts of a graph are layers that are alike, and what each takes from outside."""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from dcompile.ops import STORE
from dcompile.passes.facts import ATTEND, is_control

aten = torch.ops.aten

LEAST = 3  # sections that are worth a loop
Section = list[fx.Node]


@dataclass(frozen=True, eq=False)
class Run:
    """Sections in a row that are alike, each fed by the one before it.

    `fed`: what the first is fed from elsewhere, by the place in a section whose value the others are fed; `outside`:
    what the second takes that no section makes, and what each section takes in its stead.
    """

    sections: Sequence[Section]
    fed: Mapping[int, fx.Node]
    outside: Mapping[fx.Node, tuple[fx.Node, ...]]

    def leaving(self, r: int) -> set[int]:
        """The places of a section whose values others ask for than itself and the next."""
        return {j for j, node in enumerate(self.sections[r]) if _leaves(node, self.sections[r : r + 2])}


def runs(module: fx.GraphModule) -> list[Run]:
    """All of at least LEAST sections in a graph."""
    found: list[Run] = []
    sections: list[Section] = []
    for section in [*_sections(module), []]:
        if sections and not _goes_on(sections, section):
            if len(sections) >= LEAST and (run := _run(sections)) is not None:
                found.append(run)
            sections = []
        sections.append(section)
    return found


def _sections(module: fx.GraphModule) -> list[Section]:
    """The operations that depend on one attention, on two in a row, and so on."""
    nodes = [node for node in module.graph.nodes if node.op == "call_function"]
    depth = dict.fromkeys(module.graph.nodes, 0)
    for node in nodes:
        depth[node] = max((depth[n] for n in node.all_input_nodes), default=0) + (node.target is ATTEND)
    stored = {node for node in nodes if node.target is STORE}
    for node in reversed(nodes):  # what is computed for a store alone, with it
        if node.target in (aten.gather.default, aten.where.self) and node.users and stored.issuperset(node.users):
            depth[node] = min(depth[user] for user in node.users)
            stored.add(node)
    found = defaultdict(list)
    for node in nodes:
        found[depth[node]].append(node)
    return [found[d] for d in sorted(found) if d > 0]


def _goes_on(run: Sequence[Section], section: Section) -> bool:
    """Whether a section is like those of a run, and fed by the last."""
    if any(is_control(n) or n.target is operator.getitem for n in (*run[0], *section)):
        return False
    if _form(section, []) != _form(run[0], []) or any(_is_lost(n, (run[-1], section)) for n in run[-1]):
        return False
    taken = {n for node in section for n in node.all_input_nodes}
    if any(n in taken for other in run[:-1] for n in other) or any(n.target is STORE for n in taken & {*run[-1]}):
        return False
    return len(run) == 1 or _form(section, run[-1]) == _form(run[1], run[0])


def _form(section: Section, before: Section) -> list[Any]:
    """A section without its names: operations, and where in it, or in the one before it, their operands stand."""
    places = {node: ("before", j) for j, node in enumerate(before)} | {n: ("here", j) for j, n in enumerate(section)}

    def place(node: fx.Node) -> Any:
        return places.get(node, ("outside", -1))

    return [(n.target, fx.node.map_arg((n.args, n.kwargs), place), _layout(n)) for n in section]


def _layout(node: fx.Node) -> tuple[Any, ...]:
    value = node.meta["val"]
    return value.dtype, value.shape, value.stride()


def _leaves(node: fx.Node, sections: Sequence[Section]) -> bool:
    """Whether a value is asked for by others than these sections."""
    return not {*node.users} <= {n for section in sections for n in section}


def _is_lost(node: fx.Node, sections: Sequence[Section]) -> bool:
    """Whether others ask for a value that a loop could not keep for them."""
    return node.target is not STORE and node.meta["val"].dtype is not torch.float32 and _leaves(node, sections)


def _run(sections: Sequence[Section]) -> Run | None:
    """None where one operand of the second section stands for two of another, or layouts differ."""
    inside = {node for section in sections for node in section}
    places = {node: j for j, node in enumerate(sections[0])}
    fed: dict[int, fx.Node] = {}
    outside: dict[fx.Node, tuple[fx.Node, ...]] = {}
    for each in zip(*([n for node in section for n in _read(node)] for section in sections), strict=True):
        first, second, *_ = each
        if second in places and fed.setdefault(places[second], first) is not first:
            return None
        if second not in inside and outside.setdefault(second, each) != each:
            return None
    even = all(_layout(n) == _layout(second) for second, each in outside.items() for n in each)
    plain = all(n.meta["val"].is_contiguous() for each in outside.values() if len({*each}) > 1 for n in each)
    return Run(sections, fed, outside) if even and plain else None


def _read(node: fx.Node) -> list[fx.Node]:
    """A node's operands in order, one that stands there twice, twice."""
    found: list[fx.Node] = []
    fx.node.map_arg((node.args, node.kwargs), found.append)
    return found
