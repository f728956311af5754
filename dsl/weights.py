"""The tensors of a safetensors file, and the weights of linear layers among them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dcompile.networks import Unfit
from dcompile.strategy import Layer

Tensors = Mapping[str, Any]


def tensors(data: bytes, kinds: tuple[str, ...] = ("F32",)) -> Tensors:
    """The tensors of a file, of these kinds of numbers, in float32. Raises Unfit."""
    from safetensors import SafetensorError, deserialize

    try:
        found: dict[str, Any] = dict(deserialize(data))  # type: ignore[no-untyped-call]
    except SafetensorError as e:
        raise Unfit(f"is no safetensors file: {e}") from e
    for name, tensor in sorted(found.items()):
        if tensor["dtype"] not in kinds:
            raise Unfit(f"holds `{name}` as {tensor['dtype']} {list(tensor['shape'])}")
    return {name: {**t, "data": _widened(bytes(t["data"]), t["dtype"])} for name, t in found.items()}


def _widened(data: bytes, kind: str) -> bytes:
    if kind == "F32":
        return data
    import numpy

    return numpy.frombuffer(data, numpy.float16).astype(numpy.float32).tobytes()


def layers(found: Tensors) -> tuple[Layer, ...]:
    """`NAME.weight` and `NAME.bias`, in the order of their names. Raises Unfit."""
    stems = sorted((name.removesuffix(".weight") for name in found if name.endswith(".weight")), key=in_order)
    known = {f"{stem}.{part}" for stem in stems for part in ("weight", "bias")}
    if not stems or not found.keys() <= known:
        raise Unfit(f"holds {', '.join(f'`{n}`' for n in sorted(found)) or 'nothing'}")
    return tuple(_layer(stem, found[f"{stem}.weight"], found.get(f"{stem}.bias")) for stem in stems)


def _layer(stem: str, weight: Any, bias: Any) -> Layer:
    if len(weight["shape"]) != 2 or (bias is not None and bias["shape"] != weight["shape"][:1]):
        shapes = [list(t["shape"]) for t in (weight, bias) if t is not None]
        raise Unfit(f"holds `{stem}` with the shapes {shapes}")
    outputs, inputs = weight["shape"]
    return Layer(outputs, inputs, bytes(weight["data"]), None if bias is None else bytes(bias["data"]))


def in_order(name: str) -> list[tuple[int, str]]:
    """`layer2` stands before `layer10`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
