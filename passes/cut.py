"""Cut a program at its loops: one graph per stretch between them, and a host that runs `graphs[next]` until -1.

`step` cuts every loop that calls the model, `block` only the outermost ones that commit. Values that cross a cut live
in a flat state of named arrays; what a loop carries keeps its name (`tokens`, `order`, ...), so that a host can look at
the canvas after each turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx

import dcompile.ops  # noqa: F401  (registers dcompile::attend)
from dcompile.passes.facts import ATTEND, arguments, inner_graph, placeholders, results
from dcompile.passes.replay import Replay, weights_of
from dcompile.program import WHILE, Graph, Port, Program, modules
from dcompile.record import Recorder


@dataclass
class Frame:
    """A graph being cut: which slot of the state holds the value of a node, and, of a loop's body, which slots it
    takes its carried values from at the start of a turn. Without a loop it is the whole program."""

    module: fx.GraphModule
    slots: dict[fx.Node, str]
    carried: tuple[str, ...] = ()
    loop: fx.Node | None = None
    outer: Frame | None = None


@dataclass
class Point:
    """Where a graph of the result begins: a frame, and the node behind which it goes on (None: at its start)."""

    frame: Frame
    behind: fx.Node | None
    index: int
    title: str = ""


@dataclass
class Cutter:
    program: Program
    level: str
    points: dict[tuple[int, fx.Node | None], Point] = field(default_factory=dict)
    queue: list[Point] = field(default_factory=list)
    state: dict[str, Port] = field(default_factory=dict)
    graphs: list[Graph] = field(default_factory=list)
    bodies: dict[fx.Node, Frame] = field(default_factory=dict)

    def cuts(self, node: fx.Node, frame: Frame) -> bool:
        """Whether a node is a loop to cut at."""
        if node.target is not WHILE:
            return False
        body = inner_graph(frame.module, arguments(node)[1])
        nodes = (n for m in modules(body) for n in m.graph.nodes)
        calls = any(n.target is ATTEND or "call" in n.meta for n in nodes)  # storing in one layer attends to nothing
        if self.level == "block":
            return calls and frame.loop is None and "tokens" in node.meta["carried"]
        return calls

    def point(self, frame: Frame, behind: fx.Node | None) -> Point:
        key = (id(frame), behind)
        if key not in self.points:
            self.points[key] = Point(frame, behind, len(self.points))
            self.queue.append(self.points[key])
        return self.points[key]


def cut(program: Program, loop: str) -> Program:
    """The program with its loop run by the host: `loop` is `block` or `step` (`inside` changes nothing)."""
    if loop == "inside":
        return program
    (graph,) = program.graphs
    cutter = Cutter(program, loop)
    frame = Frame(graph.module, {n: p.name for n, p in zip(placeholders(graph.module), graph.inputs, strict=True)})
    for port in graph.inputs:
        cutter.state[port.name] = port
    cutter.point(frame, None)
    while cutter.queue:
        cutter.graphs.append(_Segment(cutter, cutter.queue.pop(0), graph).record())
    return replace(program, graphs=tuple(cutter.graphs), loop=loop, state=tuple(cutter.state.values()))


class _Segment:
    """Records one graph: from a point to the next loop, the end of a turn, or the end of the program."""

    def __init__(self, cutter: Cutter, point: Point, whole: Graph) -> None:
        self.cutter, self.at, self.whole = cutter, point, whole
        self.recorder = Recorder(weights_of(whole.module))
        self.inputs: dict[str, Tensor] = {}
        self.outputs: dict[str, Tensor] = {}
        self.titles: list[str] = []

    def record(self) -> Graph:
        with self.recorder.recording():
            self._walk(self.at.frame, self.at.behind, {})
            changed = {n: t for n, t in self.outputs.items() if t is not self.inputs.get(n)}
            module = self.recorder.finish(list(changed.values()))
        ports = tuple(self.cutter.state[n] for n in self.inputs)
        outs = tuple(_port(n, t) for n, t in changed.items())
        title = "_".join(dict.fromkeys(self.titles)) or ("start" if self.at.index == 0 else "turn")
        return Graph(f"{self.at.index}_{title}", module, ports, outs)

    def _walk(self, frame: Frame, behind: fx.Node | None, known: dict[fx.Node, Any]) -> None:
        replay = _Stretch(self, frame, known)
        nodes = list(frame.module.graph.nodes)
        for node in nodes[nodes.index(behind) + 1 if behind is not None else 0 :]:
            if node.op == "call_function" and self.cutter.cuts(node, frame):
                self._enter(replay, frame, node)
                return
            if node.op == "call_function":
                replay.value(node)
        self._leave(replay, frame)

    def _enter(self, replay: _Stretch, frame: Frame, node: fx.Node) -> None:
        """In front of a loop: hand over what it carries and what is needed later, and choose its body or its end."""
        names = list(node.meta["carried"])
        carried, captured = (list(nodes) for nodes in arguments(node)[2:])
        start = [replay.value(n) for n in carried]
        self._save(replay, frame, node, captured)
        for name, value in zip(names, start, strict=True):
            self._put(name, value)
        body = self._body(frame, node, names, captured)
        self._choose(node, frame, [*start, *[replay.value(n) for n in captured]], body)

    def _body(self, frame: Frame, node: fx.Node, names: list[str], captured: list[fx.Node]) -> Frame:
        if node not in self.cutter.bodies:
            module = inner_graph(frame.module, arguments(node)[1])
            slots = dict(zip(placeholders(module), [*names, *[frame.slots[n] for n in captured]], strict=True))
            self.cutter.bodies[node] = Frame(module, slots, tuple(names), node, frame)
            for user in node.users:
                frame.slots[user] = names[arguments(user)[1]]
        return self.cutter.bodies[node]

    def _choose(self, node: fx.Node, frame: Frame, values: Sequence[Tensor], body: Frame) -> None:
        cond = inner_graph(frame.module, arguments(node)[0])
        again = Replay(self.recorder, cond, values).run()[0].reshape(1)
        yes, no = self.cutter.point(body, None).index, self.cutter.point(frame, node).index
        self._put("next", torch.where(again, yes, no).to(torch.int64))

    def _leave(self, replay: _Stretch, frame: Frame) -> None:
        """At the end of a body: the next turn or what follows the loop; at the end of all: the results."""
        values = [replay.value(n) for n in results(frame.module)]
        if frame.loop is None:
            for port, value in zip(self.whole.outputs, values, strict=True):
                self._put(port.name, value)
            self._put("next", torch.full((1,), -1, dtype=torch.int64))
            return
        assert frame.outer is not None
        for name, value in zip(frame.carried, values, strict=True):
            self._put(name, value)
        captured = [replay.value(n) for n in placeholders(frame.module)[len(values) :]]
        self._choose(frame.loop, frame.outer, [*values, *captured], frame)

    def _save(self, replay: _Stretch, frame: Frame, node: fx.Node, captured: list[fx.Node]) -> None:
        """Give a slot to each value that is used inside or behind the loop; carried names are about to be taken."""
        taken = _carried_inside(frame.module, node)
        nodes = list(frame.module.graph.nodes)
        place = nodes.index(node)
        later = {i for n in nodes[place + 1 :] for i in n.all_input_nodes}
        needed = [n for n in nodes[:place] if n in later or n in captured]
        for item in needed:
            if item.op == "get_attr" or frame.slots.get(item, "") not in ("", *taken):
                continue
            name = f"{item.name}_{len(self.cutter.state)}"
            self._put(name, replay.value(item))
            frame.slots[item] = name

    def _put(self, name: str, value: Tensor) -> None:
        self.outputs[name] = value
        port = _port(name, value)
        assert self.cutter.state.setdefault(name, port) == port, f"two kinds of value in state `{name}`"

    def read(self, name: str) -> Tensor:
        """A slot of the state as an input of this graph."""
        if name not in self.inputs:
            port = self.cutter.state[name]
            self.inputs[name] = self.recorder.input(name, port.shape, getattr(torch, port.dtype))
        return self.inputs[name]


class _Stretch(Replay):
    """Replays a part of a frame: a value from before it is read from the state."""

    def __init__(self, segment: _Segment, frame: Frame, known: dict[fx.Node, Any]) -> None:
        self.recorder, self.module = segment.recorder, frame.module
        self.segment, self.frame, self.env = segment, frame, known

    def inside(self, module: fx.GraphModule, inputs: Sequence[Tensor]) -> list[Tensor]:
        return Replay(self.recorder, module, inputs).run()

    def value(self, node: fx.Node) -> Any:
        if node not in self.env and node in self.frame.slots:
            self.env[node] = self.segment.read(self.frame.slots[node])
        if node not in self.env and node.op == "call_function":
            for argument in node.all_input_nodes:
                self.value(argument)
        return super().value(node)

    def visit(self, node: fx.Node) -> Any:
        if (title := node.meta.get("call")) and node.target is ATTEND:
            self.segment.titles.append(title)
        return super().visit(node)


def _carried_inside(module: fx.GraphModule, node: fx.Node) -> set[str]:
    """The names that a loop, or one inside it, carries."""
    names = set(node.meta["carried"])
    body = inner_graph(module, arguments(node)[1])
    for inner in modules(body):
        for n in inner.graph.nodes:
            if n.target is WHILE:
                names |= set(n.meta["carried"])
    return names


def _port(name: str, value: Tensor) -> Port:
    return Port(name, str(value.dtype).removeprefix("torch."), tuple(value.shape))
