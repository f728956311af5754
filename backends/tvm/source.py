"""C source of a library: the kernels, the functions that call them, and a table of what they name.

TVM 0.27 has two mistakes in its C. What a function of the runtime returns is read where nothing has put it:
that is mended here. Calls with shapes cannot be written at all, for which orders have a kernel of their own (`ranks`).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dcompile.backends.tvm.files import SOURCES

READ = "TVMBackendAnyListMoveFromPackedReturn("
CALL = re.compile(
    r"(&(?P<result>\w+)\) != 0\) \{\n    return -1;\n  \}\n)"
    rf"(?P<read>  {re.escape(READ)}\w+, \d+, (?P<stack>\w+), (?P<place>\d+)\);)"
)


def write(archive: str, sources: Sequence[str], **_: Any) -> None:
    """As TVM exports a library: the sources, beside where an archive of them was to be."""
    for source, name in zip(sources, SOURCES, strict=True):
        shutil.move(source, Path(archive).with_name(name))
    kernels = Path(archive).with_name(SOURCES[0])
    kernels.write_text(mended(kernels.read_text(encoding="utf-8")), encoding="utf-8")


def mended(text: str) -> str:
    """Each result put where the next line reads it; the floats of sixteen bits by the name that C compilers have."""
    put = r"\1  ((TVMFFIAny*)\g<stack>)[\g<place>] = \g<result>;\n\g<read>"
    text, count = CALL.subn(put, text)
    assert count == text.count(READ), "TVM writes calls in another form"
    return f"#define half _Float16\n{text}" if "half*" in text else text
