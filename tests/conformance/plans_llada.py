"""Plans of the methods that came after Fast-dLLM v1 for the LLaDA family."""

from __future__ import annotations

from collections.abc import Callable

from tests.conformance.cases import Case
from tests.conformance.plan import CACHES, Plan, filter_file, standard


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


LEARN2PD = {
    "generate_learn2parallel": "learn2pd",
    "generate_with_dual_cache": "learn2pd_dual",
    "generate_l2p_eot": "learn2pd_eot",
    "generate_predict_eot": "end_of_text",
}


def learn2pd(case: Case) -> Plan:
    p = case.params
    settings = {"block": p["block_length"], "steps": p["steps"]}
    if case.filter:
        settings |= {"accept": p["accept_thres"], "filter": filter_file(case.filter)}
    cuts = "eos_literal" in p
    if cuts:
        settings["end"] = p["eos_literal"]
    return Plan(standard(LEARN2PD[case.function]), settings, p["gen_length"], {"eos_ids": ()}, returned=cuts)


METHODS: dict[str, Callable[[Case], Plan]] = {"dparallel": dparallel, "learn2pd": learn2pd, "localleap": local_leap}
