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

import csv
import gzip
from collections.abc import Callable, Mapping
from functools import partial
from math import log2
from pathlib import Path

import numpy as np

from .engine_defaults import batch_defaults, capture_sizes
from .estimate import NOTHING, Estimate
from .gpus import GPUSpec
from .model_spec import ModelSpec
from .operator_cost import OperatorCost
from .operators import Attention, Mix, Operator, Operators
from .silicon.grid import LogGrid
from .silicon.monotone import rising
from .silicon.systems import SYSTEMS
from .step_cost import Band

NS_PER_US = 1e3
BAND = Band(low=0.95, high=1.06, source="assumed for kernels measured on the card itself")
TIMES_A_LAYER = {"layernorm": 2}
ONCE = ("embedding", "final_layernorm", "lm_head", "sampler")
COLUMNS = {
    "dense": ("layer", "tokens", "time_us"),
    "per_sequence": ("layer", "sequences", "time_us"),
    "attention": ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode", "time_us"),
}


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
    path = Path(folder)
    dense, rows = _by_layer(path, "dense"), _by_layer(path, "per_sequence")
    table = AttentionTimes(_read(path, "attention"), gpu)
    dtype = model.resolve_kv_dtype(kv_cache_dtype)
    source = f"kernel times of {path.name}"
    return OperatorCost(
        model=model,
        gpu=gpu,
        kv_cache_dtype=dtype,
        tensor_parallel_size=tensor_parallel_size,
        capture_sizes=()
        if enforce_eager
        else capture_sizes(max_num_seqs or batch_defaults(gpu)[1]),
        async_scheduling=async_scheduling,
        operators=Operators(
            by_tokens=tuple(_operators(dense, model.num_layers, source)),
            by_rows=tuple(_operators(rows, model.num_layers, source)),
            attention=(
                Attention(
                    label="attention",
                    count=model.num_layers,
                    decode=table,
                    mixed=MixedTimes(table),
                    decode_source=source,
                    mixed_source=source,
                ),
            ),
            uses_longest=table.ns_per_key > 0,
        ),
        source="measured",
        taken_from=source,
        band=BAND,
        caveat=f"The kernel times of {path.name} are taken as they are: they hold for the card, "
        "the model and the tensor-parallel size that they were measured on.",
    )


class AttentionTimes:
    """Attention of one layer, any mix of chunks and decodes."""

    def __init__(self, columns: Mapping[str, np.ndarray], gpu: GPUSpec) -> None:
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


def _by_layer(folder: Path, name: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    columns = _read(folder, name)
    layers, count = columns["layer"], columns[COLUMNS[name][1]]
    found = {}
    for layer in sorted(set(layers.tolist())):
        here = layers == layer
        order = np.argsort(count[here])
        found[layer] = (count[here][order], columns["time_us"][here][order])
    return found


def _read(folder: Path, name: str) -> dict[str, np.ndarray]:
    paths = [folder / f"{name}.csv", folder / f"{name}.csv.gz"]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise ValueError(f"step_cost(='measured:{folder}') has no {name}.csv or {name}.csv.gz.")
    opened: Callable[..., object] = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", newline="") as file:  # type: ignore[attr-defined]  # gzip.open or open
        rows = list(csv.DictReader(file))
    missing = [column for column in COLUMNS[name] if rows and column not in rows[0]]
    if not rows or missing:
        what = f"no column {missing[0]}" if missing else "no rows"
        raise ValueError(f"{path} has {what}.")
    return {column: _values(rows, column, path) for column in COLUMNS[name]}


def _values(rows: list[dict[str, str]], column: str, path: Path) -> np.ndarray:
    if column == "layer":
        return np.array([row[column] for row in rows])
    try:
        return np.array([float(row[column]) for row in rows])
    except (TypeError, ValueError):
        raise ValueError(f"{path}: column {column} holds a cell that is no number.") from None
