"""The fit of ``fitted.FittedCost`` and ``fitted.FittedMoves`` to the steps of logs.

Least squares on relative errors (a step weighs the same, short or long); no term is negative. A
step's time is its period (see ``periods``). Moves are fitted with the eager steps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from ...kernels.launch import decode_launch
from ..step_cost import NS_PER_S, Band
from .fitted import EAGER, MOVES, FittedCost, FittedMoves, batch_of, eager_units, graph_units
from .log_reader import Log
from .periods import periods_s
from .records import StepRecord
from .shape import DTYPE_BYTES, LlamaShape

LEAST_STEPS = 20
_FLOORS = np.linspace(0.0, 0.6, 13)
"""Quantiles of the eager steps' times that are tried as their floor."""
_ROUNDS = 5
"""After which weights and predictions agree."""
_LEAST_NS = 1.0
_WORTH = 0.9
"""A floor must leave so much of the squared error, or less."""
_BAND_QUANTILES = (0.05, 0.95)

Floats = NDArray[np.float64]


def fit_logs(logs: Sequence[Log]) -> tuple[FittedCost, FittedMoves]:
    """Fit step times and moves to the steps of runs of one shape on one host.

    Steps in which kernels were compiled are left out.

    Raises:
        ValueError: too few steps.
    """
    pairs = [
        (step, period)
        for log in logs
        for step, period in zip(log.steps, periods_s(log.steps), strict=True)
        if step.rows and not step.compiled
    ]
    if len(pairs) < LEAST_STEPS:
        raise ValueError(f"fit(={len(pairs)} steps) must have >= {LEAST_STEPS} steps.")
    steps = [step for step, _ in pairs]
    times_ns = np.array([period for _, period in pairs]) * NS_PER_S
    moves = np.array([_move_units(step) for step in steps])
    graphs = np.array([bool(step.bucket) for step in steps])
    eager = ~graphs
    graph_ns: tuple[float, ...] = ()
    moved_ns = np.zeros(len(MOVES))
    predicted = np.zeros(len(steps))
    eager_ns, floor_ns = np.zeros(len(EAGER)), 0.0
    shape = LlamaShape(**logs[0].header.model)
    tile = decode_launch(
        group=shape.num_heads // shape.num_kv_heads,
        head_dim=shape.head_dim,
        value_bytes=DTYPE_BYTES[shape.dtype],
    ).tile_tokens
    if eager.any():
        units = np.array([eager_units(batch_of(step), tile) for step in steps])[eager]
        if np.array_equal(units[:, EAGER.index("tile")], units[:, EAGER.index("decode")]):
            units[:, EAGER.index("tile")] = 0.0  # nobody was longer than a tile
        found = _least(np.hstack([units, moves[eager]]), times_ns[eager])
        eager_ns, moved_ns = found[: len(EAGER)], found[len(EAGER) :]
        rest = times_ns[eager] - moves[eager] @ moved_ns
        eager_ns, floor_ns = _with_floor(units, np.maximum(rest, 1.0), eager_ns)
        predicted[eager] = np.maximum(units @ eager_ns, floor_ns) + moves[eager] @ moved_ns
    if graphs.any():
        units = np.array([graph_units(batch_of(step), step.bucket) for step in steps])[graphs]
        rest = times_ns[graphs] - moves[graphs] @ moved_ns
        found = _least(units, np.maximum(rest, 1.0))
        graph_ns = tuple(found.tolist())
        predicted[graphs] = units @ found + moves[graphs] @ moved_ns
    low, high = np.quantile(times_ns / predicted, _BAND_QUANTILES)
    cost = FittedCost(
        tile_tokens=tile,
        eager_ns=tuple(eager_ns.tolist()),
        graph_ns=graph_ns,
        floor_ns=floor_ns,
        num_steps=len(steps),
        band=Band(
            low=min(float(low), 1.0), high=max(float(high), 1.0), source="residuals of the fit"
        ),
    )
    block_bytes = shape.kv_bytes_per_token * int(logs[0].header.flags["block_size"])
    return cost, FittedMoves(terms_ns=tuple(moved_ns.tolist()), block_bytes=block_bytes)


def _move_units(step: StepRecord) -> tuple[float, ...]:
    counts = (step.swapped_out_blocks, step.swapped_in_blocks, step.copied_blocks)
    return tuple(value for count in counts for value in (float(count > 0), float(count)))


def _least(units: Floats, times_ns: Floats) -> Floats:
    """Terms >= 0 with the least squared errors, relative to what is predicted.

    Relative to what was measured, noise of 10 % would make all terms 2 % too small: a step that
    was slow by chance would weigh less than one that was fast.
    """
    scale = units.max(axis=0)
    scale[scale == 0] = 1.0
    shares, weights = units / scale, times_ns
    for _ in range(_ROUNDS):
        found, _ = nnls(shares / weights[:, None], times_ns / weights)
        weights = np.maximum(shares @ found, _LEAST_NS)
    terms: Floats = found / scale
    return terms


def _with_floor(units: Floats, times_ns: Floats, terms: Floats) -> tuple[Floats, float]:
    """A floor where it explains more than the terms alone, with the terms of what lies above."""
    best, floor_ns = _WORTH * _error(units @ terms, times_ns), 0.0
    for candidate in np.quantile(times_ns, _FLOORS):
        above = times_ns > candidate
        if above.sum() < LEAST_STEPS:
            break
        tried = _least(units[above], times_ns[above])
        error = _error(np.maximum(units @ tried, candidate), times_ns)
        if error < best:
            best, floor_ns, terms = error, float(candidate), tried
    return terms, floor_ns


def _error(predicted: Floats, times_ns: Floats) -> float:
    return float(np.square(predicted / times_ns - 1).sum())
