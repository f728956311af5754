"""Plans of Fast-dLLM v2, dInfer's decoders and FreeDave, with its static policies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dcompile.strategy import NOISE
from tests.conformance.cases import Case, Run
from tests.conformance.plan import NotCovered, Plan, standard


def fast_dllm_v2(case: Case) -> Plan:
    """The published loop goes over whole blocks; the call that stores the last one predicts one token more."""
    p = case.params
    settings = {
        "block": p["block_size"],
        "sub_block": p["small_block_size"],
        "threshold": p["threshold"],
        "block_cache": p["use_block_cache"],
    }
    ends = (p["stop_token"],) if p["stop_token"] >= 0 else ()
    return Plan(
        standard("fast_dllm_v2"),
        settings,
        p["max_new_tokens"],
        {"eos_ids": ends},
        blocks=p["block_size"],
        returned=True,
    )


def dinfer_threshold(case: Case) -> Plan:
    p = case.params
    return _dinfer(case, "dinfer_threshold", {"threshold": p["threshold"]})


def dinfer_hierarchy(case: Case) -> Plan:
    p = case.params
    return _dinfer(case, "hierarchy", {"threshold": p["threshold"], "low": p["low_threshold"]})


def dinfer_credit(case: Case) -> Plan:
    p = case.params
    credit = {"weight": p["credit_alpha"], "boost": p["boost_gamma"], "decay": p["decay_beta"]}
    return _dinfer(case, "credit", {"threshold": p["threshold"], **credit})


def _dinfer(case: Case, name: str, settings: dict[str, float]) -> Plan:
    """With an early stop the published code fills what is left with end tokens; here it stays masked."""
    p = case.params
    unrolling = {"block": p["block_length"], "unroll": p["maximum_unroll"], "expected": p["expected_tpf"]}
    ends = (p["eos_id"],) if p["eos_id"] >= 0 else ()
    return Plan(standard(name), settings | unrolling, p["gen_length"], {"eos_ids": ends}, returned=True)


def freedave_static(case: Case) -> Plan:
    p = case.params
    leftmost = p.get("alg_temp") == -1
    if p.get("confidence_threshold") is not None or p.get("early_exit"):
        raise NotCovered("a threshold or an early exit")
    block = {"block": p["block_length"]}
    if case.function.endswith("block_decode_with_block_attention"):
        name = "sdar_sequential" if leftmost else "sdar_static"
        return Plan(standard(name), block | {"steps": p["block_length"]}, p["max_gen_length"], {"eos_ids": ()})
    if not p["use_cache"] or p["decoding_steps"] < p["max_gen_length"]:
        raise NotCovered("no cache, or fewer steps than tokens")
    settings = block | {"dual": p["dual_cache"], "leftmost": leftmost}
    return Plan(standard("freedave_static"), settings, p["max_gen_length"], {"eos_ids": ()})


def freedave(case: Case) -> Plan:
    """How the drafts are laid out (batch or tree) changes nothing, nor does the rule of their match without a
    threshold."""
    p = case.params
    leftmost = p.get("alg_temp") == -1
    if p.get("confidence_threshold") is not None or p.get("early_exit"):
        raise NotCovered("a threshold or an early exit")
    eager = "_eager" if p.get("eager_acceptance_mode") else ""
    settings: dict[str, Any] = {"block": p["block_length"], "width": p["draft_steps"], "leftmost": leftmost}
    name = f"freedave_sdar{eager}"
    if not case.function.endswith("block_decode_with_block_attention_FreeDave"):
        if not p["use_cache"]:
            raise NotCovered("no cache")
        name, settings = f"freedave{eager}", settings | {"dual": p["dual_cache"]}
    return Plan(standard(name), settings, p["max_gen_length"], {"eos_ids": ()})


def diffusion_gemma(case: Case) -> Plan:
    """The published sampler draws by torch; here its draws are given to ours."""
    p = case.params
    if p["stability_threshold"] != 1:
        raise NotCovered(f"stability_threshold {p['stability_threshold']}")
    settings = {
        "block": p["canvas_length"], "steps": p["max_denoising_steps"], "bound": p["entropy_bound"],
        "hot": p["t_max"], "cold": p["t_min"], "sure": p["confidence_threshold"],
    }  # fmt: skip
    draws = {run.prompt: _draws(run, p["canvas_length"]) for run in case.runs}
    options = {"eos_ids": case.eos_ids}
    return Plan(standard("diffusion_gemma"), settings, p["max_new_tokens"], options, draws=draws)


def _draws(run: Run, size: int) -> dict[tuple[int, int, int], int]:
    """The first canvas has the stream NOISE, the call that predicts its site, 1, and `noise` NOISE + 1."""
    out: dict[tuple[int, int, int], int] = {}
    base, visit, before = len(run.prompt) - size, 0, 0
    for step in run.steps:
        if step["step"] > before:
            base, visit = base + size, 0
            noised = [0] * size
            out |= {(NOISE, base + i, 0): token for i, token in enumerate(step["canvas_in"])}
        before = step["step"]
        out |= {(1, base + i, visit): token for i, token in enumerate(step["draw"])}
        visit += 1
        for i in set(range(size)) - set(step["accepted"]):
            out[NOISE + 1, base + i, noised[i]] = step["noise"][i]
            noised[i] += 1
    return out


METHODS: dict[str, Callable[[Case], Plan]] = {
    "diffusion-gemma": diffusion_gemma,
    "dinfer-credit": dinfer_credit,
    "dinfer-hierarchy": dinfer_hierarchy,
    "dinfer-threshold": dinfer_threshold,
    "fast-dllm-v2": fast_dllm_v2,
    "freedave": freedave,
    "freedave-static-policy": freedave_static,
}
