"""Where a node comes from, as kernels are named after it: `dcompile explain` reads their parts off these names."""

from __future__ import annotations

from torch import fx


def origin(node: fx.Node) -> str:
    """The line of the strategy, as in `L12/`. For what a call runs also the part of the model, as in
    `L12.model/attention/`; in place of the line stands `prefill` where the prompt is stored. Empty where none asked."""
    span, call, part = (node.meta.get(key) for key in ("span", "call", "part"))
    line = "" if span is None or span.source is None else f"L{span.source.place(span.start)[0]}"
    if call is None and part is None:
        return f"{line}/" if line else ""
    where = "prefill" if call == "prefill" else line if call is None else f"{line}.model".lstrip(".")
    return f"{where or 'model'}/{part or 'cache'}/"
