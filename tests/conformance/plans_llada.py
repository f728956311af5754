"""Plans of the methods that came after Fast-dLLM v1 for the LLaDA family."""

from __future__ import annotations

from collections.abc import Callable

from tests.conformance.cases import Case
from tests.conformance.plan import CACHES, Plan, standard


def local_leap(case: Case) -> Plan:
    p = case.params
    settings = {
        "block": p["block_length"],
        "strict": p["threshold"],
        "relaxed": p["relaxed_threshold"],
        "radius": p["radius"],
        "stops": bool(p.get("early_stop")),
        "end": p.get("eos_id", 0),
    }
    return Plan(standard("local_leap"), settings, p["gen_length"], {"eos_ids": ()})


def dparallel(case: Case) -> Plan:
    p = case.params
    settings = {"block": p["block_length"], "threshold": p["threshold"]}
    return Plan(standard(f"dparallel_{CACHES[case.function]}"), settings, p["gen_length"], {"eos_ids": ()})


METHODS: dict[str, Callable[[Case], Plan]] = {"dparallel": dparallel, "localleap": local_leap}
