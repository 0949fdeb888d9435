"""vAttention's pages and what small ones gain (Prabhu et al., ASPLOS 2025)."""

from __future__ import annotations

from dataclasses import replace

from ...calibration.gpus import load_gpu
from ...calibration.models import load_model
from ...traces import Trace, workload_preset
from ..pages import KIB, MIB, kv_row_bytes, page_name
from ..saturated import saturate
from ..server import resolve
from .claim import Chart, Check, Claim, Series, near
from .setup import NO_LIMIT, Setting, lengths

PAPER = "vAttention"
SOURCE = "Prabhu et al., ASPLOS 2025"
SMALL, LARGE = 64 * KIB, 2 * MIB
TOKENS = {SMALL: 64, LARGE: 2048}
FIG_15 = {("yi-6b", 1): {SMALL: 240, LARGE: 187}, ("llama-3-8b", 2): {SMALL: 258, LARGE: 203}}
"""Model and GPUs: largest batch by page size."""
LONGEST = 32_768
"""Tokens of a request. The paper names no cut; its scripts take up to so many, and its own batches
speak for it: the pool has 4,100 tokens for each of 240 requests of Yi-6B."""
_GAIN_ROOM, _BATCH_ROOM = 0.10, 0.15


def pages(setting: Setting) -> Claim:
    """Tokens of a page."""
    return Claim(
        name="vattention-pages",
        paper=PAPER,
        source=f"{SOURCE}, table of page sizes",
        says="A page of 64 KB holds 64 tokens of Yi-6B on one GPU and of Llama-3-8B on two, a page "
        "of 2 MB 2,048.",
        how="Page bytes over the bytes of one token's keys in one layer on one GPU. (The printed "
        "cells of Yi-34B do not follow from it.)",
        checks=tuple(
            near(
                f"{model} on {gpus} GPU: tokens of {page_name(size)}",
                tokens,
                size // kv_row_bytes(load_model(model), "auto", gpus),
                unit="tokens",
            )
            for model, gpus in FIG_15
            for size, tokens in TOKENS.items()
        ),
        charts=(
            Chart(
                title="Tokens of a page",
                y_title="tokens",
                labels=tuple(page_name(size) for size in TOKENS),
                series=(
                    *(
                        Series(
                            name=f"{model}, {gpus} GPU",
                            y=tuple(
                                size / kv_row_bytes(load_model(model), "auto", gpus)
                                for size in TOKENS
                            ),
                        )
                        for model, gpus in FIG_15
                    ),
                    Series(name="paper", y=tuple(map(float, TOKENS.values())), paper=True),
                ),
            ),
        ),
    )


def batches(setting: Setting) -> Claim:
    """Requests at once by page size."""
    preset = workload_preset("openchat-sharegpt4")
    trace = lengths(replace(preset, max_total_tokens=LONGEST), 2_000)
    found = {key: {size: _batch(key[0], key[1], size, trace) for size in TOKENS} for key in FIG_15}
    shorter = lengths(preset, 2_000)
    gains = [
        _batch(model, gpus, SMALL, shorter) / _batch(model, gpus, LARGE, shorter)
        for model, gpus in FIG_15
    ]
    checks: list[Check] = []
    for (model, gpus), printed in FIG_15.items():
        ours = found[model, gpus]
        checks.append(
            near(
                f"{model}: gain of 64 KiB pages over 2 MiB",
                printed[SMALL] / printed[LARGE],
                ours[SMALL] / ours[LARGE],
                rel=_GAIN_ROOM,
                unit="x",
                printed=f"{printed[SMALL]} / {printed[LARGE]}",
            )
        )
        checks += (
            near(f"{model}: batch with {page_name(size)}", batch, ours[size], rel=_BATCH_ROOM)
            for size, batch in printed.items()
        )
    return Claim(
        name="vattention-fig-15",
        paper=PAPER,
        source=f"{SOURCE}, Fig. 15",
        says="With pages of 64 KB instead of 2 MB the largest batch grows from 187 to 240 (Yi-6B "
        "on one A100) and from 203 to 258 (Llama-3-8B on two).",
        how=f"openchat_sharegpt4 lengths up to {LONGEST:,} tokens, A100 80 GB, pool by the memory "
        "planner, a queue that never empties; mean requests at once. The gain hangs on where the "
        f"lengths are cut, which the paper does not say: cut at {preset.max_total_tokens:,} "
        f"tokens, as in Sarathi-Serve, it is {' and '.join(f'{gain:.2f}x' for gain in gains)}.",
        checks=tuple(checks),
        charts=tuple(
            Chart(
                title=f"{model} on {gpus} GPU",
                y_title="requests at once",
                labels=tuple(page_name(size) for size in TOKENS),
                series=(
                    Series(name="ours", y=tuple(found[model, gpus].values())),
                    Series(name="paper", y=tuple(map(float, printed.values())), paper=True),
                ),
            )
            for (model, gpus), printed in FIG_15.items()
        ),
    )


def _batch(model: str, gpus: int, page_bytes: int, trace: Trace) -> float:
    server = resolve(
        model=load_model(model),
        gpu=load_gpu("a100"),
        trace=trace,
        max_model_len=LONGEST,
        flags={
            "allocator": "virtual",
            "page_bytes": page_bytes,
            "tensor_parallel_size": gpus,
            "async_scheduling": False,
        },
    ).with_flags(max_num_seqs=NO_LIMIT, max_num_batched_tokens=NO_LIMIT)
    _, backlog = saturate(server, trace, num_requests=len(trace))
    return backlog.mean_running
