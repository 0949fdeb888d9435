"""Which version of the kernels this is: a profile holds for the code that it was measured with."""

from __future__ import annotations

import hashlib
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
    """``sha256:...`` of the kernels' code; comments, docstrings and layout do not count."""
    import ast

    digest = hashlib.sha256()
    for name in SOURCES:
        tree = ast.parse((Path(__file__).parent / name).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list):
                node.body = [part for part in body if not _is_text(part)]  # type: ignore[attr-defined]
        digest.update(f"{name}\n{ast.dump(tree)}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def _is_text(node: object) -> bool:
    import ast

    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
