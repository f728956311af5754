"""Appended rows: `rows masks[4] = "masks.safetensors"`, embeddings that a call on a draft is fed behind its nodes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dcompile import trees
from dcompile.diagnostic import CompileError, Diagnostic, Label, suggest
from dcompile.dsl import syntax, weights
from dcompile.dsl.declare import Setting
from dcompile.dsl.scope import Broken, Context, Failed, RowsName, Scope
from dcompile.dsl.values import constant
from dcompile.model import Facts
from dcompile.networks import Unfit
from dcompile.source import Span
from dcompile.strategy import Layer, Rows, Strategy
from dcompile.trees import Tree

EMBEDDINGS, DOWN, UP = "embeddings", ".lora_A", ".lora_B"
MAPS = (
    "it must hold linear maps `0.weight`, `1.weight`, ... [width, width] in float32, perhaps each with a `bias`, and \
perhaps `LAYER.lora_A` with `LAYER.lora_B`"
)
HELP = "it must hold `embeddings` [rows, width] in float32, and perhaps `LAYER.lora_A` with `LAYER.lora_B`"


def rows(ctx: Context, scope: Scope, node: syntax.Rows, settings: Mapping[str, Setting]) -> Rows:
    """Declared rows and their file; where it is not there they are empty, unless it was asked for by a setting."""
    name, count = node.name.name, constant(ctx, scope, node.count, "the number of rows", 1)
    starts = _starts(ctx, scope, node, count)
    data = _read(node, settings.get(name))
    try:
        made = _made(name, count, data, node.span, starts)
    except Unfit as e:
        title, help = f"the file of `{name}` {e}", MAPS if starts else HELP
        raise CompileError([Diagnostic("wrong-rows", title, Label(node.span, "declared here"), help=help)]) from e
    scope.names[name] = RowsName(made)
    return made


def _starts(ctx: Context, scope: Scope, node: syntax.Rows, count: int) -> tuple[int, ...]:
    """The first layer that each row goes through, if they begin inside the model."""
    if node.layer is None:
        return ()
    if not isinstance(node.layer, syntax.Listing):
        return (constant(ctx, scope, node.layer, "the first layer of the rows", 0),) * count
    found = tuple(constant(ctx, scope, item, "the first layer of a row", 0) for item in node.layer.items)
    if len(found) != count:
        help = "one layer for all rows, or a list with one for each"
        ctx.fail("wrong-rows", f"these are {len(found)} layers, and {count} rows", node.layer.span, help=help)
    return found


def _read(node: syntax.Rows, given: Setting | None) -> bytes:
    folder = node.span.source.folder if node.span.source is not None and given is None else None
    path = str(node.path.value if given is None else given)
    try:
        return (Path() if folder is None else folder).joinpath(path).read_bytes()
    except OSError as e:
        if given is None:
            return b""  # `missing` says so once they are needed
        title = f"`{node.name.name}` is set to `{path}`, which cannot be read: {e.strerror}"
        raise CompileError([Diagnostic("missing-rows", title, Label(node.span, "declared here"))]) from e


def _made(name: str, count: int, data: bytes, span: Span, starts: tuple[int, ...]) -> Rows:
    if not data:
        return Rows(name, count, 0, span=span, starts=starts)
    tensors = weights.tensors(data)
    if starts:
        return _mapped(name, count, data, span, starts)
    for key, tensor in sorted(tensors.items()):
        if len(tensor["shape"]) != 2:
            raise Unfit(f"holds `{key}` as {tensor['dtype']} {list(tensor['shape'])}")
    if EMBEDDINGS not in tensors:
        raise Unfit(f"holds {', '.join(f'`{n}`' for n in sorted(tensors)) or 'nothing'}, and no `{EMBEDDINGS}`")
    held, width = tensors[EMBEDDINGS]["shape"]
    if held < count:
        raise Unfit(f"holds {held} rows, and {count} are declared")
    embeddings = tensors[EMBEDDINGS]["data"][: 4 * count * width]
    others = {key: tensor for key, tensor in tensors.items() if key != EMBEDDINGS}
    return Rows(name, count, width, embeddings, _adapters(others), data, span)


def _mapped(name: str, count: int, data: bytes, span: Span, starts: tuple[int, ...]) -> Rows:
    """Rows that begin inside the model, each by a linear map of its own."""
    tensors = weights.tensors(data)
    others = {key: tensor for key, tensor in tensors.items() if key.endswith((DOWN, UP))}
    maps = weights.layers({key: tensor for key, tensor in tensors.items() if key not in others})
    if len(maps) < count:
        raise Unfit(f"holds {len(maps)} maps, and {count} rows are declared")
    sizes = {size for layer in maps for size in (layer.inputs, layer.outputs)}
    if len(sizes) > 1:
        raise Unfit(f"holds maps of different widths: {', '.join(map(str, sorted(sizes)))}")
    return Rows(name, count, sizes.pop(), b"", _adapters(others), data, span, starts, maps[:count])


def _adapters(tensors: weights.Tensors) -> tuple[tuple[str, Layer, Layer], ...]:
    """The low-rank pairs of a file, by the names of the layers that they change."""
    stems = sorted({key.removesuffix(DOWN).removesuffix(UP) for key in tensors})
    found = []
    for stem in stems:
        down, up = tensors.get(stem + DOWN), tensors.get(stem + UP)
        if down is None or up is None or down["shape"][0] != up["shape"][1]:
            raise Unfit(f"holds no pair `{stem}{DOWN}` [r, inputs] and `{stem}{UP}` [outputs, r]")
        found.append((stem, _layer(down), _layer(up)))
    return tuple(found)


def _layer(tensor: Any) -> Layer:
    outputs, inputs = tensor["shape"]
    return Layer(outputs, inputs, tensor["data"], None)


# ---------------------------------------------------------------- behind a draft


def appended(ctx: Context, scope: Scope, node: syntax.Draft, shape: Tree) -> tuple[Tree, str | None]:
    """The tree with the rows that `draft ... with rows` appends to each node, and their name."""
    if node.rows is None:
        return shape, None
    name, found = node.rows, (scope.find(node.rows.name) or (None, None))[1]
    if isinstance(found, Broken):
        raise Failed
    if not isinstance(found, RowsName):
        known = [n for n in scope.visible() if isinstance((scope.find(n) or (0, 0))[1], RowsName)]
        help = suggest(name.name, known, "rows") if known else 'declare them: `rows masks[4] = "masks.safetensors"`'
        ctx.fail("unknown-rows", f"there are no rows `{name.name}`", name.span, help=help)
    if node.model is not None:
        help = "rows guess what follows: a table keeps it for the next `{ token = ... }`"
        ctx.fail("unknown-rows", "a draft by a second model has no appended rows", name.span, help=help)
    if shape.growth is not None:
        ctx.fail("unknown-rows", "rows are appended to nodes whose places are known", name.span, help="`expand(4, 2)`")
    try:
        return trees.attach(shape, found.rows.count), found.rows.name
    except CompileError as e:
        ctx.diagnostics += [Diagnostic(d.code, d.title, Label(name.span), help=d.help) for d in e.diagnostics]
        raise Failed from None


# ---------------------------------------------------------------- with a model


def unfit(strategy: Strategy, facts: Facts) -> list[Diagnostic]:
    """Rows whose file is not there, or whose embeddings are not as wide as the model's."""
    out = []
    for rows in strategy.rows:
        here = Label(rows.span, "declared here")
        if not rows.data:
            help = f"give it at the build: `--set {rows.name}=PATH`; a path in the text starts at its folder"
            out.append(Diagnostic("missing-rows", f"the file of `{rows.name}` is not there", here, help=help))
        elif rows.width != facts.hidden:
            what = "maps vectors" if rows.starts else "has embeddings"
            title = f"`{rows.name}` {what} of {rows.width} numbers, and the model's have {facts.hidden}"
            out.append(Diagnostic("wrong-rows", title, here))
        elif rows.starts and max(rows.starts) >= facts.layers:
            title = f"`{rows.name}` begins at layer {max(rows.starts)}, and the model's last one is {facts.layers - 1}"
            out.append(Diagnostic("wrong-rows", title, here, help="layers count from 0"))
    return out
