"""Modules over vectors: `module head[3](float[hidden]) -> float[hidden] = "head.safetensors"`."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal as OneOf

from dcompile.diagnostic import CompileError, Diagnostic, Label
from dcompile.dsl import syntax, weights
from dcompile.dsl.scope import Context, Scope
from dcompile.dsl.values import constant
from dcompile.model import Facts
from dcompile.networks import Unfit, fits, shapes
from dcompile.strategy import Layer, Module, Strategy

Given = OneOf["number", "vectors", "scores"]
TAKES = "`float[hidden]`, or several: `float[4, hidden]`"
GIVES = "`prob` or `float`, `float[hidden]`, `float[4, hidden]`, or `float[vocab]`"
HOLDS = "linear layers `NAME.weight` [outputs, inputs] and `NAME.bias`; of several networks `0.NAME.weight` and so on"


def head(ctx: Context, scope: Scope, node: syntax.Module, data: bytes, format: str) -> Module:
    """A module that takes vectors, and its weights; sizes are known with the model (`mismatched`)."""
    takes = tuple(_vectors(ctx, scope, shape) for shape in node.taken)
    gives, parts = _given(ctx, scope, node.given)
    count = constant(ctx, scope, node.count[0], "how many networks there are", 1) if node.count else 1
    whole = format in ("onnx", "pt2")
    if len(node.count) > 1 or (whole and count > 1):
        title = "a file of this kind holds one network" if whole else "networks are counted by one number"
        ctx.fail("wrong-type", title, node.count[-1].span, help="`module head[3](...)`, of a safetensors file")
    name, probability = node.name.name, node.given.kind.name == "prob"
    try:
        found = () if whole or not data else networks(data, count)
    except Unfit as e:
        title = f"the file of `{name}` {e}"
        raise CompileError([Diagnostic("wrong-module", title, Label(node.span, "declared here"), help=HOLDS)]) from e
    return Module(
        name, 0, probability, found, data, node.span, format if whole else "safetensors", takes, gives, parts, count  # type: ignore[arg-type]
    )  # fmt: skip


def _vectors(ctx: Context, scope: Scope, shape: syntax.Shape) -> int:
    """How many vectors a shape says."""
    *several, last = shape.dimensions or (None,)
    if shape.kind.name != "float" or not isinstance(last, syntax.Word) or last.name != "hidden" or len(several) > 1:
        ctx.fail("wrong-type", "a module over vectors takes vectors", shape.span, help=TAKES)
    return constant(ctx, scope, several[0], "how many vectors these are", 1) if several else 1


def _given(ctx: Context, scope: Scope, shape: syntax.Shape) -> tuple[Given, int]:
    if not shape.dimensions:
        return "number", 1
    only = shape.dimensions[0]
    if (
        shape.kind.name == "float"
        and len(shape.dimensions) == 1
        and isinstance(only, syntax.Word)
        and only.name == "vocab"
    ):
        return "scores", 1
    last = shape.dimensions[-1]
    if shape.kind.name != "float" or not isinstance(last, syntax.Word) or last.name != "hidden":
        ctx.fail("wrong-type", "a module over vectors gives no such thing", shape.span, help=GIVES)
    return "vectors", _vectors(ctx, scope, shape)


def networks(data: bytes, count: int) -> tuple[Layer, ...]:
    """The layers of `count` networks of one shape, one behind the other. Raises Unfit."""
    found = weights.tensors(data, ("F32", "F16"))
    if count == 1:
        return _joined(weights.layers(found))
    known = {str(n) for n in range(count)}
    if {name.partition(".")[0] for name in found} != known:
        raise Unfit(f"holds {', '.join(f'`{n}`' for n in sorted(found))}, and {count} networks are asked for")
    parts = [
        {name.partition(".")[2]: t for name, t in found.items() if name.partition(".")[0] == number}
        for number in sorted(known, key=int)
    ]
    made = [_joined(weights.layers(part)) for part in parts]
    if len({tuple((x.inputs, x.outputs, x.bias is None) for x in layers) for layers in made}) > 1:
        raise Unfit("holds networks of different shapes")
    return tuple(layer for layers in made for layer in layers)


def _joined(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    if any(a.outputs != b.inputs for a, b in pairwise(layers)):
        raise Unfit(f"holds layers that do not follow each other: {_say(layers)}")
    return layers


def _say(layers: tuple[Layer, ...]) -> str:
    return ", ".join(f"{layer.inputs} -> {layer.outputs}" for layer in layers)


# ---------------------------------------------------------------- with a model


def mismatched(strategy: Strategy, facts: Facts) -> list[Diagnostic]:
    """Modules whose files are not of the size of the model's hidden state."""
    out = []
    for module in strategy.modules:
        if not module.takes or not module.data:
            continue
        wanted = sizes(module, facts)
        if module.layers:
            layers = module.networks[0]
            fit, held = (layers[0].inputs, layers[-1].outputs) == wanted, _say(layers)
        else:
            both = shapes(module.format, module.data)
            fit = all(fits(shape, size) for shape, size in zip(both, wanted, strict=True))
            held = " -> ".join(str(list(shape)).replace("None", "any") for shape in both)
        if not fit:
            title = f"`{module.name}` is to go {wanted[0]} -> {wanted[1]} with this model, and its file holds {held}"
            help = f"the hidden state of `{facts.source or facts.family}` has {facts.hidden} numbers"
            out.append(Diagnostic("wrong-module", title, Label(module.span, "declared here"), help=help))
    return out


def sizes(module: Module, facts: Facts) -> tuple[int, int]:
    """How many numbers a module over vectors takes and gives."""
    given = {"number": 1, "scores": facts.vocab}.get(module.gives, module.parts * facts.hidden)
    return sum(module.takes) * facts.hidden, given
