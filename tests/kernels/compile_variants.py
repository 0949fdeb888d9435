"""Compiles the kernels ahead of time and prints what the compiler reports.

A program of its own: a process that interprets kernels cannot compile them.

    compile_variants.py 90              all variants for sm_90, a JSON line each
    compile_variants.py --write-docs    the table of docs/kernels.md
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import triton
from triton.compiler.errors import CompilationError

from kvsim.kernels.ahead_of_time import SHARED_PER_SM_BYTES, Report
from kvsim.kernels.compiled import (
    VALUE_BYTES,
    Specialisation,
    decode_report,
    latent_report,
    prefill_report,
)
from kvsim.kernels.compiled_small import SMALL, small_report
from kvsim.kernels.launch import decode_launch, latent_launch

SHOWN = (80, 89, 90, 100)
PAGE = Path(__file__).resolve().parents[2] / "docs" / "kernels.md"
BEGIN, END = "<!-- begin: compiled -->", "<!-- end: compiled -->"
EVERYTHING: dict[str, Any] = {
    "sliding_window": 100,
    "switches": {"SOFTCAP": True, "ALIBI": True, "SINKS": True},
}
FP16 = {"dtype": "fp16", "kv_dtype": "fp16"}
DECODE: dict[str, dict[str, Any]] = {
    "plain": {},
    "fp16": FP16,
    "block 1": {"block_size": 1},
    "block 24": {"block_size": 24},
    "block 64": {"block_size": 64},
    "contiguous": {"block_size": 0},
    "dim 64": {"head_dim": 64},
    "dim 80": {"head_dim": 80},
    "dim 256": {"head_dim": 256},
    "MHA": {"heads": 32, "kv_heads": 32},
    "MQA of 64": {"heads": 64, "kv_heads": 1},
    "everything": EVERYTHING,
    "fp8_e4m3": {"kv_dtype": "fp8_e4m3"},
    "fp8_e5m2": {"kv_dtype": "fp8_e5m2"},
    "int8": {"kv_dtype": "int8"},
}
PREFILL: dict[str, dict[str, Any]] = {
    "plain": {},
    "fp16, block 64": {**FP16, "block_size": 64},
    "dim 256": {"head_dim": 256},
    "everything": EVERYTHING,
    "fp8_e4m3": {"kv_dtype": "fp8_e4m3"},
    "int8": {"kv_dtype": "int8"},
}
LATENT: dict[str, dict[str, Any]] = {
    "16 heads": {},
    "128 heads": {"heads": 128},
    "fp8_e4m3": {"kv_dtype": "fp8_e4m3"},
}


def planned(kernel: str, settings: dict[str, Any], compute_capability: int) -> int | None:
    """Programs on a multiprocessor that the launch table reckons with."""
    shared = SHARED_PER_SM_BYTES[compute_capability]
    if kernel == "decode":
        launch = decode_launch(
            group=settings.get("heads", 32) // settings.get("kv_heads", 8),
            head_dim=settings.get("head_dim", 128),
            value_bytes=VALUE_BYTES[settings.get("kv_dtype", "bf16")],
            contiguous=settings.get("block_size") == 0,
        )
        return launch.resident(shared)
    if kernel == "latent":
        return latent_launch(heads=settings.get("heads", 16), value_bytes=2).resident(shared)
    return None


def lines(compute_capability: int) -> Iterator[dict[str, Any]]:
    """All variants for one generation."""
    kinds = (
        ("decode", lambda sm, x: partial(decode_report, sm, Specialisation(**x)), DECODE),
        ("prefill", lambda sm, x: partial(prefill_report, sm, Specialisation(**x)), PREFILL),
        ("latent", lambda sm, x: partial(latent_report, sm, **x), LATENT),
    )
    for kernel, report, variants in kinds:
        for name, settings in variants.items():
            line = tried(kernel, name, report(compute_capability, settings))
            if not line["refused"]:
                line["planned"] = planned(kernel, settings, compute_capability)
            yield line
    for name in SMALL:
        yield tried("small", name, partial(small_report, compute_capability, name))


def tried(kernel: str, variant: str, report: Callable[[], Report]) -> dict[str, Any]:
    """The report as a line, or why the target cannot do it."""
    line: dict[str, Any] = {"kernel": kernel, "variant": variant, "refused": ""}
    try:
        found = report()
    except (CompilationError, RuntimeError) as error:  # of the language, of a pass
        return line | {"refused": str(error)}
    return line | asdict(found) | {"programs_per_sm": found.programs_per_sm}


def table() -> str:
    """Registers, shared memory and residents of every variant on every generation, as Markdown."""
    found: dict[tuple[str, str], list[str]] = {}
    for capability in SHOWN:
        for line in lines(capability):
            row = found.setdefault((line["kernel"], line["variant"]), [])
            row.append("not there" if line["refused"] else _cell(line))
    heads = [f"sm_{capability}" for capability in SHOWN]
    rows = [["kernel", "variant", *heads], ["---"] * (2 + len(heads))]
    rows += [[*names, *cells] for names, cells in found.items()]
    body = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    legend = "registers / shared KiB / programs on a multiprocessor"
    return f"Triton {triton.__version__}; {legend}.\n\n{body}"


def _cell(line: dict[str, Any]) -> str:
    spilled = f", {line['spills']} spills" if line["spills"] else ""
    shared = line["shared_bytes"] / 1024
    return f"{line['registers']} / {shared:.0f} / {line['programs_per_sm']}{spilled}"


def write_docs() -> None:
    """Between the marks of the page."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{table()}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1] == "--write-docs":
        write_docs()
    else:
        for line in lines(int(sys.argv[1])):
            print(json.dumps(line), flush=True)
