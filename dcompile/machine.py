"""What this machine can do, measured once: how fast memory is read and copied, how fast matrices are multiplied, what
ONNX Runtime spends on a node. Measured with its own kernels, since it is they that a step is made of.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dcompile import cache
from dcompile.diagnostic import error

FILE = "machine.json"
LONG, WIDE = 2048, 16384  # a matrix of 134 MB in float32, larger than any cache
SIDE = 1024  # of matrices whose product tells the arithmetic rate
CHAIN = 2000  # nodes that do next to nothing
ROUNDS = 7
HELD = 1 << 20  # bytes; a smaller tensor that was just made is still in the processor's cache

Node = tuple[str, list[str], dict[str, Any]]  # kind, inputs, attributes


@dataclass(frozen=True)
class Machine:
    """Rates by the number of threads: `read` bytes/s of a matrix that is multiplied with one row; operations/s (a
    multiplication and an addition are two) of products of matrices in `float32`, in `int4` (blocks of 32, activations
    rounded to int8), in `int8`, and in `bfloat16` (by torch; empty where there is none). `copy`: bytes/s of one thread,
    read and written counted once. `node`: seconds that a node costs besides its work."""

    name: str
    read: dict[int, float]
    float32: dict[int, float]
    int4: dict[int, float]
    int8: dict[int, float]
    bfloat16: dict[int, float]
    copy: float
    node: float

    def at(self, rates: dict[int, float], threads: int) -> float:
        """A rate with so many threads: of the nearest number that was measured."""
        return rates[min(rates, key=lambda n: (abs(n - threads), n))]


def known() -> Machine | None:
    """What was measured on this machine before, with these versions."""
    try:
        found = json.loads((cache.home() / FILE).read_text(encoding="utf-8"))
        if found.pop("key") != _key():
            return None
        values: dict[str, Any] = {k: _counted(v) if isinstance(v, dict) else v for k, v in found.items()}
        return Machine(**values)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def measure() -> Machine:
    """Measure now, and note it for later. Takes ten seconds; other work on the machine spoils it."""
    try:
        import onnx  # noqa: F401
    except ModuleNotFoundError as e:
        raise error("missing-package", "measuring needs the package `onnx`", "pip install 'dcompile[build]'") from e
    counts = sorted({1, 2, 4, 8, _cores()} & set(range(1, _cores() + 1)))
    made = Machine(
        processor(),
        read={n: LONG * WIDE * 4 / _product(1, LONG, WIDE, n) for n in counts},
        float32={n: 2 * SIDE**3 / _product(SIDE, SIDE, SIDE, n) for n in counts},
        int4={n: 2 * SIDE**3 / _blocks(SIDE, SIDE, SIDE, n) for n in counts},
        int8={n: 2 * SIDE**3 / _integers(SIDE, n) for n in counts},
        bfloat16=_bfloat16(counts),
        copy=_copy(),
        node=_chain() / CHAIN,
    )
    text = json.dumps({"key": _key(), **asdict(made)}, indent=1)
    try:
        cache.home().mkdir(parents=True, exist_ok=True)
        (cache.home() / FILE).write_text(text, encoding="utf-8")
    except OSError:
        pass  # measured anew next time
    return made


def processor() -> str:
    """The processor's name and the number of cores that we may use."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        named = (line for line in info.read_text().splitlines() if line.startswith("model name"))
        name = next(named, f":{name}").split(":", 1)[1].strip()
    return f"{name}, {_cores()} cores"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _key() -> list[str]:
    import onnxruntime

    return [processor(), onnxruntime.__version__]


def _counted(table: dict[str, float]) -> dict[int, float]:
    return {int(n): rate for n, rate in table.items()}


# ---------------------------------------------------------------- what is timed


def _product(rows: int, inner: int, columns: int, threads: int) -> float:
    weight = np.full((inner, columns), 0.01, np.float32)
    x = np.ones((rows, inner), np.float32)
    return _timed([("MatMul", ["x", "w"], {})], {"x": x}, {"w": weight}, threads)


def _blocks(rows: int, inner: int, columns: int, threads: int) -> float:
    codes = np.full((columns, inner // 32, 16), 0x79, np.uint8)
    scales = np.full((columns * inner // 32,), 0.01, np.float32)
    said = {"K": inner, "N": columns, "bits": 4, "block_size": 32, "accuracy_level": 4, "domain": "com.microsoft"}
    x = np.ones((rows, inner), np.float32)
    return _timed([("MatMulNBits", ["x", "w", "s"], said)], {"x": x}, {"w": codes, "s": scales}, threads)


def _integers(side: int, threads: int) -> float:
    x, weight = np.ones((side, side), np.uint8), np.ones((side, side), np.int8)
    return _timed([("MatMulInteger", ["x", "w"], {})], {"x": x}, {"w": weight}, threads)


def _chain() -> float:
    nodes: list[Node] = [("Add", ["x" if n == 0 else f"y{n - 1}", "w"], {}) for n in range(CHAIN)]
    one = np.ones(1, np.float32)
    return _timed(nodes, {"x": one}, {"w": one}, 1, plain=True)


def _copy() -> float:
    source, target = (np.ones(16_000_000, np.float32) for _ in range(2))
    return source.nbytes / _best(lambda: np.copyto(target, source))


def _bfloat16(counts: Sequence[int]) -> dict[int, float]:
    try:
        import torch
    except ModuleNotFoundError:
        return {}
    side = SIDE // 4  # a processor that has no such products is slow at them
    x, before = torch.ones(side, side, dtype=torch.bfloat16), torch.get_num_threads()
    try:
        found = {}
        for threads in counts:
            torch.set_num_threads(threads)
            found[threads] = 2 * side**3 / _best(lambda: torch.mm(x, x))
        return found
    finally:
        torch.set_num_threads(before)


def _timed(
    nodes: Sequence[Node], inputs: dict[str, np.ndarray],
    weights: dict[str, np.ndarray], threads: int, plain: bool = False,
) -> float:  # fmt: skip
    """Seconds of a run of these nodes under ONNX Runtime; `plain`: none of them is folded or fused."""
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper

    made = [
        helper.make_node(kind, names, ["y" if n == len(nodes) - 1 else f"y{n}"], **said)
        for n, (kind, names, said) in enumerate(nodes)
    ]
    types = {n: helper.np_dtype_to_tensor_dtype(x.dtype) for n, x in inputs.items()}
    given = [helper.make_tensor_value_info(n, types[n], x.shape) for n, x in inputs.items()]
    kind = TensorProto.INT32 if nodes[0][0] == "MatMulInteger" else TensorProto.FLOAT
    out = [helper.make_tensor_value_info("y", kind, None)]
    held = [numpy_helper.from_array(w, n) for n, w in weights.items()]
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(helper.make_graph(made, "g", given, out, held), opset_imports=opsets, ir_version=10)
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    if plain:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return _best(lambda: session.run(None, inputs))


def _best(run: Callable[[], object]) -> float:
    """Seconds of the quickest of some runs, behind one that warms up."""
    times = []
    for _ in range(ROUNDS + 1):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times[1:])
