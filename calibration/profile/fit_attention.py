"""Decode and prefill attention fitted, one set of coefficients for each ``AttentionKey``.

The overlap of a mixed step is the one that misses its times least:

    sum_i |decode_i + prefill_i - o * shorter_i - t_i| / t_i -> min: a weighted median of single o_i
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from . import forms
from .fit_kernel import Group, Kernel, Solved, grouped, solve_kernels
from .loads import Cut, decode_load, prefill_load
from .robust import Coefficient, Point
from .store import nine_digits
from .values import DecodeFit, PrefillFit

DECODE_FAMILIES = ("decode", "ragged", "kv_dtypes", "block_sizes")
T0 = Coefficient("t0_s", (4e-6,), (1e-8, 1e-2))
P = Coefficient("p", (1.5, 4.0), (1.0, 16.0))
ITEM = Coefficient("item_s", (1e-9,), (1e-13, 1e-6))
MERGE = Coefficient("merge_s", (3e-7,), (1e-12, 1e-4))
START = Coefficient("start_s", (1e-6,), (1e-9, 1e-4))
CHUNK_READ = Coefficient("read_bytes_per_s", (2e12,), (1e9, 1e14))
"""Chunks compute: how fast they read shows in few points."""


def solve_decodes(points: Iterable[Point]) -> tuple[list[Solved], list[str]]:
    """Every decode kernel among these points, and what is missing."""
    groups, missing = grouped((p for p in points if p.family in DECODE_FAMILIES), _cut_of)
    return solve_kernels([decode_kernel(*group) for group in groups]), missing


def solve_prefills(points: Iterable[Point], num_sms: int) -> tuple[list[Solved], list[str]]:
    """Every prefill kernel among these points, and what is missing.

    Slots are the launch's, or one for each multiprocessor, whichever fits the points: programs that
    keep a multiprocessor's matrix units busy gain nothing from a second one beside them.
    """
    groups, missing = grouped((p for p in points if p.family == "prefill"), _tiles_of)
    found = solve_kernels([prefill_kernel(*group) for group in groups])
    if any(slots > num_sms for _, (_, _, slots), _ in groups):
        others = solve_kernels([_by_multiprocessor(group, num_sms) for group in groups])
        found = [
            min(pair, key=lambda one: one.solution.cost) for pair in zip(found, others, strict=True)
        ]
    return found, missing


def decode_fit(solved: Solved) -> DecodeFit:
    """As the profile stores it."""
    cut = Cut(*solved.kernel.constants)
    lengths = [lengths_of(point.x) for point in solved.kernel.of("fit")]
    values: Mapping[str, Any] = solved.solution.values
    return DecodeFit(
        key=solved.kernel.key,
        **values,
        **cut._asdict(),
        uncertainty=dict(solved.solution.uncertainty),
        seen=_ranges(
            batch=[len(own) for own in lengths],
            context_tokens=[sum(own) / len(own) for own in lengths],
            total_tokens=[sum(own) for own in lengths],
        ),
    )


def prefill_fit(solved: Solved) -> PrefillFit:
    """As the profile stores it."""
    query_tokens, tile_tokens, slots = solved.kernel.constants
    chunks = [chunk for point in solved.kernel.of("fit") for chunk in chunks_of(point.x)]
    values: Mapping[str, Any] = solved.solution.values
    return PrefillFit(
        key=solved.kernel.key,
        **values,
        query_tokens=query_tokens,
        tile_tokens=tile_tokens,
        slots=slots,
        uncertainty=dict(solved.solution.uncertainty),
        seen=_ranges(
            new_tokens=[new for new, _ in chunks], past_tokens=[past for _, past in chunks]
        ),
    )


def _ranges(**values: Sequence[float]) -> dict[str, tuple[float, ...]]:
    """Least and most of each."""
    return {
        name: (nine_digits(min(found)), nine_digits(max(found))) for name, found in values.items()
    }


def fitted_overlap(parts: Sequence[tuple[float, float, float]]) -> float:
    """From ``(decode, prefill, together)`` of mixed steps, in 0 .. 1; 0 without any."""
    if not parts:
        return 0.0
    decode, prefill, together = np.array(parts).T
    shorter = np.minimum(decode, prefill)
    single = (decode + prefill - together) / shorter
    order = np.argsort(single)
    weights = np.cumsum((shorter / together)[order])
    middle = order[np.searchsorted(weights, weights[-1] / 2)]
    return nine_digits(float(np.clip(single[middle], 0.0, 1.0)))


# ---------------------------------------------------------------------- kernels


def decode_kernel(key: Any, cut: tuple[int, ...], points: tuple[Point, ...]) -> Kernel:
    """Decode points of one kernel."""
    constants = Cut(*cut)

    def unknowns(loads: Any, times: Sequence[float]) -> tuple[Coefficient, ...]:
        rate = float(np.max(loads.bytes / np.array(times)))
        share = rate / constants.slots
        return (
            T0,
            Coefficient("read_bytes_per_s", (1.1 * rate,), (rate / 4, rate * 4)),
            Coefficient("program_bytes_per_s", (1.2 * share, 4 * share), (share / 4, rate)),
            P,
            ITEM,
            MERGE,
        )

    return Kernel(
        key=key,
        constants=cut,
        points=points,
        law=forms.decode_law,
        load_of=lambda x: decode_load(key, constants, lengths_of(x), x.get("sliding_window", 0)),
        unknowns=unknowns,
        own=("read_bytes_per_s", "program_bytes_per_s", "merge_s"),
    )


def prefill_kernel(key: Any, tiles: tuple[int, ...], points: tuple[Point, ...]) -> Kernel:
    """Prefill points of one kernel."""
    query_tokens, tile_tokens, slots = tiles

    def load_of(x: Mapping[str, Any]) -> tuple[Any, ...]:
        return prefill_load(
            key,
            chunks_of(x),
            query_tokens=query_tokens,
            tile_tokens=tile_tokens,
            slots=slots,
            sliding_window=x.get("sliding_window", 0),
        )

    def unknowns(loads: Any, times: Sequence[float]) -> tuple[Coefficient, ...]:
        rate = float(np.max(loads.flops / np.array(times)))
        share = rate / slots
        return (
            T0,
            Coefficient("flops_per_s", (1.1 * rate,), (rate / 4, rate * 4)),
            CHUNK_READ,
            Coefficient("program_flops_per_s", (share, 2 * share), (share / 4, rate)),
            P,
            START,
        )

    return Kernel(
        key=key,
        constants=tiles,
        points=points,
        law=forms.prefill_law,
        load_of=load_of,
        unknowns=unknowns,
        own=("flops_per_s", "program_flops_per_s"),
    )


def _by_multiprocessor(group: Group, num_sms: int) -> Kernel:
    key, (query_tokens, tile_tokens, slots), points = group
    return prefill_kernel(key, (query_tokens, tile_tokens, min(slots, num_sms)), points)


def lengths_of(x: Mapping[str, Any]) -> list[int]:
    """One length for each sequence of a sample."""
    return [length for length, count in x["seq_lens"] for _ in range(count)]


def chunks_of(x: Mapping[str, Any]) -> list[tuple[int, int]]:
    """``(new, cached)`` tokens of each chunk of a sample."""
    return [(new, past) for new, past in x["chunks"]]


def _cut_of(x: Mapping[str, Any]) -> Cut:
    return Cut(x["slots"], x["tile_tokens"], x["min_chunk_tokens"], x["target_items"])


def _tiles_of(x: Mapping[str, Any]) -> tuple[int, int, int]:
    return x["query_tokens"], x["tile_tokens"], x["slots"]
