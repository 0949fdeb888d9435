"""What a calibration of one model measures on one card, and in what order.

| family | ``x`` |
|---|---|
| ceilings | what (copy, read, matmul, matmul_sustained), dtype, bytes (a copy's: read + written), flops |
| decode, ragged, kv_dtypes, block_sizes | kind, dtype, kv_dtype, heads, kv_heads, head_dim, block_size, seq_lens ([[length, how many], ...]), shape, sliding_window; the launch's slots, tile_tokens, min_chunk_tokens, target_items |
| prefill | the same without lengths, chunks ([[new, past], ...]); query_tokens, tile_tokens, slots |
| mixed | both; the chunks' launch as prefill_query_tokens, prefill_tile_tokens, prefill_slots |
| gemm | layer, tensor_parallel_size, m, n, k, dtype |
| elementwise | op, tokens, bytes, dtype, width |
| graph | what (empty_nodes, decode_layers, capture), mode, nodes, batch; the layers' shape |
| host | what (prepare, upload, download), requests |
| pcie | direction, memory, how, bytes, segments |
| block_copy | pairs, block_bytes, bytes (read + written) |
| memory | what; the sample's unit is bytes |
| all_reduce | bytes, gpus, mode |
| baselines | keys of decode or prefill, name, case |

One call of an attention point is one layer: its kernels, with the step's work list made before. The
order is random, so that nothing drifts with a shape; memory comes first, while the card is empty;
the same 20 points, the anchors, stand at the start, in the middle and at the end, and bound the
drift. A budget keeps families in the order of ``FAMILIES`` and leaves out the rest, whole.
"""  # noqa: E501  (a table)

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

from ..model_spec import ModelSpec
from ..profile.values import FAMILIES
from . import attention_points, device_points
from .cases import baseline_points
from .model_shapes import not_measured
from .point import Point

