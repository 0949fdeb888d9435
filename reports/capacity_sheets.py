"""The tables of ``kvsim memory``: combinations side by side, what N requests of L tokens need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from . import words
from .sheet import Sheet

if TYPE_CHECKING:
    from ..calibration.combinations import Answer, Combination
    from ..calibration.demand import Demand
    from ..calibration.need import Holder, Need

MOST_LINES = 8
"""Servers that a picture can tell apart."""
NAMES = ("model", "GPU", "TP", "KV dtype")
IN_TURN = (
    "Where two counts stand, the first is the engine's, as if all were admitted together, each "
    "window group with a whole batch in flight; in brackets: admitted in turn, as they run."
)
NEED_IN_TURN = (
    "What N requests need is counted in turn where layers have windows: one that is being admitted "
    "with a whole batch in flight, the others with their windows."
)

CUT = (
    "Where the KV pool bounds the longest context, the engine refuses to start without a "
    "--max-model-len of that or less."
)


def names_of(one: Combination) -> tuple[str, str, str, str]:
    """Cells of the columns ``NAMES``."""
    return (one.model.name, one.gpu.name, str(one.tensor_parallel_size), one.kv_cache_dtype)


def labels(found: Sequence[Combination]) -> list[str]:
    """What tells the combinations apart: ``a100, TP 2``; the model's name where nothing does."""
    rows = [
        (one.model.name, one.gpu.name, f"TP {one.tensor_parallel_size}", one.kv_cache_dtype)
        for one in found
    ]
    differing = [i for i in range(len(NAMES)) if len({row[i] for row in rows}) > 1] or [0]
    return [", ".join(row[i] for i in differing) for row in rows]


def drawn_of(found: Sequence[Combination], most: int = MOST_LINES) -> list[Combination]:
    """Those that fit, at most so many, in their order: every model and GPU where that can be.

    One after another the one with the most models and GPUs not drawn yet, then with the least
    often drawn ones, then the first.
    """
    left = [one for one in found if one.budget is not None]
    if len(left) <= most:
        return left
    uses: Counter[str] = Counter()

    def preference(one: Combination) -> tuple[int, int]:
        kinds = (f"model {one.model.name}", f"GPU {one.gpu.name}")
        rest = (f"TP {one.tensor_parallel_size}", f"KV {one.kv_cache_dtype}")
        return sum(uses[kind] > 0 for kind in kinds), sum(uses[kind] for kind in (*kinds, *rest))

    chosen: list[Combination] = []
    while len(chosen) < most:
        best = min(left, key=preference)
        left.remove(best)
        chosen.append(best)
        uses.update((f"model {best.model.name}", f"GPU {best.gpu.name}"))
        uses.update((f"TP {best.tensor_parallel_size}", f"KV {best.kv_cache_dtype}"))
    return [one for one in found if any(one is other for other in chosen)]


def drawn_note(found: Sequence[Combination]) -> str | None:
    """``8 of 16 servers are drawn.``; None where all of those that fit are."""
    fitting, drawn = sum(one.budget is not None for one in found), len(drawn_of(found))
    return f"{drawn} of {fitting} servers are drawn." if drawn < fitting else None


def comparison_sheet(found: Sequence[Combination]) -> Sheet:
    """A row per combination: weights and pool of one GPU, tokens of the group, longest context."""
    return Sheet(
        title="Side by side (weights and pool in GiB per GPU)",
        columns=(
            *NAMES,
            "weights",
            "KV pool",
            "KV tokens",
            "KV B/token per GPU",
            "longest context",
            "bound by",
        ),
        rows=tuple((*names_of(one), *_fit_cells(one)) for one in found),
        text_columns=(0, 1, 3, 9),
    )


def _fit_cells(one: Combination) -> tuple[str, ...]:
    weights = _gib(one.weight_bytes)
    if one.budget is None:
        return (weights, *[words.NONE] * 4, one.reason)
    return (
        weights,
        _gib(one.budget.kv_cache_bytes),
        words.count(one.budget.kv_cache_tokens),
        words.count(one.budget.kv_bytes_per_token),
        words.count(one.longest_tokens),
        one.length_bound,
    )


def requests_sheet(found: Sequence[Combination], lengths: Sequence[int]) -> Sheet:
    """A row per combination that fits: requests at once of each length."""
    return Sheet(
        title="Requests at once that the KV pool holds, by tokens of a request",
        columns=(*NAMES, *(words.count(length) for length in lengths), "max_num_seqs"),
        rows=tuple(
            (
                *names_of(one),
                *(held(one, length) for length in lengths),
                words.count(one.budget.max_num_seqs),
            )
            for one in found
            if one.budget is not None
        ),
        text_columns=(0, 1, 3),
    )


def held(one: Combination, tokens: int) -> str:
    """``56``; with window layers ``119 (210)``: as the engine counts, and admitted in turn.

    ``-`` for a length that the server does not allow.
    """
    if one.budget is None or tokens > one.max_model_len:
        return words.NONE
    together = words.count(one.budget.requests_of(tokens))
    in_turn = words.count(one.budget.steady_requests_of(tokens))
    return together if together == in_turn else f"{together} ({in_turn})"


