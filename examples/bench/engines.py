"""What is raced: each engine is opened from a few plain values, then called with prompt ids and a count of tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

Engine = Callable[[list[int], int], tuple[list[int], int | None]]  # -> tokens, model calls if known

CAPACITY = 1100  # slots: the long context and its answer


def opened(spec: dict[str, Any]) -> Engine:
    """`spec`: `engine` names one of ENGINES; the rest is its own."""
    given = dict(spec)
    return ENGINES[given.pop("engine")](**given)


def dcompiled(folder: str, threads: int) -> Engine:
    """An artifact of dcompile's, with eos ignored."""
    import dcompile

    session = dcompile.load(folder, threads)

    def run(prompt: list[int], count: int) -> tuple[list[int], int]:
        result = session.generate(prompt, max_new_tokens=count, eos_ids=[])
        return list(result.output_ids), result.model_calls

    return run


def genai(folder: str, threads: int) -> Engine:
    """ONNX Runtime GenAI's generator loop."""
    import onnxruntime_genai as og

    config = og.Config(folder)
    config.overlay(json.dumps({"model": {"decoder": {"session_options": {"intra_op_num_threads": threads}}}}))
    model = og.Model(config)

    def run(prompt: list[int], count: int) -> tuple[list[int], int]:
        params = og.GeneratorParams(model)
        params.set_search_options(max_length=CAPACITY, do_sample=False)
        generator = og.Generator(model, params)
        generator.append_tokens([prompt])
        for _ in range(count):
            generator.generate_next_token()
        return [int(t) for t in generator.get_sequence(0)[len(prompt) :]], count

    return run


def transformers_eager(folder: str, threads: int) -> Engine:
    """`generate` of transformers as it is."""
    import torch

    model = _torch_model(folder, threads)

    def run(prompt: list[int], count: int) -> tuple[list[int], int]:
        ids = torch.tensor([prompt])
        made = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False, eos_token_id=None,
            pad_token_id=0,
        )  # fmt: skip
        return made[0, len(prompt) :].tolist(), count

    return run


def transformers_compiled(folder: str, threads: int) -> Engine:
    """transformers with a static cache, its step compiled by torch.compile; the prompt goes in uncompiled."""
    import torch
    from transformers import StaticCache

    model = _torch_model(folder, threads)
    step = torch.compile(model.forward, fullgraph=True)

    @torch.no_grad()
    def run(prompt: list[int], count: int) -> tuple[list[int], int]:
        cache = StaticCache(config=model.config, max_cache_len=CAPACITY)
        ids, forward, tokens = torch.tensor([prompt]), model.forward, []
        place = torch.arange(len(prompt))
        for _ in range(count):
            out = forward(input_ids=ids, position_ids=place[None], past_key_values=cache, logits_to_keep=1)
            ids = out.logits[:, -1:].argmax(-1)
            tokens.append(int(ids))
            place, forward = place[-1:] + 1, step
        return tokens, count

    return run


def llama_cpp(path: str, threads: int) -> Engine:
    """llama.cpp with the GGUF file's own 4 bits."""
    from llama_cpp import Llama

    model = Llama(model_path=path, n_ctx=CAPACITY, n_threads=threads, n_threads_batch=threads, verbose=False)

    def run(prompt: list[int], count: int) -> tuple[list[int], int]:
        model.reset()
        stream = model.generate(prompt, temp=0.0, repeat_penalty=1.0, reset=True)
        return [int(token) for token, _ in zip(stream, range(count), strict=False)], count

    return run


def diffusion_loop(threads: int, loop: str, compiled: bool) -> Engine:
    """A plain PyTorch loop of loops.py."""
    import loops
    import torch

    torch.set_num_threads(threads)
    model = loops.Model.planted(compiled)
    return lambda prompt, count: loops.LOOPS[loop](model, prompt, count)


def _torch_model(folder: str, threads: int) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(threads)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def has_llama_cpp() -> bool:
    """Whether llama-cpp-python is installed; it is raced only then."""
    return find_spec("llama_cpp") is not None


ENGINES: dict[str, Callable[..., Engine]] = {
    "dcompile": dcompiled,
    "genai": genai,
    "transformers": transformers_eager,
    "transformers-compiled": transformers_compiled,
    "llama.cpp": llama_cpp,
    "diffusion-loop": diffusion_loop,
}
