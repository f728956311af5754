"""Which strategy file, with which settings and run-time options, is a published function with its parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.conformance import plans_blocks, plans_dream, plans_llada
from tests.conformance.cases import Case
from tests.conformance.plan import CACHES, NotCovered, Plan, own, standard, warps

FIRST_RELEASE = "24cc59e7"  # of Fast-dLLM, June 2025
DREAM = {"maskgit_plus": "dream_maskgit", "topk_margin": "dream_margin", "entropy": "dream"}
SDAR = {"low_confidence_dynamic": "sdar", "low_confidence_static": "sdar_static", "sequential": "sdar_sequential"}


def plan(case: Case) -> Plan | None:
    """The plan of a case; None for a method that the library does not hold. Raises NotCovered."""
    if case.method not in METHODS:
        return None
    usual = 1.0 if case.method == "sdar" else 0.0  # SDAR's draw was replaced by the argmax, at temperature 1
    if case.params.get("temperature", usual) != usual:
        raise NotCovered(f"temperature {case.params['temperature']}")
    return METHODS[case.method](case)


def _llada(case: Case) -> Plan:
    p = case.params
    if p.get("remasking", "low_confidence") != "low_confidence":
        raise NotCovered(f"remasking {p['remasking']}")
    hidden: list[int] = []
    if p.get("confidence_eos_eot_inf"):
        hidden = [p["eos_literal"], p["eot_literal"]]
    banned: tuple[int, ...] = ()
    if p.get("logits_eos_inf"):  # before the proposal, so the score is without it as well
        banned = (p["eos_literal"],)
        hidden = sorted({*hidden, *banned})
    settings = {
        "block": p["block_length"],
        "steps": p["steps"],
        "guidance": float(p.get("cfg_scale", 0.0)),
        "hidden": hidden,
    }
    return Plan(standard("llada"), settings, p["gen_length"], {"eos_ids": (), "banned_tokens": banned})


def _dream(case: Case) -> Plan:
    p = case.params
    if p["alg"] not in DREAM or p.get("alg_temp"):
        raise NotCovered(f"alg {p['alg']}, alg_temp {p.get('alg_temp')}")
    settings = {"steps": p["steps"], "eps": p.get("eps", 0.001)}
    return Plan(standard(DREAM[p["alg"]]), settings, p["gen_length"], warps(p))


def _fast_dllm(case: Case) -> Plan:
    p, cache = case.params, CACHES[case.function]
    threshold, factor = p.get("threshold"), p.get("factor")
    settings: dict[str, Any] = {"block": p["block_length"], "factor": float(factor or 0.0)}
    settings["threshold"] = float(threshold or 0.0)
    first = case.commit.startswith(FIRST_RELEASE)
    capped = cache == "dual" and p["steps"] < p["gen_length"]  # else every block has a step for each position
    if first and cache != "none":
        name = f"fast_dllm_{cache}_first_release"
    elif cache == "dual" and (capped or not (threshold or factor)):
        name = "fast_dllm_dual_capped"
    elif not (threshold or factor):
        name = f"fast_dllm_{cache}_quota"
    else:
        return Plan(standard(f"fast_dllm_{cache}"), settings, p["gen_length"], {"eos_ids": ()})
    return Plan(own(name), settings | {"steps": p["steps"]}, p["gen_length"], {"eos_ids": ()})


def _fast_dllm_dream(case: Case) -> Plan:
    p, options = case.params, warps(case.params)
    threshold = float(p.get("threshold", 0.9))
    bold = p["alg"] == "confidence_threshold"
    if "block_length" not in p:
        if not bold:
            return _dream(case)
        return Plan(
            own("fast_dllm_dream_none"), {"steps": p["steps"], "threshold": threshold}, p["gen_length"], options
        )
    name = f"fast_dllm_dream_{'dual' if p.get('dual_cache') else 'prefix'}"
    block = {"block": p["block_length"]}
    if bold:
        return Plan(own(name), block | {"threshold": threshold}, p["gen_length"], options)
    settings = block | {"steps": p["steps"], "eps": p.get("eps", 0.001)}
    return Plan(own(f"{name}_schedule"), settings, p["gen_length"], options)


def _sdar(case: Case) -> Plan:
    p = case.params
    kind = p["remasking_strategy"]
    if kind not in SDAR:
        raise NotCovered(kind)
    settings = {"block": p["block_length"], "steps": p["denoising_steps"]}
    if kind == "low_confidence_dynamic":
        settings["threshold"] = p["confidence_threshold"]
    stops = p.get("stopping_criteria_idx") or ()
    few = p["denoising_steps"] < p["block_length"] and kind != "sequential"  # quotas above 1 may exceed the masks left
    return Plan(
        own("sdar_overfull") if few else standard(SDAR[kind]),
        settings,
        p["gen_length"],
        warps(p) | {"eos_ids": tuple(stops)},
    )


def _greedy(case: Case) -> Plan:
    return Plan(standard("greedy"), {}, case.params["max_new_tokens"], {"eos_ids": case.eos_ids})


def _prompt_lookup(case: Case) -> Plan:
    settings = {"width": case.params["prompt_lookup_num_tokens"]}
    return Plan(standard("prompt_lookup"), settings, case.params["max_new_tokens"], {"eos_ids": case.eos_ids})


METHODS: dict[str, Callable[[Case], Plan]] = {
    "autoregressive": _greedy,
    "dream": _dream,
    "fast-dllm-v1": _fast_dllm,
    "fast-dllm-v1-dream": _fast_dllm_dream,
    "llada": _llada,
    "prompt-lookup": _prompt_lookup,
    "sdar": _sdar,
    **plans_blocks.METHODS,
    **plans_dream.METHODS,
    **plans_llada.METHODS,
}
