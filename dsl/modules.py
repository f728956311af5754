"""Modules: `module filter(prob[32]) -> prob[32] = "filter.safetensors"`, a small trained network of a rule."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dcompile.diagnostic import CompileError, Diagnostic, Label, suggest
from dcompile.dsl import syntax
from dcompile.dsl.declare import Setting
from dcompile.dsl.regions import World
from dcompile.dsl.scope import Context, Scope, Trained
from dcompile.dsl.values import constant
from dcompile.networks import Shape, Unfit, fits, shapes
from dcompile.strategy import Layer, Learned, Module, Name, Strategy, walk

KINDS = ("prob", "float")


def module(ctx: Context, scope: Scope, node: syntax.Module, settings: Mapping[str, Setting]) -> Module:
    """A module and its weights; where its file is not there it has none, unless the file was asked for by a setting."""
    sizes = []
    for kind, dimensions in ((node.taken, node.inputs), (node.given, node.outputs)):
        if kind.name not in KINDS:
            help = suggest(kind.name, KINDS, "types of modules")
            ctx.fail("unknown-type", f"there is no type `{kind.name}`", kind.span, help=help)
        if len(dimensions) != 1:
            ctx.fail("wrong-type", "a module has one dimension", kind.span, help=f"`{kind.name}[32]`")
        sizes.append(constant(ctx, scope, dimensions[0], "the size of a module", 1))
    name = node.name.name
    if sizes[0] != sizes[1]:
        title = f"`{name}` takes {sizes[0]} values and gives {sizes[1]}: it must give as many"
        ctx.fail("wrong-type", title, node.given.span.to(node.outputs[0].span))
    data = _set(node, settings[name]) if name in settings else _default(node)
    format = Path(str(settings.get(name, node.path.value))).suffix.removeprefix(".")
    if format in ("onnx", "pt2"):
        _whole(node, sizes[0], format, data)
        made = Module(name, sizes[0], node.given.name == "prob", (), data, node.span, format)  # type: ignore[arg-type]
    else:
        made = Module(name, sizes[0], node.given.name == "prob", layers(node, sizes[0], data), data, node.span)
    scope.names[name] = Trained(made)
    return made


def _set(node: syntax.Module, path: object) -> bytes:
    try:
        return Path(str(path)).read_bytes()
    except OSError as e:
        title = f"`{node.name.name}` is set to `{path}`, which cannot be read: {e.strerror}"
        raise CompileError([Diagnostic("missing-module", title, Label(node.span, "declared here"))]) from e


def _default(node: syntax.Module) -> bytes:
    folder = node.span.source.folder if node.span.source is not None else None
    try:
        return (Path() if folder is None else folder).joinpath(node.path.value).read_bytes()
    except OSError:
        return b""  # `missing` says so once the weights are needed


def _whole(node: syntax.Module, size: int, format: str, data: bytes) -> None:
    """A network that comes as a program takes `size` numbers and gives as many. Raises CompileError."""
    if not data:
        return
    try:
        taken, given = shapes(format, data)
    except Unfit as e:
        title = f"the file of `{node.name.name}` {e}"
        raise CompileError([Diagnostic("wrong-module", title, Label(node.span, "declared here"))]) from e
    if not (fits(taken, size) and fits(given, size)):
        title = f"`{node.name.name}` is declared {size} -> {size}, its file takes {_say(taken)} and gives {_say(given)}"
        help = f"[{size}], [1, {size}], or any number of rows of {size}"
        raise CompileError([Diagnostic("wrong-module", title, Label(node.span, "declared here"), help=help)])


def _say(shape: Shape) -> str:
    return f"[{', '.join('any' if d is None else str(d) for d in shape)}]"


def layers(node: syntax.Module, size: int, data: bytes) -> tuple[Layer, ...]:
    """The linear layers of a file, which must lead from `size` numbers to `size`. Raises CompileError."""
    if not data:
        return ()
    try:
        found = _layers(data)
    except Unfit as e:
        title = f"the file of `{node.name.name}` {e}"
        help = "it must hold `NAME.weight` [outputs, inputs] and `NAME.bias` of linear layers, in float32"
        raise CompileError([Diagnostic("wrong-module", title, Label(node.span, "declared here"), help=help)]) from e
    steps = [size, *(n for layer in found for n in (layer.inputs, layer.outputs)), size]
    if any(a != b for a, b in zip(steps[::2], steps[1::2], strict=True)):
        held = ", ".join(f"{layer.inputs} -> {layer.outputs}" for layer in found)
        title = f"`{node.name.name}` is declared {size} -> {size}, its file holds {held}"
        raise CompileError([Diagnostic("wrong-module", title, Label(node.span, "declared here"))])
    return found


def _layers(data: bytes) -> tuple[Layer, ...]:
    from safetensors import SafetensorError, deserialize

    try:
        tensors: dict[str, Any] = dict(deserialize(data))  # type: ignore[no-untyped-call]
    except SafetensorError as e:
        raise Unfit(f"is no safetensors file: {e}") from e
    for name, tensor in tensors.items():
        if tensor["dtype"] != "F32":
            raise Unfit(f"holds `{name}` as {tensor['dtype']}")
    stems = sorted((name.removesuffix(".weight") for name in tensors if name.endswith(".weight")), key=_in_order)
    known = {f"{stem}.{part}" for stem in stems for part in ("weight", "bias")}
    if not stems or not tensors.keys() <= known:
        raise Unfit(f"holds {', '.join(f'`{n}`' for n in sorted(tensors)) or 'nothing'}")
    return tuple(_layer(stem, tensors[f"{stem}.weight"], tensors.get(f"{stem}.bias")) for stem in stems)


def _layer(stem: str, weight: Any, bias: Any) -> Layer:
    if len(weight["shape"]) != 2 or (bias is not None and bias["shape"] != weight["shape"][:1]):
        shapes = [list(t["shape"]) for t in (weight, bias) if t is not None]
        raise Unfit(f"holds `{stem}` with the shapes {shapes}")
    outputs, inputs = weight["shape"]
    return Layer(outputs, inputs, bytes(weight["data"]), None if bias is None else bytes(bias["data"]))


def _in_order(name: str) -> list[tuple[int, str]]:
    """`layer2` stands before `layer10`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


# ---------------------------------------------------------------- what the checker says


def missing(strategy: Strategy) -> list[Diagnostic]:
    """Modules whose file is not there."""
    return [
        Diagnostic("missing-module", f"the file of `{m.name}` is not there", Label(m.span, "declared here"),
                   help=f"give it at the build: `--set {m.name}=PATH`; a path in the text starts at its folder")
        for m in strategy.modules if not m.data
    ]  # fmt: skip


def unfit(world: World, strategy: Strategy) -> list[Diagnostic]:
    """Modules over what is no block, or over blocks that are too large."""
    sizes = {m.name: m for m in strategy.modules}
    out = []
    for node in walk(strategy.body):
        if not isinstance(node, Learned):
            continue
        module, region = sizes[node.module], node.region
        if not isinstance(region, Name) or region.name not in world.blocks:
            title = f"`{module.name}` goes over a block, position by position"
            help = "name the block of a loop: `for b in blocks(answer, 32)`, then `... in b`"
            out.append(Diagnostic("misplaced-module", title, Label(region.span), help=help))
        elif (size := world.blocks[region.name].size) > module.size:
            title = f"a block of {size} positions does not fit into `{module.name}`, which takes {module.size}"
            out.append(Diagnostic("narrow-module", title, Label(node.span), (Label(module.span, "declared here"),)))
    return out
