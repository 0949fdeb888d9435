"""Step cost from a card's own kernel times, imported: the ``measured`` source.

A folder holds CSV files (``.csv`` or ``.csv.gz``), microseconds per layer, as LLMServingSim's
profiler writes them:

    dense         layer, tokens, time_us             projections, norms, rotary, activation
    per_sequence  layer, sequences, time_us          LM head, sampler
    attention     prefill_chunk, kv_prefill, n_decode, kv_decode, time_us

``kv_prefill`` are the cached tokens before the chunk, ``kv_decode`` the context of each of the
``n_decode`` sequences. Pure prefills and pure decodes are interpolated as they were measured; a
step with both takes their sum times the ratio of a measured mixed step to its sum, read off the
grid of mixed points. Several chunks count as the longest one in the mix and the others beside it.

Contexts of one measured batch are equal; what an uneven one costs more is ``silicon``'s law, with
the time per key of a prefill that is a single tile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from math import log2
from pathlib import Path
from typing import Any

import numpy as np

from .engine_defaults import batch_defaults, capture_sizes
from .estimate import NOTHING, Estimate
from .gpus import GPUSpec
from .model_spec import ModelSpec
from .operator_cost import OperatorCost
from .operators import Attention, Mix, Operator, Operators
from .profile.imported import TABLES, read_folder
from .profile.values import Profile
from .silicon.grid import LogGrid
from .silicon.monotone import rising
from .silicon.systems import SYSTEMS
from .step_cost import Band

NS_PER_US = 1e3
BAND = Band(low=0.95, high=1.06, source="assumed for kernels measured on the card itself")
TIMES_A_LAYER = {"layernorm": 2}
ONCE = ("embedding", "final_layernorm", "lm_head", "sampler")
Columns = Mapping[str, np.ndarray]


def profile_cost(
    folder: str,
    *,
    model: ModelSpec,
    gpu: GPUSpec,
    kv_cache_dtype: str = "auto",
    tensor_parallel_size: int = 1,
    enforce_eager: bool = False,
    max_num_seqs: int | None = None,
    async_scheduling: bool = True,
) -> OperatorCost:
    """The cost that a folder of kernel times gives; it holds for one model, dtype and TP size.

    Raises:
        ValueError: a file or column is missing, or a cell is no number.
    """
    name = Path(folder).name
    tables = read_folder(folder, name=f"step_cost(='measured:{folder}')")
    return _cost(
        {table: _arrays(columns) for table, columns in tables.items()},
        taken_from=f"kernel times of {name}",
        caveat=_caveat(name),
        model=model,
        gpu=gpu,
        kv_cache_dtype=model.resolve_kv_dtype(kv_cache_dtype),
        tensor_parallel_size=tensor_parallel_size,
        capture_sizes=()
        if enforce_eager
        else capture_sizes(max_num_seqs or batch_defaults(gpu)[1]),
        async_scheduling=async_scheduling,
    )


def imported_cost(
    profile: Profile, *, name: str, taken_from: str, model: ModelSpec, gpu: GPUSpec, **flags: Any
) -> OperatorCost:
    """The cost that a profile of kernel times gives, the same as their folder would.

    Args:
        profile: of provenance ``imported``, the columns in its ``tables``.
        name: of the profile, for error sentences.
        taken_from: the profile, for people.
        flags: the other fields of ``OperatorCost``.

    Raises:
        ValueError: the times are of another model, or a table or column is missing.
    """
    measured = {"model": profile.model, "tensor_parallel_size": 1, **profile.run}
    asked = {"model": model.name, "tensor_parallel_size": flags["tensor_parallel_size"]}
    for flag, value in asked.items():
        if measured[flag] not in ("", value):
            option = f"--{flag.replace('_', '-')} {value}"
            raise ValueError(
                f"{name} holds kernel times of {flag} {measured[flag]}: {option} needs another."
            )
    columns = {table: _columns(profile, table, name) for table in TABLES}
    caveat = _caveat(f"profile {profile.id}")
    return _cost(columns, taken_from=taken_from, caveat=caveat, model=model, gpu=gpu, **flags)


def _cost(
    columns: Mapping[str, Columns],
    *,
    taken_from: str,
    model: ModelSpec,
    gpu: GPUSpec,
    **flags: Any,
) -> OperatorCost:
    """``flags``: the other fields."""
    table = AttentionTimes(columns["attention"], gpu)
    dense, rows = (_by_layer(columns[name], name) for name in ("dense", "per_sequence"))
    return OperatorCost(
        model=model,
        gpu=gpu,
        operators=Operators(
            by_tokens=tuple(_operators(dense, model.num_layers, taken_from)),
            by_rows=tuple(_operators(rows, model.num_layers, taken_from)),
            attention=(
                Attention(
                    label="attention",
                    count=model.num_layers,
                    decode=table,
                    mixed=MixedTimes(table),
                    decode_source=taken_from,
                    mixed_source=taken_from,
                ),
            ),
            uses_longest=table.ns_per_key > 0,
        ),
        source="measured",
        taken_from=taken_from,
        band=BAND,
        **flags,
    )


def _caveat(source: str) -> str:
    return (
        f"The kernel times of {source} are taken as they are: they hold for the card, the model "
        "and the tensor-parallel size that they were measured on."
    )


class AttentionTimes:
    """Attention of one layer, any mix of chunks and decodes."""

    def __init__(self, columns: Columns, gpu: GPUSpec) -> None:
        chunk, past = columns["prefill_chunk"], columns["kv_prefill"]
        decodes, context = columns["n_decode"], columns["kv_decode"]
        ns = columns["time_us"] * NS_PER_US
        only = (chunk == 0) & (decodes > 0)
        self._decode = LogGrid((decodes[only], context[only]), ns[only])
        self.contexts = self._decode.axes[1]
        fresh = (decodes == 0) & (chunk > 0)
        self._prefill = LogGrid((chunk[fresh], past[fresh] + 1), ns[fresh])
        mixed = (chunk > 0) & (decodes > 0)
        both = [
            self._prefill(c, p + 1).value + self._decode(n, k).value
            for c, p, n, k in zip(
                chunk[mixed], past[mixed], decodes[mixed], context[mixed], strict=True
            )
        ]
        axes = (chunk[mixed], past[mixed] + 1, decodes[mixed], context[mixed])
        self._ratio = LogGrid(axes, ns[mixed] / np.array(both))
        system = SYSTEMS.get(gpu.name)
        balanced = system is None or system.balances_sequences
        self.ns_per_key = 0.0 if balanced else self._one_tile_ns()

    def means(self, batch: int, contexts: list[float]) -> tuple[list[float], float]:
        """``(ns at each mean context, ns per token of one sequence beyond the last)``."""
        found = rising([self._decode(batch, max(x, 1.0)).value for x in contexts])
        a, b = (self._decode(batch, x).value for x in self.contexts[-2:])
        slope = (b - a) / (self.contexts[-1] - self.contexts[-2])
        last = self.contexts[-1]
        return [y + slope * max(0.0, x - last) for x, y in zip(contexts, found, strict=True)], slope

    def floor_ns(self, batch: int) -> float:
        """The launch with next to nothing to read."""
        return self._decode(batch, self.contexts[0]).value

    def longest_ns(self, batch: int) -> tuple[float, float]:
        """``(floor, ns per token of the longest sequence)``."""
        return self.floor_ns(batch), self.ns_per_key

    def __call__(self, batch: int, context_tokens: float) -> Estimate:
        """``batch`` sequences that attend to so many tokens in all, evenly."""
        if batch <= 0:
            return NOTHING
        mean = context_tokens / batch
        found = self._decode(batch, max(mean, 1.0))
        ns = self.means(batch, [mean])[0][0]
        return Estimate(ns, 0.0, 0.0, found.distance, found.outside)

    def mixed(self, mix: Mix) -> Estimate:
        """Chunks and decodes of one step."""
        chunks, decodes, context, longest = mix
        (new, past), *others = sorted(chunks, reverse=True)
        first = self._prefill(new, past + 1)
        ns, distance, outside = first.value, first.distance, first.outside
        if decodes:
            mean = max(context / decodes, 1.0)
            ratio = self._ratio(new, past + 1, decodes, mean)
            pure = self(decodes, context)
            ns = (ns + pure.ns) * ratio.value
            ns += self.ns_per_key * max(0.0, longest - mean) / 2
            distance = max(distance, ratio.distance)
            outside = outside or ratio.outside or pure.outside
        floor = self._prefill(self._prefill.axes[0][0], 1).value
        for more, cached in others:
            ns += max(0.0, self._prefill(more, cached + 1).value - floor)
        return Estimate(ns, 0.0, 0.0, distance, outside)

    def _one_tile_ns(self) -> float:
        """Per key, from the smallest chunk before its two longest pasts."""
        new, (short, long) = self._prefill.axes[0][0], self._prefill.axes[1][-2:]
        more = self._prefill(new, long).value - self._prefill(new, short).value
        return float(more / (long - short))


class MixedTimes:
    """The same, as a step with chunks asks for it."""

    def __init__(self, times: AttentionTimes) -> None:
        self._times = times

    def __call__(self, mix: Mix) -> Estimate:
        """One layer."""
        return self._times.mixed(mix)

    def ns(self, mix: Mix) -> float:
        """The time alone."""
        return self._times.mixed(mix).ns


def _operators(
    layers: Mapping[str, tuple[np.ndarray, np.ndarray]], num_layers: int, source: str
) -> list[Operator]:
    made = []
    for label, (count, us) in layers.items():
        times = 1 if label in ONCE else num_layers * TIMES_A_LAYER.get(label, 1)
        ns = partial(_along, count=count, ns=us * NS_PER_US * times)
        made.append(Operator(label=label.replace("_", " "), source=source, ns=ns))
    return made


def _along(wanted: int, *, count: np.ndarray, ns: np.ndarray) -> Estimate:
    """Linear between measured counts, in proportion beyond the last."""
    if wanted <= 0:
        return NOTHING
    over = max(1.0, wanted / float(count[-1]))
    nearest = float(count[np.argmin(np.abs(count - wanted))])
    away = abs(log2(wanted / nearest)) if nearest > 0 else 0.0
    return Estimate(float(np.interp(wanted, count, ns)) * over, 0.0, 0.0, away, over > 1)


def _by_layer(columns: Columns, name: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    layers, count = columns["layer"], columns[TABLES[name][1]]
    found = {}
    for layer in sorted(set(layers.tolist())):
        here = layers == layer
        order = np.argsort(count[here])
        found[layer] = (count[here][order], columns["time_us"][here][order])
    return found


def _columns(profile: Profile, table: str, name: str) -> Columns:
    """One table of an imported profile."""
    found = profile.tables.get(table, {})
    missing = [column for column in TABLES[table] if not found.get(column)]
    if missing:
        raise ValueError(f"{name} is damaged: tables.{table}.{missing[0]} is missing.")
    return _arrays(found)


def _arrays(columns: Mapping[str, Sequence[Any]]) -> Columns:
    return {
        name: np.array(values, dtype=None if name == "layer" else float)
        for name, values in columns.items()
    }
