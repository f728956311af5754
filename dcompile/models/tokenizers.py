"""The files that turn text into ids: found beside the weights, or made once and kept in the user's cache folder."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from dcompile import cache
from dcompile.diagnostic import error
from dcompile.models.gguf import Header, read_header
from dcompile.models.places import find_checkpoint, fingerprint, read_json

CONVERTIBLE = ("tokenizer.model", "vocab.json", "vocab.txt")
CONTROL, USER_DEFINED = 3, 4  # ggml's token types
LETTERS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
MARKS = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPLITS = {"qwen2": LETTERS + r"\p{N}" + MARKS, "llama-bpe": LETTERS + r"\p{N}{1,3}" + MARKS}
PLAIN = ("gpt-2", "smollm")


def tokenizer_files(path: str | Path) -> tuple[Path, ...]:
    """`tokenizer.json` first, then `tokenizer_config.json` and `chat_template.jinja` where the model has them.
    Raises CompileError `missing-tokenizer`."""
    place = find_checkpoint(path)
    folder = place if place.is_dir() else place.parent
    if (folder / "tokenizer.json").is_file():
        return _beside(folder)
    if place.is_file():
        return _from_gguf(read_header(place))
    if any((folder / name).is_file() for name in CONVERTIBLE):
        return _converted(folder)
    raise _missing(f"`{folder}` has no tokenizer", "put the model's tokenizer.json into it, or use --prompt-ids")


def _missing(title: str, help: str) -> Exception:
    return error("missing-tokenizer", title, help)


def _beside(folder: Path) -> tuple[Path, ...]:
    names = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
    found = [folder / name for name in names if (folder / name).is_file()]
    template = read_json(folder / "tokenizer_config.json").get("chat_template")
    if template and folder / "chat_template.jinja" not in found:
        kept = _cache_folder([folder / "tokenizer_config.json"])
        found.append(_keep(kept / "chat_template.jinja", _default_template(template)))
    return tuple(found)


def _default_template(template: Any) -> str:
    if isinstance(template, str):
        return template
    named = {str(t.get("name")): str(t.get("template")) for t in template}
    return named.get("default") or next(iter(named.values()))


def _converted(folder: Path) -> tuple[Path, ...]:
    from transformers import AutoTokenizer

    kept = _cache_folder([folder / name for name in CONVERTIBLE if (folder / name).is_file()])
    if not (kept / "tokenizer.json").is_file():
        try:
            AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False).save_pretrained(kept)
        except (OSError, ValueError, ImportError) as problem:
            title = f"the tokenizer in `{folder}` cannot be converted: {problem}"
            raise _missing(title, "save it as tokenizer.json") from problem
    return _beside(kept)


def _from_gguf(header: Header) -> tuple[Path, ...]:
    kept = _cache_folder([header.path])
    made = kept / "tokenizer.json"
    if not made.is_file():
        _keep(made, gguf_tokenizer(header))
    names = (("bos_token", "bos"), ("eos_token", "eos"), ("pad_token", "padding"))
    tokens = header.meta.get("tokenizer.ggml.tokens", [])
    ids = {name: header.meta.get(f"tokenizer.ggml.{key}_token_id") for name, key in names}
    special = {name: tokens[i] for name, i in ids.items() if i is not None and i < len(tokens)}
    files = [made, _keep(kept / "tokenizer_config.json", json.dumps(special, indent=1) + "\n")]
    if template := header.meta.get("tokenizer.chat_template"):
        files.append(_keep(kept / "chat_template.jinja", str(template)))
    return tuple(files)


def gguf_tokenizer(header: Header) -> str:
    """The text of tokenizer.json for the byte-level BPE of a GGUF file. Raises CompileError `missing-tokenizer`."""
    from tokenizers import AddedToken, Tokenizer, decoders, models

    meta = {key.removeprefix("tokenizer.ggml."): value for key, value in header.meta.items()}
    kind, split = meta.get("model"), meta.get("pre")
    if kind != "gpt2" or (split not in SPLITS and split not in PLAIN):
        title = f"`{header.path.name}` splits text in a way not known here (`{kind}`, `{split}`)"
        raise _missing(title, "put the model's tokenizer.json beside the .gguf file")
    tokens: list[str] = meta["tokens"]
    merges = [tuple(merge.split(" ", 1)) for merge in meta["merges"]]
    whole = split == "llama-bpe"  # a word that is a token is not split further
    made = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges, ignore_merges=whole))
    made.pre_tokenizer = _splitter(split)
    made.decoder = decoders.ByteLevel()
    types = meta.get("token_type", [])
    added = [(t, n == CONTROL) for t, n in zip(tokens, types, strict=False) if n in (CONTROL, USER_DEFINED)]
    made.add_tokens([AddedToken(text, special=special, normalized=False) for text, special in added])
    if meta.get("add_bos_token"):
        _begin_with(made, tokens[meta["bos_token_id"]], meta["bos_token_id"])
    return str(made.to_str(pretty=False))


def _splitter(split: str) -> Any:
    from tokenizers import Regex, pre_tokenizers

    if split == "gpt-2":
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    if split == "smollm":
        digits = pre_tokenizers.Digits(individual_digits=True)
        return pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    parts = pre_tokenizers.Split(Regex(SPLITS[split]), behavior="isolated")
    return pre_tokenizers.Sequence([parts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _begin_with(made: Any, text: str, number: int) -> None:
    from tokenizers import processors

    single = f"{text} $A"
    made.post_processor = processors.TemplateProcessing(
        single=single, pair=f"{single} $B", special_tokens=[(text, number)]
    )


def _cache_folder(files: list[Path]) -> Path:
    folder = cache.home() / "tokenizers" / fingerprint(files)[:16]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _keep(path: Path, text: str) -> Path:
    """Write a file in one move: another process may read it meanwhile."""
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        handle, name = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        Path(name).replace(path)
    return path
