"""One model call as tensor code: the transformers backbone with our attention over explicit key and value slots.

A cache object handed in as `past_key_values` takes each layer's new keys and values; an attention function registered
with transformers joins them with the slots. So one wrapper gives causal, full, block-causal and tree attention for
every architecture, and the recorder sees keys and values as plain tensors.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

import dcompile.ops  # noqa: F401  (registers dcompile::attend)
from dcompile import cache, transcript
from dcompile.models.kept import entry_of, named, real, sleeping
from dcompile.models.parts import part_of
from dcompile.record import Recorder, active, meta

NAME = "dcompile"
TRACE = "trace.json"


@dataclass
class Slots:
    """Keys and values of one call. `caches[l]` is layer l's (k, v) [B, G, C, D], or None when nothing cached is read;
    `bias` [B, 1, W, C] for the cached part, `fresh_bias` [B, 1, W, W] for the rows being fed (see ops.attend).
    `earlier`: rows of calls before, by layer, and their bias. `watch`: computes a layer's attention in place of
    `attend`, from its queries, the parts (keys, values, bias) and the scale. `present`: of a layer that not all W rows
    go through, which do."""

    caches: Sequence[tuple[Tensor, Tensor]] | None
    bias: Tensor | None
    fresh_bias: Tensor
    fresh: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    earlier: Sequence[tuple[Mapping[int, tuple[Tensor, Tensor]], Tensor]] = ()
    watch: Callable[[int, Tensor, Sequence[tuple[Tensor, Tensor, Tensor]], float], Tensor] | None = None
    present: Mapping[int, Tensor] = field(default_factory=dict)

    def biases(self, layer: int) -> tuple[Tensor | None, Tensor]:
        """`bias` and `fresh_bias` of the rows that go through a layer."""
        rows = self.present.get(layer)
        if rows is None:
            return self.bias, self.fresh_bias
        own = torch.index_select(torch.index_select(self.fresh_bias, 2, rows), 3, rows)
        return None if self.bias is None else torch.index_select(self.bias, 2, rows), own

    def update(self, key: Tensor, value: Tensor, layer: int, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """What transformers calls with a layer's new keys and values [B, G, W, D]."""
        self.fresh[layer] = (key, value)
        return key, value

    def get_seq_length(self, layer: int = 0) -> int:
        return 0


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None = None,
    *, slots: Slots, **kwargs: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    assert mask is None, "transformers made a mask of its own"
    layer: Any = module.layer_idx
    parts = [(*pairs[layer], bias) for pairs, bias in slots.earlier]
    bias, own = slots.biases(layer)
    parts.append((key, value, own))
    if slots.caches is not None:
        assert bias is not None
        parts.insert(0, (*slots.caches[layer], bias))
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    if slots.watch is not None:
        return slots.watch(layer, query, parts, scale).transpose(1, 2), None
    keys, values, biases = (list(column) for column in zip(*parts, strict=True))
    out = torch.ops.dcompile.attend(query, keys, values, biases, scale)
    return out.transpose(1, 2), None


