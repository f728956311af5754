"""Models: from a checkpoint folder or a GGUF file to facts, modules and files. `read_facts` never imports torch."""

from dcompile.models.base import Model, by_name
from dcompile.models.facts import read_facts
from dcompile.models.load import load_model
from dcompile.models.tokenizers import tokenizer_files

__all__ = ["Model", "by_name", "load_model", "read_facts", "tokenizer_files"]
