"""FX graph -> Relax function, with TVM's own table of ATen ops and the corrections in `CONVERT`.

The graph is read as it is: it is not exported again, so that names and spans stay.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx
from tvm import relax
from tvm.relax.frontend.torch.exported_program_translator import ExportedProgramImporter

from dcompile.backends.tvm.ops import CONVERT
from dcompile.passes.facts import results

INLINE = 256  # constants up to this many elements go into the code, where the simplifier sees them


@dataclass(frozen=True)
class Imported:
    """A Relax function, and the weights that follow its inputs, in order."""

    function: Any
    weights: tuple[tuple[str, Tensor], ...]


class Importer(ExportedProgramImporter):  # type: ignore[misc]
    """TVM's importer, driven from a graph instead of an ExportedProgram."""

    def __init__(self) -> None:
        super().__init__()
        for target, convert in CONVERT.items():
            self.convert_map[target.__name__] = _bound(self, convert)

    def supports(self, node: fx.Node) -> bool:
        name = getattr(node.target, "__name__", "")
        return node.op != "call_function" or name in self.convert_map

    def convert(self, module: fx.GraphModule, name: str) -> Imported:
        """The function `name(inputs..., weights...) -> (outputs...)`."""
        inputs: dict[fx.Node, Any] = {}
        weights: dict[str, tuple[Any, Tensor]] = {}
        for node in module.graph.find_nodes(op="placeholder"):
            inputs[node] = _variable(node.name, node.meta["val"])
        for node in module.graph.find_nodes(op="get_attr"):
            tensor = operator.attrgetter(str(node.target))(module)
            if tensor.numel() <= INLINE:
                self.env[node] = relax.const(tensor.detach().cpu().numpy())
            else:
                key = str(node.target)
                weights.setdefault(key, (_variable(key.replace(".", "_"), tensor), tensor))
                self.env[node] = weights[key][0]
        self.env.update(inputs)
        self.block_builder = relax.BlockBuilder()
        parameters = [*inputs.values(), *[v for v, _ in weights.values()]]
        with self.block_builder.function(name=name, params=parameters):
            with self.block_builder.dataflow():
                output = self.block_builder.emit_output(relax.Tuple(self._body(module)))
            self.block_builder.emit_func_output(output)
        function = self.block_builder.get()[name]
        return Imported(function, tuple((key, tensor) for key, (_, tensor) in weights.items()))

    def _body(self, module: fx.GraphModule) -> list[Any]:
        for node in module.graph.nodes:
            if node.op == "call_function":
                self.env[node] = self.convert_map[node.target.__name__](node)
        return [self.env[node] for node in results(module)]


def _bound(importer: Importer, convert: Callable[[Any, fx.Node], Any]) -> Callable[[fx.Node], Any]:
    return lambda node: convert(importer, node)


def _variable(name: str, tensor: Tensor) -> Any:
    return relax.Var(name, relax.TensorType(list(tensor.shape), str(tensor.dtype).removeprefix("torch.")))