def call_backbone(
    backbone: nn.Module, ids: Tensor, positions: Tensor, slots: Slots, condition: Tensor | None = None,
    embeds: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Hidden states [B, W, E] behind the last norm for token ids and positions [B, W]; fills `slots.fresh`. `condition`
    [B, W, V] is fed to the decoder of a canvas model; without it its encoder runs. `embeds` [B, W, E]:
    what is fed in place of the ids' embeddings."""
    if condition is not None or embeds is not None or slots.watch is not None:
        return _run(real(backbone), ids, positions, slots, condition, embeds)
    inputs, shape = _flat(slots)

    def run(given: Sequence[Tensor]) -> list[Tensor]:
        own = _joined(shape, given[2:])
        hidden = _run(real(backbone), given[0], given[1], own, None, None)
        assert list(own.fresh) == list(range(len(own.fresh))), "layers that run out of order"
        return [hidden, *(x for pair in own.fresh.values() for x in pair)]

    hidden, *fresh = traced(backbone, "model", shape, [ids, positions, *inputs], run)
    slots.fresh.update({i: (fresh[2 * i], fresh[2 * i + 1]) for i in range(len(fresh) // 2)})
    return hidden


def call_head(head: nn.Module, hidden: Tensor) -> Tensor:
    """Logits [.., V] for hidden states [.., E]."""
    recorder = active()
    with nullcontext() if recorder is None else recorder.tagged(part="head"):
        return traced(head, "head", None, [hidden], lambda given: [real(head)(given[0])])[0]


Run = Callable[[Sequence[Tensor]], list[Tensor]]
Shape = tuple[int | None, tuple[tuple[int, ...], ...]]  # layers with a cache, and those of each earlier part


def _flat(slots: Slots) -> tuple[list[Tensor], Shape]:
    """What a call reads of its slots, one after another."""
    inputs = [slots.fresh_bias]
    if slots.caches is not None:
        assert slots.bias is not None
        inputs += [slots.bias, *(x for pair in slots.caches for x in pair)]
    for pairs, bias in slots.earlier:
        inputs += [bias, *(x for pair in pairs.values() for x in pair)]
    return inputs, (
        None if slots.caches is None else len(slots.caches),
        tuple(tuple(pairs) for pairs, _ in slots.earlier),
    )


def _joined(shape: Shape, inputs: Sequence[Tensor]) -> Slots:
    """The slots that `_flat` took apart, from other tensors."""
    given = iter(inputs)
    layers, earlier = shape
    fresh_bias = next(given)
    bias = None if layers is None else next(given)
    caches = None if layers is None else [(next(given), next(given)) for _ in range(layers)]
    parts = []
    for numbers in earlier:
        own = next(given)
        parts.append(({n: (next(given), next(given)) for n in numbers}, own))
    return Slots(caches, bias, fresh_bias, earlier=parts)


@contextmanager
def parts_told(backbone: nn.Module) -> Iterator[None]:
    """What is recorded inside is tagged with the part of the model that it belongs to, by the modules that run."""
    recorder = active()
    if recorder is None:
        yield
        return
    parts = {id(module): part for name, module in backbone.named_modules() if (part := part_of(name)) is not None}
    before, outer = recorder.tags, list[dict[str, str]]()

    def enter(module: nn.Module, _: Any) -> None:
        if id(module) in parts:
            outer.append(recorder.tags)
            recorder.tags = {**recorder.tags, "part": parts[id(module)]}

    def leave(module: nn.Module, *_: Any) -> None:
        if id(module) in parts:
            recorder.tags = outer.pop()

    hooks = torch.nn.modules.module
    handles = [hooks.register_module_forward_pre_hook(enter), hooks.register_module_forward_hook(leave)]
    recorder.tags = {**before, "part": "layers"}
    try:
        yield
    finally:
        recorder.tags = before
        for handle in handles:
            handle.remove()


def attention_name() -> str:
    """The name by which transformers knows our attention."""
    from transformers import AttentionInterface  # takes seconds, which a build of what was traced before need not wait

    AttentionInterface.register(NAME, _attention)
    return NAME


def _run(
    backbone: nn.Module, ids: Tensor, positions: Tensor, slots: Slots, condition: Tensor | None, embeds: Tensor | None
) -> Tensor:
    from dcompile.models.canvas import CanvasBackbone

    config: Any = backbone.config
    before = config._attn_implementation
    config._attn_implementation = attention_name()
    try:
        with parts_told(backbone):
            if isinstance(backbone, CanvasBackbone):
                return backbone.traced(ids, positions, slots, condition)
            fed = {"input_ids": ids} if embeds is None else {"inputs_embeds": embeds}
            out = backbone(**fed, position_ids=positions, past_key_values=slots, use_cache=True, slots=slots)
    finally:
        config._attn_implementation = before
    hidden: Tensor = out.last_hidden_state
    return hidden


def named_weights(backbone: nn.Module, head: nn.Module) -> Mapping[str, Tensor]:
    """Parameters and buffers by dotted name; a tied weight keeps the backbone's name."""
    if (asleep := sleeping(backbone)) is not None:
        return asleep.weights
    found: dict[str, Tensor] = {}
    for name, tensor in named(real(backbone), real(head)):
        found.setdefault(name, tensor)
    return found


# ---------------------------------------------------------------- calls that were traced before


def traced(module: nn.Module, kind: str, shape: object, inputs: Sequence[Tensor], run: Run) -> list[Tensor]:
    """What `run` gives for these inputs. While a graph is recorded, and builds keep what they trace: by way of a graph
    of its own, which is traced once for these shapes and kept."""
    recorder, entry = active(), entry_of(module)
    if recorder is None or entry is None or _is_changed(module):
        return run(inputs)
    forms = [(str(x.dtype), list(x.shape), list(x.stride())) for x in inputs]
    name = cache.key("trace", entry, kind, shape, forms)
    if name not in recorder.graphs:
        weights = _weights_of(module, kind)
        found = _read(name, weights)
        if found is None:
            found = _record(inputs, run, weights)
            cache.put(name, lambda folder: _write(folder, found, weights))
        recorder.graphs[name] = found
    return recorder.inline(recorder.graphs[name], inputs)


def _is_changed(module: nn.Module) -> bool:
    """Whether somebody changes what the modules compute, as adapters do, and calls that leave out layers: what is kept
    knows nothing of it."""
    if sleeping(module) is not None:
        return False
    return any(m._forward_hooks or m._forward_pre_hooks or "forward" in vars(m) for m in real(module).modules())


def _weights_of(module: nn.Module, kind: str) -> dict[str, Tensor]:
    if (asleep := sleeping(module)) is not None:
        return {name: weight for name, weight in asleep.weights.items() if name.startswith(f"{kind}.")}
    own: Any = real(module)
    both = [*own.named_parameters(remove_duplicate=False), *own.named_buffers(remove_duplicate=False)]
    return {f"{kind}.{name}": tensor for name, tensor in both}


def _record(inputs: Sequence[Tensor], run: Run, weights: Mapping[str, Tensor]) -> fx.GraphModule:
    recorder = Recorder(weights)
    with torch.utils._python_dispatch._disable_current_modes(), recorder.recording():
        given = [recorder.input_like(f"input_{n}", x) for n, x in enumerate(inputs)]
        return recorder.finish(run(given))


def _write(folder: Path, graph: fx.GraphModule, weights: Mapping[str, Tensor]) -> None:
    try:
        text = transcript.write(graph, lambda path, _: path if path in weights else None)
    except AssertionError as e:  # what has no such form is not kept
        raise OSError(str(e)) from e
    nodes = [node for node in graph.graph.nodes if node.op == "call_function"]
    values = [[node.meta.get("part"), _forms(node.meta["val"])] for node in nodes]
    (folder / TRACE).write_text(json.dumps({"graph": text, "values": values}), encoding="utf-8")


def _read(name: str, weights: Mapping[str, Tensor]) -> fx.GraphModule | None:
    folder = cache.find(name)
    if folder is None:
        return None
    data = json.loads((folder / TRACE).read_text(encoding="utf-8"))
    graph = transcript.read(data["graph"], weights)
    values = iter(data["values"])
    for node in graph.graph.nodes:
        if node.op == "call_function":
            part, forms = next(values)
            node.meta |= {"val": _of_forms(forms)} | ({} if part is None else {"part": part})
            node.args, node.kwargs = tuple(_lists(a) for a in node.args), _lists(node.kwargs)
    return graph


def _lists(value: Any) -> Any:
    """Arguments as a recorder has them: only the outermost are a tuple."""
    if isinstance(value, dict):
        return {k: _lists(v) for k, v in value.items()}
    return [_lists(v) for v in value] if isinstance(value, (list, tuple)) else value


def _forms(value: Any) -> Any:
    if isinstance(value, Tensor):
        return {"dtype": str(value.dtype).removeprefix("torch."), "shape": [*value.shape], "strides": [*value.stride()]}
    return [_forms(v) for v in value]


def _of_forms(form: Any) -> Any:
    if isinstance(form, dict):
        return meta(form["shape"], form["strides"], getattr(torch, form["dtype"]))
    return tuple(_of_forms(f) for f in form)
