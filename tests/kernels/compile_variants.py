"""Compiles the kernels ahead of time and prints what the compiler reports, a JSON line each.

A program of its own: a process that interprets kernels cannot compile them.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

from triton.compiler.errors import CompilationError

from kvsim.kernels.ahead_of_time import SHARED_PER_SM_BYTES, Report
from kvsim.kernels.compiled import VALUE_BYTES, decode_report, latent_report, prefill_report
from kvsim.kernels.launch import decode_launch, latent_launch

EVERYTHING: dict[str, Any] = {
    "sliding_window": 100,
    "SOFTCAP": True,
    "ALIBI": True,
    "SINKS": True,
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


def main(compute_capability: int) -> None:
    """All variants for one generation."""
    kinds = (
        ("decode", decode_report, DECODE),
        ("prefill", prefill_report, PREFILL),
        ("latent", latent_report, LATENT),
    )
    for kernel, report, variants in kinds:
        for name, settings in variants.items():
            found: Report | None
            try:
                found, refused = report(compute_capability, **settings), ""
            except CompilationError as error:
                found, refused = None, str(error)
            line: dict[str, Any] = {"kernel": kernel, "variant": name, "refused": refused}
            if found is not None:
                line |= asdict(found) | {"programs_per_sm": found.programs_per_sm}
                line["planned"] = planned(kernel, settings, compute_capability)
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