def demand_title(demand: Demand) -> str:
    """``64 requests of 8,192 tokens``."""
    plural = "" if demand.num_requests == 1 else "s"
    return f"{words.count(demand.num_requests)} request{plural} of {words.tokens(demand.tokens)}"


def demand_sheet(found: Sequence[Combination], index: int) -> Sheet:
    """A row per combination for one of the demands."""
    return Sheet(
        title=f"{demand_title(found[0].answers[index].demand)} at once (GiB per GPU)",
        columns=(
            *NAMES,
            "KV needed",
            "KV pool",
            "least util.",
            "at once",
            "fits",
            "servers",
            "least TP",
        ),
        rows=tuple((*names_of(one), *_demand_cells(one, one.answers[index])) for one in found),
        text_columns=(0, 1, 3, 8),
    )


def _demand_cells(one: Combination, answer: Answer) -> tuple[str, ...]:
    smallest = _size(answer.here)
    need = answer.need
    if need is None or one.budget is None:
        return (*[words.NONE] * 4, f"no: {one.reason}", words.NONE, smallest)
    return (
        _gib(need.kv_cache_bytes),
        _gib(one.budget.kv_cache_bytes),
        utilization(need),
        words.count(min(need.num_held, one.budget.max_num_seqs)),
        verdict(need),
        words.NONE if need.replicas is None else words.count(need.replicas),
        smallest,
    )


def verdict(need: Need) -> str:
    """``yes``, or ``no:`` and what stands against it; in doubt where the error band decides."""
    sure = "yes" if need.fits else f"no: {', '.join(need.bound_by)}"
    return f"{sure}, in doubt" if need.in_doubt else sure


def utilization(need: Need) -> str:
    """The least gpu_memory_utilization, ``none`` where no share of the GPU is enough."""
    share = need.gpu_memory_utilization
    return "none" if share is None else f"{share:.3f}"


def demand_facts(one: Combination, need: Need, answer: Answer) -> dict[str, str]:
    """One demand on one combination, name to printed value."""
    assert one.budget is not None, "a need has a budget"
    per = " per GPU" if one.num_gpus > 1 else ""
    pool, seats = words.gib(one.budget.kv_cache_bytes), one.budget.max_num_seqs
    return {
        f"KV of one request{per}": _request(need, one.budget.block_bytes),
        f"KV of all{per}": f"{words.gib(need.kv_cache_bytes)}; the pool has {pool}",
        f"memory in all{per}": f"{words.gib(need.memory_bytes)} of "
        f"{words.gib(one.budget.total_bytes)}: {words.gib(need.fixed_bytes)} of weights and the "
        "other lines, the KV, the null block",
        "gpu_memory_utilization": _share(need, one.budget.gpu_memory_utilization),
        "fits": f"{verdict(need)}; the pool holds {words.count(need.num_held)} at once, "
        f"max_num_seqs {words.count(seats)}",
        "servers like this": _replicas(need, one.num_gpus),
        f"one server of {one.gpu.name}": _smallest(answer.here),
        **_elsewhere(answer.elsewhere),
    }


def _request(need: Need, block_bytes: int) -> str:
    size = words.size(need.request_blocks * block_bytes)
    text = f"{size}, {words.count(need.request_blocks)} blocks"
    if need.admission_blocks == need.request_blocks:
        return text
    return f"{text} ({words.count(need.admission_blocks)} while it is admitted)"


def _share(need: Need, given: float) -> str:
    share = need.gpu_memory_utilization
    if share is None:
        return "no share of this GPU is enough"
    return f"{share:.3f} or more would do ({given:g} is given)"


def _replicas(need: Need, size: int) -> str:
    if need.replicas is None:
        return "no number of them: one serves no such request"
    gpus = need.replicas * size
    hold = "holds" if need.replicas == 1 else "hold"
    return f"{words.count(need.replicas)} {hold} all ({words.count(gpus)} GPU{'s' * (gpus > 1)})"


def _size(holder: Holder | None) -> str:
    return words.NONE if holder is None else str(holder.tensor_parallel_size)


def _smallest(holder: Holder | None) -> str:
    return "none" if holder is None else f"tensor_parallel_size {holder.tensor_parallel_size}"


def _elsewhere(holders: Sequence[Holder]) -> dict[str, str]:
    """GPUs by their number; the price of all of them where it is known."""
    shown: dict[str, list[str]] = {}
    for holder in holders:
        size, price = holder.tensor_parallel_size, holder.gpu.price_usd_per_hour
        cost = "" if price is None else f" ({price * size:.2f} USD/h)"
        name = f"fits on {size} GPU{'s' * (size > 1)}"
        shown.setdefault(name, []).append(holder.gpu.name + cost)
    if not shown:
        return {"fits on": "no machine of up to 8 GPUs of the catalogue"}
    return {name: ", ".join(gpus) for name, gpus in shown.items()}


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / words.GIB:,.2f}"
