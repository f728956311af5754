"""Every strategy of the standard library with a tiny model and settings under which it does more than one thing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.backends.parts import heads
from tests.conformance.plan import filter_file

LLAMA = "tiny-llama"  # made by the tests; the others lie with the traces
DRAFTED = (
    "block_verification", "eagle2_shape", "greedy_drafts", "judge", "opt_tree", "r2r", "sequoia", "speculative",
    "specinfer", "spectr", "traversal",
)  # fmt: skip
GUIDED = {"guided": "guide", **dict.fromkeys(DRAFTED, "small")}  # those with a second model, of LLAMA's kind; its name
SMALL = {"shape": str(Path(__file__).with_name("small.tree"))}
PROMPTS, MASKS = (str(Path(__file__).with_name(f"{n}.safetensors")) for n in ("prompts", "masks"))  # random ones
HALF = {"block": 16, "threshold": 0.8}
DREAM = {"steps": 16}

LIBRARY: dict[str, tuple[str, dict[str, Any]]] = {
    "assd": ("tiny-xlnet", {"width": 3}),
    "block_verification": (LLAMA, {"width": 3}),
    "clover": (LLAMA, {"augment": heads(), "regress": heads(3), "head": heads(3)}),
    "credit": ("tiny-llada-gqa", HALF),
    "d3llm": ("tiny-llada", {"block": 8, "threshold": 0.8, "join": 0.3}),
    "ddtree": (LLAMA, {"nodes": 12, "block": heads(1, 2, 15)}),
    "dflash": (LLAMA, {"block": heads(1, 2, 15)}),
    "diffusion_gemma": ("tiny-diffusion-gemma", {"block": 16, "steps": 6, "bound": 0.5, "sure": 0.05}),
    "dimple": ("tiny-dream", {"steps": 16, "threshold": 0.8}),
    "dimple_entropy": ("tiny-dream-b", {"steps": 16}),
    "dimple_margin": ("tiny-dream", {"steps": 16, "threshold": 0.5}),
    "dinfer_threshold": ("tiny-llada", HALF),
    "dkv_cache": ("tiny-llada-gqa", {"block": 16, "every": 4}),
    "dllm_cache": ("tiny-llada-gqa", {"block": 16, "every": 3, "prompt_every": 9}),
    "dmax": ("tiny-sdar", {"block": 8, "threshold": 0.3, "sure": 0.6}),
    "dparallel_dream": ("tiny-dream", {"block": 16}),
    "dparallel_dual": ("tiny-llada-gqa", {"block": 16}),
    "dparallel_none": ("tiny-llada", {"block": 16}),
    "dparallel_prefix": ("tiny-llada-gqa", {"block": 16}),
    "dream": ("tiny-dream", DREAM),
    "dream_margin": ("tiny-dream", DREAM),
    "dream_maskgit": ("tiny-dream-b", DREAM),
    "dream_origin": ("tiny-dream", DREAM),
    "eagle2_shape": (LLAMA, {"steps": 3, "width": 3, "nodes": 8}),
    "eb_sampler": ("tiny-llada", {"block": 16, "gamma": 0.5}),
    "end_of_text": ("tiny-llada", {"block": 16, "end": 138}),
    "falcon": (LLAMA, {**SMALL, "pass": heads(1, 3, 3)}),
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
    "greedy_drafts": (LLAMA, SMALL),
    "guided": ("tiny-llada", {"window": 6, "threshold": 0.002}),
    "hidden_transfer": (LLAMA, {"layer": 1, "pseudo": heads(3)}),
    "hierarchy": ("tiny-llada", HALF),
    "hierarchy_remask": ("tiny-llada", {"block": 16, "threshold": 0.8, "again": 0.5}),
    # a larger share of what it fed last makes a random model amplify the last bit of a float to another token
    "input_copy": (LLAMA, {"width": 6}),
    "iter_smooth": ("tiny-llada", {"block": 16, "threshold": 0.6, "decay": 0.1, "start": 0.05, "weight": 0.05}),
    "jacobi": (LLAMA, {"width": 4}),
    "keyformer": (LLAMA, {"share": 0.5}),
    "judge": (LLAMA, {"width": 4, "right": heads(1, 1, 0)}),
    "klass": ("tiny-llada", {"block": 16, "threshold": 0.5, "drift": 0.5}),
    "learn2pd": ("tiny-llada", {"block": 16, "accept": 0.5, "filter": filter_file("filter-32")}),
    "learn2pd_dual": ("tiny-llada-gqa", {"block": 16, "accept": 0.5, "filter": filter_file("filter-32-b")}),
    "learn2pd_eot": ("tiny-llada", {"block": 16, "accept": 0.5, "end": 138, "filter": filter_file("filter-32")}),
    "llada": ("tiny-llada", {"block": 16, "steps": 16}),
    "llada2": ("tiny-sdar", {"block": 8, "threshold": 0.7}),
    "llada2_edit": ("tiny-sdar", {"block": 8, "threshold": 0.6, "edit": 0.3, "extra": 4}),
    "local_leap": ("tiny-llada", {"block": 16}),
    "lookahead": (LLAMA, {"window": 4, "ngram": 3, "guesses": 2}),
    "lookup_recycling": (LLAMA, {"width": 4, **SMALL}),
    "lookup_union": (LLAMA, {"width": 4, **SMALL}),
    "maskgit": ("tiny-llada", {"steps": 6}),
    "medusa": (LLAMA, {**SMALL, "head": heads(4)}),
    "medusa_sampled": (LLAMA, {**SMALL, "head": heads(4)}),
    "medusa_typical": (LLAMA, {**SMALL, "head": heads(4), "epsilon": 0.02}),
    "multi_token": (LLAMA, {"width": 3, "masks": MASKS}),
    "multi_token_sampler": (LLAMA, {"width": 3, "masks": MASKS, "sampler": heads(1, 2)}),
    "opt_tree": (LLAMA, {"steps": 4, "nodes": 5}),
    "paraformer": ("tiny-llada", {}),
    "ppd": (LLAMA, {"prompts": PROMPTS}),
    "prompt_lookup": (LLAMA, {"width": 4}),
    "prophet": ("tiny-llada", {"block": 16}),
    "r2r": (LLAMA, {"limit": 4.6}),
    "rcr": ("tiny-llada", {"block": 16, "steps": 6}),
    "rediff": ("tiny-llada", {"block": 16, "steps": 12, "share": 0.5}),
    "remdm": ("tiny-llada", {"block": 16, "rounds": 3, "number": 2}),
    "sampled": (LLAMA, {}),
    "sdar": ("tiny-sdar", {"block": 4, "steps": 4, "threshold": 0.85}),
    "sdar_entropy": ("tiny-sdar", {"block": 8, "bound": 3.0}),
    "sdar_sequential": ("tiny-sdar", {"block": 8, "steps": 4}),
    "sdar_static": ("tiny-sdar", {"block": 4, "steps": 2}),
    "sequoia": (LLAMA, SMALL),
    "skip_decode": (LLAMA, {"most": 1.0, "least": 0.2}),
    "slowfast": ("tiny-llada-gqa", {"threshold": 0.7, "glimpse": 0.4}),
    "specinfer": (LLAMA, SMALL),
    "spectr": (LLAMA, SMALL),
    "speculative_jacobi": (LLAMA, {"width": 4}),
    "speculative": (LLAMA, {"width": 3}),
    "token_recycling": (LLAMA, SMALL),
    "traversal": (LLAMA, SMALL),
    "vicinity": ("tiny-llada-gqa", {"block": 8, "threshold": 0.7, "halo": 4, "warm": 2}),
    "wino": ("tiny-llada", {"block": 16, "wide": 0.5, "narrow": 0.5}),
}
