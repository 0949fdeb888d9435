"""A calibration profile by hand: coefficients so plain that a step can be added up on paper.

Decode attention takes 10 us and reads 4 TB/s, prefill 20 us at 400 TFLOP/s; no waves, no splitting.
Linear layers of Llama-3.1-8B take the same time however many rows they have.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kvsim.calibration.profile.values import (
    AttentionKey,
    DecodeFit,
    GemmFit,
    GemmTable,
    Hardware,
    LineFit,
    PrefillFit,
    Profile,
    Residual,
)
from kvsim.kernels.version import kernel_hash

NEVER_BINDS = 1e30
KEY = AttentionKey(dtype="bf16", kv_dtype="bf16", heads=32, kv_heads=8, head_dim=128, block_size=16)
HALF = replace(KEY, heads=16, kv_heads=4)
"""A shard of two."""
LINEAR_S = {
    (6144, 4096): 100e-6,
    (4096, 4096): 50e-6,
    (28_672, 4096): 300e-6,
    (4096, 14_336): 200e-6,
    (128_256, 4096): 400e-6,
}
"""Seconds by (n, k): qkv, output, gate and up, down, LM head."""
HALF_LINEAR_S = {
    (3072, 4096): 60e-6,
    (4096, 2048): 30e-6,
    (14_336, 4096): 160e-6,
    (4096, 7168): 110e-6,
    (64_128, 4096): 210e-6,
}
SPLIT = {
    "program_bytes_per_s": 2.2e10,
    "p": 3.0,
    "item_s": 2e-10,
    "merge_s": 4e-7,
    "target_items": 132,
}
"""Coefficients of a kernel that splits its sequences and runs in waves."""
ROWS = (1, 16, 64, 256, 8192)


def decode_fit(key: AttentionKey = KEY, **changes: Any) -> DecodeFit:
    """``10 us + bytes / 4e12``, one item a sequence."""
    values: dict[str, Any] = {
        "key": key,
        "t0_s": 10e-6,
        "read_bytes_per_s": 4e12,
        "program_bytes_per_s": NEVER_BINDS,
        "p": 1.0,
        "item_s": 1 / NEVER_BINDS,
        "slots": 528,
        "tile_tokens": 64,
        "min_chunk_tokens": 64,
        "target_items": 1,
        "seen": {"batch": (1, 256), "context_tokens": (128, 65_536)},
    }
    return DecodeFit(**{**values, **changes})


def prefill_fit(key: AttentionKey = KEY, **changes: Any) -> PrefillFit:
    """``20 us + FLOPs / 4e14``, a quarter of the shorter launch hidden."""
    values: dict[str, Any] = {
        "key": key,
        "t0_s": 20e-6,
        "flops_per_s": 4e14,
        "read_bytes_per_s": NEVER_BINDS,
        "program_flops_per_s": NEVER_BINDS,
        "p": 1.0,
        "slots": 132,
        "start_s": 0.0,
        "query_tokens": 32,
        "tile_tokens": 64,
        "overlap": 0.25,
        "seen": {"new_tokens": (16, 8192), "past_tokens": (0, 32_768)},
    }
    return PrefillFit(**{**values, **changes})


def line(name: str, t0_s: float, **more: Any) -> LineFit:
    """A constant, unless more is said."""
    return LineFit(name=name, **{"t0_s": t0_s, "unit_s": 0.0, "bytes_per_s": 1e12, **more})


LINES = (
    line("rms_norm", 2e-6, bytes_per_token=16_384),
    line("residual", 1e-6, bytes_per_token=24_576),
    line("rope_write", 3e-6, bytes_per_token=24_576),
    line("silu_mul", 2e-6, bytes_per_token=86_016),
    line("embed", 2e-6, bytes_per_token=16_384),
    line("argmax", 8e-6, bytes_per_token=256_512),
    line("sample", 30e-6, bytes_per_token=513_024),
)
HOST_LINES = (
    line("host prepare", 100e-6, unit_s=2e-6),
    line("host upload", 30e-6, unit_s=0.5e-6),
    line("host download", 20e-6, unit_s=0.5e-6),
    line("graph empty_nodes graph", 12e-6, unit_s=1e-6),
    line("graph empty_nodes eager", 5e-6, unit_s=4e-6),
)


def tables(times: dict[tuple[int, int], float]) -> tuple[GemmTable, ...]:
    """The same time for any rows."""
    return tuple(
        GemmTable(n=n, k=k, dtype="bf16", m=ROWS, t_s=(t_s,) * len(ROWS))
        for (n, k), t_s in times.items()
    )


def residual(family: str, split: str, p95_pct: float) -> Residual:
    """Of which only the 95th percentile is read."""
    return Residual(
        family=family, split=split, num_points=20, median_pct=1.0, p95_pct=p95_pct, worst_pct=20.0
    )


def make_profile(**changes: Any) -> Profile:
    """Of an H200 and Llama-3.1-8B, one GPU and shards of two; without the host."""
    values: dict[str, Any] = {
        "id": "h200.2026-11-22.a1b2",
        "provenance": "measured",
        "hardware": Hardware(
            gpu="h200",
            name="NVIDIA H200",
            compute_capability="9.0",
            num_sms=132,
            l2_bytes=60 << 20,
            total_memory_bytes=150_754_820_096,
        ),
        "software": {"kernel_hash": kernel_hash(), "torch": "2.11.0"},
        "run": {"started_utc": "2026-11-22T10:00:00Z"},
        "model": "llama-3.1-8b",
        "ceilings": {},
        "decode": (decode_fit(), decode_fit(HALF)),
        "prefill": (prefill_fit(), prefill_fit(HALF)),
        "gemm_tables": tables({**LINEAR_S, **HALF_LINEAR_S}),
        "gemm": (GemmFit(dtype="bf16", t0_s=5e-6, flops_per_s=6e14, read_bytes_per_s=4e12, p=1.0),),
        "lines": LINES,
        "residuals": (
            residual("decode", "heldout", 3.29),
            residual("decode", "leave_heads_out", 16.45),
            residual("prefill", "heldout", 6.58),
            residual("gemm", "leave_m_out", 3.29),
            residual("elementwise", "fit", 3.29),
        ),
    }
    return Profile(**{**values, **changes})


def split_profile() -> Profile:
    """The same with decode kernels that split their sequences and run in waves, and the host."""
    decode = tuple(decode_fit(key, **SPLIT) for key in (KEY, HALF))
    return make_profile(decode=decode, lines=LINES + HOST_LINES)
