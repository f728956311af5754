"""Modules: `module filter(prob[32]) -> prob[32] = "filter.safetensors"`, a small trained network of a rule."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dcompile.diagnostic import CompileError, Diagnostic, Label, suggest
from dcompile.dsl import heads, syntax, weights
from dcompile.dsl.declare import Setting
from dcompile.dsl.regions import World
from dcompile.dsl.scope import Context, Scope, Trained
from dcompile.dsl.values import constant
from dcompile.networks import Shape, Unfit, fits, shapes
from dcompile.strategy import Layer, Learned, Module, Name, Strategy, walk

KINDS = ("prob", "float")
HEAD = "of vectors: `module head[3](float[hidden]) -> float[hidden] = ...`"


def module(ctx: Context, scope: Scope, node: syntax.Module, settings: Mapping[str, Setting]) -> Module:
    """A module and its weights; where its file is not there it has none, unless the file was asked for by a setting."""
    for shape in (*node.taken, node.given):
        if shape.kind.name not in KINDS:
            help = suggest(shape.kind.name, KINDS, "types of modules")
            ctx.fail("unknown-type", f"there is no type `{shape.kind.name}`", shape.kind.span, help=help)
    name = node.name.name
    data = _set(node, settings[name]) if name in settings else _default(node)
    format = Path(str(settings.get(name, node.path.value))).suffix.removeprefix(".")
    if any(_names(shape, "hidden") for shape in node.taken):
        made = heads.head(ctx, scope, node, data, format)
        scope.names[name] = Trained(made)
        return made
    sizes = _sizes(ctx, scope, node)
    if format in ("onnx", "pt2"):
        _whole(node, sizes[0], format, data)
        made = Module(name, sizes[0], node.given.kind.name == "prob", (), data, node.span, format)  # type: ignore[arg-type]
    else:
        made = Module(name, sizes[0], node.given.kind.name == "prob", layers(node, sizes[0], data), data, node.span)
    scope.names[name] = Trained(made)
    return made


def _names(shape: syntax.Shape, word: str) -> bool:
    return any(isinstance(d, syntax.Word) and d.name == word for d in shape.dimensions)


def _sizes(ctx: Context, scope: Scope, node: syntax.Module) -> list[int]:
    """How many values a module over a block takes and gives."""
    sizes, name = [], node.name.name
    if node.count or len(node.taken) != 1:
        place = node.count[0].span if node.count else node.taken[1].span
        ctx.fail("wrong-type", "a module over a block is one network of one argument", place, help=HEAD)
    for shape in (*node.taken, node.given):
        if len(shape.dimensions) != 1:
            ctx.fail("wrong-type", "a module has one dimension", shape.span, help=f"`{shape.kind.name}[32]`")
        sizes.append(constant(ctx, scope, shape.dimensions[0], "the size of a module", 1))
    if sizes[0] != sizes[1]:
        title = f"`{name}` takes {sizes[0]} values and gives {sizes[1]}: it must give as many"
        ctx.fail("wrong-type", title, node.given.span)
    return sizes


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
        found = weights.layers(weights.tensors(data))
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
