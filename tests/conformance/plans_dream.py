"""Plans of Prophet, and of Dimple and dParallel, which decode shifted models."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.conformance.cases import Case
from tests.conformance.plan import NotCovered, Plan, standard, warps

DIMPLE = {"maskgit_plus": "dimple", "topk_margin": "dimple_margin", "entropy": "dimple_entropy"}


def prophet(case: Case) -> Plan:
    p = case.params
    settings = {
        "block": p["block_length"],
        "steps": p["steps"],
        "answer_at": p["answer_offset"],
        **{phase: float(bound) for phase, bound in p["early_exit_thresholds"].items()},
    }
    options = {"eos_ids": (), "template": _template(p.get("constraints"))}
    return Plan(standard("prophet"), settings, p["gen_length"], options)


def dimple(case: Case) -> Plan:
    p = case.params
    if p["decoding_pipeline"] != "dim" or p["alg"] not in DIMPLE or p.get("alg_temp"):
        raise NotCovered(f"pipeline {p['decoding_pipeline']}, alg {p['alg']}, alg_temp {p.get('alg_temp')}")
    settings = {"steps": p["steps"], "prefill": p["use_cache"], "eps": p.get("eps", 0.001)}
    if p["alg"] != "entropy":  # a negative entropy is above no threshold
        settings["threshold"] = float(p.get("alg_p_threshold") or 0.0)
    options = warps(p) | {"template": _template(p.get("structure_prior"))}
    return Plan(standard(DIMPLE[p["alg"]]), settings, p["gen_length"], options)


def dparallel_dream(case: Case) -> Plan:
    p = case.params
    if p["alg"] != "entropy_threshold":
        raise NotCovered(f"alg {p['alg']}")
    settings = {"block": p["block_length"], "threshold": p["threshold"]}
    return Plan(standard("dparallel_dream"), settings, p["gen_length"], warps(p))


def _template(fixed: Mapping[str, int] | None) -> tuple[int | None, ...]:
    """Tokens by their answer position, as a template."""
    given = {int(position): token for position, token in (fixed or {}).items()}
    return tuple(given.get(n) for n in range(max(given, default=-1) + 1))


METHODS: dict[str, Callable[[Case], Plan]] = {
    "dimple": dimple,
    "dparallel-dream": dparallel_dream,
    "prophet": prophet,
}
