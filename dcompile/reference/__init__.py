"""The oracle: a Strategy run on a model in plain eager torch, one row, Python loops, as directly as the meaning can be
written. Everything that is compiled is compared with it; it shares no code with the lowering."""

from dcompile.reference.oracle import run
from dcompile.reference.result import Difference, Forced, Result

__all__ = ["Difference", "Forced", "Result", "run"]
