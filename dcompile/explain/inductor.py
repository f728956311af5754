"""A run under torch's profiler: the kernels of a package tell it where they come from, what they read and compute
(`backends/inductor/marks.py`)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any
from unittest import mock

from torch.profiler import ProfilerActivity, profile

from dcompile.artifact import Artifact
from dcompile.backends.inductor.run import MARKS
from dcompile.explain.events import Event, Profile
from dcompile.session import load

ROUGH = "linear_rough"
QUIET = {"KINETO_LOG_LEVEL": "99"}  # torch's profiler says when it begins and ends


def profiled(artifact: Artifact, prompt: str | Sequence[int], tokens: int, threads: int) -> Profile:
    """Answer a prompt, with eos ignored, and tell of all graphs that ran."""
    session = load(artifact.folder, threads)
    with mock.patch.dict(os.environ, {MARKS: "1", **QUIET}):
        session.generate(prompt, max_new_tokens=1, eos_ids=[], temperature=0.0)  # a first run does more than a step
        with profile(activities=[ProfilerActivity.CPU]) as kept:
            result = session.generate(prompt, max_new_tokens=tokens, eos_ids=[], temperature=0.0)
    return Profile(list(read(kept.events())), result.seconds)


def read(records: Iterable[Any]) -> Iterator[Event]:
    """The kernels among the records of a profile. A record without a place tells of the kernel that it lies in."""
    last: Event | None = None
    for record in sorted(records, key=lambda r: (r.time_range.start, -r.time_range.end)):
        name, *numbers = record.name.rsplit("|", 2)
        if len(numbers) != 2:
            continue
        read, operations = map(int, numbers)
        if not name:
            assert last is not None, "a cost outside of a kernel"
            last = replace(last, bytes=read, operations=operations)
            continue
        if last is not None:
            yield last
        last = Event(name, record.time_range.elapsed_us() / 1e6, read, operations, rough=name.endswith(ROUGH))
    if last is not None:
        yield last
