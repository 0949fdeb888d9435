"""Which version of the kernels this is: a profile holds for the code that it was measured with."""

from __future__ import annotations

import ast
import hashlib
import io
import tokenize
from functools import cache
from pathlib import Path

SOURCES = (
    "block_move.py",
    "kv_write.py",
    "latent_decode.py",
    "launch.py",
    "merge.py",
    "paged_decode.py",
    "paged_prefill.py",
    "scores.py",
    "split.py",
    "work_list.py",
)
"""The files whose change may change a time."""


@cache
def kernel_hash() -> str:
    """``sha256:...`` of the kernels' code; comments, docstrings and layout do not count.

    Taken from the text, since a syntax tree prints differently from one Python to the next.
    """
    digest = hashlib.sha256()
    for name in SOURCES:
        text = (Path(__file__).parent / name).read_text(encoding="utf-8")
        digest.update(f"{name}\n{_code(text)}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def _code(text: str) -> str:
    """Without words about it, and without a blank."""
    lines = text.splitlines(keepends=True)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            for line in range(node.lineno - 1, node.end_lineno or node.lineno):
                lines[line] = "\n"
    for token in tokenize.generate_tokens(io.StringIO("".join(lines)).readline):
        if token.type == tokenize.COMMENT:
            line, column = token.start
            lines[line - 1] = lines[line - 1][:column] + "\n"
    return "".join("".join(lines).split())
