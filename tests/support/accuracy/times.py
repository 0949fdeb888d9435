"""Step times, and a served run: published or measured, and ours."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from kvsim.calibration.profile.find import BUNDLED
from kvsim.calibration.profile.store import read_profile, read_samples
from kvsim.calibration.silicon.systems import SYSTEMS
from kvsim.reports.calibration_data import calibration_of
from kvsim.reports.calibration_goals import aims
from support.anchors import (
    INTERCEPT_MS,
    LOADED_TOKENS_PER_S,
    PROMPTS,
    SLOPE_MS,
    SPLITWISE_PROMPT_MS,
    decode_law,
    loaded_run,
    prompt_ms,
)
from support.left_out import INSIDE_A_GENERATION, missed, of_another_generation, together
from support.marks import SHARED
from support.measured import KERNELS, MEASURED, PEER, TRACE, figure, simulated_run

SOURCES = ("datasheet", "silicon", f"measured:{SHARED / KERNELS}")


@cache
def run_errors(source: str) -> dict[str, float]:
    """Simulated over measured, less one, of the recorded run; of each figure."""
    summary = simulated_run(SHARED / TRACE, source)[1]
    return {name: figure(summary, name) / said - 1 for name, said in MEASURED.items()}


def measured_block() -> str:
    """The recorded run of a real server beside the simulated ones."""
    lines = [
        "| | measured | `datasheet` | `silicon` | `measured:` that card's kernels "
        "| LLMServingSim 2, with them |",
        "|---|---|---|---|---|---|",
    ]
    for name, measured in MEASURED.items():
        cells = []
        for source in SOURCES:
            error = run_errors(source)[name]
            cells.append(f"{measured * (1 + error):.4g} ({100 * error:+.1f} %)")
        cells.append(f"{100 * PEER[name]:+.1f} %" if name in PEER else "")
        lines.append(f"| `{name}` | {measured:.4g} | {' | '.join(cells)} |")
    return "\n".join(lines)


@cache
def published() -> dict[str, tuple[float, float]]:
    """Published step times and ours by ``silicon``."""
    law, loaded = decode_law("silicon"), loaded_run("silicon").output_tokens_per_s
    pairs = {
        "H100, Llama-3.1-8B, one stream: ms a token of context": (SLOPE_MS, law.slope_ms),
        "the same: ms without context": (INTERCEPT_MS, law.intercept_ms),
        "8 streams of 20k tokens: output tokens/s": (LOADED_TOKENS_PER_S, loaded),
    }
    for (gpu, size), times in SPLITWISE_PROMPT_MS.items():
        if size == 2:
            ours = dict(zip(PROMPTS, prompt_ms("silicon", gpu, size), strict=True))
            name = f"Llama-2-70B on 2 {gpu}, prompt of 2,048: ms (an early stack)"
            pairs[name] = (float(times[PROMPTS.index(2048)]), ours[2048])
    return pairs


def steps_block() -> str:
    """Published step times beside ours."""
    lines = ["| | published | `silicon` | |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {said:.3g} | {ours:.3g} | {100 * (ours / said - 1):+.1f} % |"
        for name, (said, ours) in published().items()
    ]
    return "\n".join(lines)


class Derived(NamedTuple):
    """Medians of the errors of cards that were left out, shares of steps in the band."""

    near: float
    far: float
    sheet: tuple[float, float]
    in_band: tuple[float, float]


@cache
def derived() -> Derived:
    """From a card of their generation, and from another one."""
    inside = together([missed(card) for card in INSIDE_A_GENERATION])
    across = together([missed(card, of_another_generation(card)) for card in SYSTEMS])
    near, far = (float(np.median(np.abs(one.derived))) for one in (inside, across))
    sheet = sorted(float(np.median(np.abs(one.datasheet))) for one in (inside, across))
    held = (float(inside.in_band.mean()), float(across.in_band.mean()))
    return Derived(near, far, (sheet[0], sheet[1]), held)


def derived_block() -> str:
    """Cards with tables, derived from another card, beside their own tables."""
    found = derived()
    low, high = (100 * one for one in found.sheet)
    inside, across = (100 * one for one in found.in_band)
    return (
        f"Left out and derived from a card of their generation, {len(INSIDE_A_GENERATION)} cards "
        f"with tables are met to {100 * found.near:.1f} % in the median ({len(SYSTEMS)} from "
        f"another generation: {100 * found.far:.1f} %; the datasheet alone: {low:.1f} to "
        f"{high:.1f} %); the band holds {inside:.0f} % and {across:.0f} % of their steps."
    )


def kernels_block() -> str:
    """What kvsim's kernels reached on the cards whose profiles are shipped."""
    lines = ["| card | case | goal | reached | |", "|---|---|---|---|---|"]
    for path in sorted(BUNDLED.glob("*.json")):
        profile = read_profile(path)
        for aim in aims(calibration_of(profile, read_samples(path))):
            cells = (profile.hardware.name, aim.case, aim.aim, aim.found, aim.answer)
            lines.append(f"| {' | '.join(cells)} |")
    if len(lines) == 2:
        return "No profile is shipped yet: kvsim's kernels have not been timed on a card."
    return "\n".join(lines)
