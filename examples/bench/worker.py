"""An engine in a process of its own, so that its memory is its own: a line in is a request, a line out an answer.

in:  {"prompt": [1, 2, 3], "count": 128}          out: {"tokens": [...], "seconds": 1.9, "calls": 128, "memory": 7e8}
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Answer:
    """Generated tokens, seconds of the call, model calls where it tells, the most bytes of memory so far."""

    tokens: list[int]
    seconds: float
    calls: int | None
    memory: float


@dataclass
class Worker:
    """A running engine; `spec` is what `engines.opened` takes."""

    name: str
    spec: dict[str, Any]
    process: Any = field(init=False)

    def __post_init__(self) -> None:
        command = [sys.executable, str(Path(__file__)), json.dumps(self.spec)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, prompt: list[int], count: int) -> Answer:
        """Generate `count` tokens; raises RuntimeError where the engine died."""
        self.process.stdin.write(json.dumps({"prompt": prompt, "count": count}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the engine {self.name} ended (status {self.process.wait()})")
        return Answer(**json.loads(line))

    def close(self) -> None:
        """End the process."""
        with suppress(BrokenPipeError):  # where it died
            self.process.stdin.close()
        self.process.wait()


def serve() -> None:
    """Answer requests until the input ends. What libraries print goes to stderr."""
    from engines import opened

    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    engine = opened(json.loads(sys.argv[1]))
    for line in sys.stdin:
        asked = json.loads(line)
        began = time.perf_counter()
        tokens, calls = engine(asked["prompt"], asked["count"])
        seconds = time.perf_counter() - began
        memory = most_memory()
        print(
            json.dumps({"tokens": tokens, "seconds": seconds, "calls": calls, "memory": memory}), file=out, flush=True
        )


def most_memory() -> float:
    """The most bytes of memory that this process had. `ru_maxrss` would begin with what its parent had."""
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


if __name__ == "__main__":
    serve()
