"""Every strategy of the standard library with a tiny model and settings under which it does more than one thing."""

from __future__ import annotations

from typing import Any

LLAMA = "tiny-llama"  # made by the tests; the others lie with the traces
HALF = {"block": 16, "threshold": 0.8}
DREAM = {"steps": 16}

LIBRARY: dict[str, tuple[str, dict[str, Any]]] = {
    "credit": ("tiny-llada-gqa", HALF),
    "d3llm": ("tiny-llada", {"block": 8, "threshold": 0.8, "join": 0.3}),
    "diffusion_gemma": ("tiny-diffusion-gemma", {"block": 16, "steps": 6, "bound": 0.5, "sure": 0.05}),
    "dimple": ("tiny-dream", {"steps": 16, "threshold": 0.8}),
    "dimple_entropy": ("tiny-dream-b", {"steps": 16}),
    "dimple_margin": ("tiny-dream", {"steps": 16, "threshold": 0.5}),
    "dinfer_threshold": ("tiny-llada", HALF),
    "dkv_cache": ("tiny-llada-gqa", {"block": 16, "every": 4}),
    "dmax": ("tiny-sdar", {"block": 8, "threshold": 0.3, "sure": 0.6}),
    "dparallel_dream": ("tiny-dream", {"block": 16}),
    "dparallel_dual": ("tiny-llada-gqa", {"block": 16}),
    "dparallel_none": ("tiny-llada", {"block": 16}),
    "dparallel_prefix": ("tiny-llada-gqa", {"block": 16}),
    "dream": ("tiny-dream", DREAM),
    "dream_margin": ("tiny-dream", DREAM),
    "dream_maskgit": ("tiny-dream-b", DREAM),
    "dream_origin": ("tiny-dream", DREAM),
    "eb_sampler": ("tiny-llada", {"block": 16, "gamma": 0.5}),
    "end_of_text": ("tiny-llada", {"block": 16, "end": 138}),
    "fast_dllm_dual": ("tiny-llada-gqa", HALF),
    "fast_dllm_none": ("tiny-llada-gqa", HALF),
    "fast_dllm_prefix": ("tiny-llada-gqa", HALF),
    "fast_dllm_v2": ("tiny-fast-dllm-v2", {}),
    "free_cache": ("tiny-llada-gqa", {"block": 16, "each": 2}),
    "freedave": ("tiny-llada-gqa", {"block": 16, "width": 3}),
    "freedave_eager": ("tiny-llada-gqa", {"block": 8, "width": 3}),
    "freedave_sdar": ("tiny-sdar", {"block": 8, "threshold": 0.8}),
    "freedave_sdar_eager": ("tiny-sdar", {"block": 4}),
    "freedave_static": ("tiny-llada-gqa", {"block": 16}),
    "greedy": (LLAMA, {}),
    "hierarchy": ("tiny-llada", HALF),
    "hierarchy_remask": ("tiny-llada", {"block": 16, "threshold": 0.8, "again": 0.5}),
    "wino": ("tiny-llada", {"block": 16, "wide": 0.5, "narrow": 0.5}),
}
