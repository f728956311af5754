"""An app that embeds an artifact: needs `pip install dcompile` alone, no torch.

python examples/python/embed.py build/demo "Reverse the line : [Albin Ashley, Tila Oakwick, Corden Pinefield]"
"""

import sys

import dcompile

session = dcompile.load(sys.argv[1], threads=2)
stream = session.stream(sys.argv[2], max_new_tokens=24)
for piece in stream:
    print(piece, end="", flush=True)
assert stream.result is not None
print(f"\n{stream.result.model_calls} model calls, ended by {stream.result.finish_reason}")