NUM_ANCHORS = 20
PHASES = ("start", "middle", "end")
ANCHOR_FAMILIES = ("decode", "gemm", "prefill", "elementwise")
USABLE_MEMORY = 0.9
"""Of what is free: allocators round up."""
FP8_CAPABILITY = (8, 9)
"""From here on Triton has conversions from e4m3."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the card sets."""

    free_memory_bytes: int
    compute_capability: tuple[int, int]
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Points in the order in which they are measured, and what is left out."""

    model: str
    families: tuple[str, ...]
    """Asked for."""
    seed: int
    budget_s: float
    points: tuple[Point, ...]
    missing: tuple[str, ...]
    """``family: reason``."""

    @property
    def seconds(self) -> float:
        """Expected to take."""
        return sum(point.seconds for point in self.points)


def make_plan(
    model: ModelSpec,
    limits: Limits,
    *,
    families: Sequence[str] = (),
    seed: int = 0,
    budget_s: float,
) -> Plan:
    """Every point that fits the card and the budget.

    Raises:
        ValueError: unknown families, or a card on which not one point of a family fits.
    """
    asked = asked_families(families)
    missing = [note for note in not_measured(model) if note.split(":")[0] in asked]
    missing += [f"{name}: not asked for" for name in FAMILIES if name not in asked]
    found: list[Point] = []
    left_s = budget_s
    for name in asked:
        points, reasons = _fitting(model, limits, name, seed)
        seconds = sum(point.seconds for point in points)
        missing += [f"{name}: {reason}" for reason in reasons]
        if found and seconds > left_s:
            missing.append(f"{name}: left out by the budget of {budget_s:g} s")
            left_s = 0.0  # what comes later is dropped first, however short it is
            continue
        left_s -= seconds
        found += points
    return Plan(
        model=model.name,
        families=asked,
        seed=seed,
        budget_s=budget_s,
        points=tuple(in_order(found, seed)),
        missing=tuple(missing),
    )


def in_order(points: Sequence[Point], seed: int) -> list[Point]:
    """Memory first, the others shuffled between three rounds of anchors."""
    first = [point for point in points if point.family == "memory"]
    rest = [point for point in points if point.family != "memory"]
    Random(f"{seed}/order").shuffle(rest)
    start, middle, end = ([_anchor(p, phase) for p in _anchors(rest)] for phase in PHASES)
    half = len(rest) // 2
    return [*first, *start, *rest[:half], *middle, *rest[half:], *end]


def read_budget(text: str) -> float:
    """Seconds of ``480s``, ``8m`` or ``480``.

    Raises:
        ValueError: another unit, or not a positive number.
    """
    words = text.strip().lower()
    factor = {"m": 60.0, "s": 1.0}.get(words[-1:], 1.0)
    try:
        seconds = factor * float(words[:-1] if words[-1:] in ("m", "s") else words)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ValueError(f"budget(={text!r}) must be seconds or minutes above 0, as 480s or 8m.")
    return seconds


def asked_families(families: Sequence[str]) -> tuple[str, ...]:
    """In the order of ``FAMILIES``; all where none are named.

    Raises:
        ValueError: an unknown one.
    """
    unknown = [name for name in families if name not in FAMILIES]
    if unknown:
        raise ValueError(f"families(={unknown[0]!r}) must be of {', '.join(FAMILIES)}.")
    return tuple(name for name in FAMILIES if not families or name in families)


def _fitting(
    model: ModelSpec, limits: Limits, family: str, seed: int
) -> tuple[list[Point], list[str]]:
    """A family's points that this card can run, and why the others cannot."""
    points = list({p.key: p for p in _generate(model, limits, family, seed)}.values())
    reasons = []
    if not points:
        return [], [NOTHING.get(family, f"no such layers in {model.name}")]
    if limits.compute_capability < FP8_CAPABILITY:
        kept = [point for point in points if point.x.get("kv_dtype") != "fp8_e4m3"]
        if len(kept) < len(points):
            capability = ".".join(map(str, limits.compute_capability))
            reasons.append(f"fp8_e4m3 needs compute capability 8.9, this card has {capability}")
        points = kept
    most_bytes = USABLE_MEMORY * limits.free_memory_bytes
    fitting = [point for point in points if point.memory_bytes <= most_bytes]
    if not fitting and points:
        least = min(point.memory_bytes for point in points)
        raise ValueError(
            f"free memory(={limits.free_memory_bytes} bytes) is too small for {family} of "
            f"{model.name}: its smallest point takes {least} bytes."
        )
    if len(fitting) < len(points):
        left_out = len(points) - len(fitting)
        reasons.append(f"{left_out} of {len(points)} points are too large for this card's memory")
    return fitting, reasons


def _generate(model: ModelSpec, limits: Limits, family: str, seed: int) -> Iterator[Point]:
    if family == "baselines":
        return baseline_points()
    if family == "all_reduce":
        return device_points.all_reduce_points(model, seed, gpus=limits.count)
    return GENERATORS[family](model, seed)


def _anchors(points: Sequence[Point]) -> list[Point]:
    """Short points, some of each family that has them, in the shuffled order."""
    plain = [point for point in points if point.role == "fit"]
    by_family = [[p for p in plain if p.family == name] for name in ANCHOR_FAMILIES]
    share = -(-NUM_ANCHORS // max(1, sum(map(bool, by_family))))
    chosen = [point for family in by_family for point in family[:share]]
    return chosen[:NUM_ANCHORS] or plain[:NUM_ANCHORS]


def _anchor(point: Point, phase: str) -> Point:
    return replace(point, role="anchor", flags=(f"anchor:{phase}",))


GENERATORS: dict[str, Callable[[ModelSpec, int], Iterator[Point]]] = {
    "ceilings": device_points.ceiling_points,
    "decode": attention_points.decode_points,
    "ragged": attention_points.ragged_points,
    "gemm": device_points.gemm_points,
    "prefill": attention_points.prefill_points,
    "mixed": attention_points.mixed_points,
    "elementwise": device_points.elementwise_points,
    "graph": device_points.graph_points,
    "host": device_points.host_points,
    "memory": device_points.memory_points,
    "kv_dtypes": attention_points.kv_dtype_points,
    "block_sizes": attention_points.block_size_points,
    "block_copy": device_points.block_copy_points,
    "pcie": device_points.pcie_points,
}
NOTHING = {"all_reduce": "one GPU"}
