"""What ``kvsim memory`` prints: one server in full, several side by side; the same as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from . import words
from .capacity_sheets import (
    CUT,
    IN_TURN,
    NEED_IN_TURN,
    comparison_sheet,
    demand_facts,
    demand_sheet,
    demand_title,
    drawn_note,
    labels,
    requests_sheet,
)
from .tables import budget_table, facts_table, pool_table, sheet_table

if TYPE_CHECKING:
    from ..calibration.combinations import Combination

MOST_REFUSALS_SHOWN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryReport:
    """A heading, tables, notes: in the order of printing."""

    heading: str
    tables: tuple[Table, ...]
    notes: tuple[str, ...]


def memory_json(found: Sequence[Combination], lengths: Sequence[int]) -> Any:
    """One combination as an object, several as a list of them."""
    values = [_json(one, lengths) for one in found]
    return values[0] if len(values) == 1 else values


def _json(one: Combination, lengths: Sequence[int]) -> dict[str, Any]:
    names = {
        "model": one.model.name,
        "gpu": one.gpu.name,
        "tensor_parallel_size": one.tensor_parallel_size,
        "pipeline_parallel_size": one.pipeline_parallel_size,
        "kv_cache_dtype": one.kv_cache_dtype,
        "refusal": one.refusal or None,
    }
    answers = {"for": [answer.to_json() for answer in one.answers]}
    budget = one.budget
    if budget is None:
        return names | answers
    return {
        **names,
        **budget.to_json(),
        "longest_context_tokens": one.longest_tokens,
        "longest_context_bound_by": one.length_bound,
        "requests_of": {str(length): budget.requests_of(length) for length in lengths},
        "steady_requests_of": {str(n): budget.steady_requests_of(n) for n in lengths},
        **answers,
    }


def memory_report(
    found: Sequence[Combination], lengths: Sequence[int], *, drawn: bool = False
) -> MemoryReport:
    """One combination in full, several as a comparison; ``drawn``: a picture is written, too."""
    report = _single(found[0], lengths) if len(found) == 1 else _several(found, lengths)
    note = drawn_note(found) if drawn else None
    return report if note is None else replace(report, notes=(*report.notes, note))


def _single(one: Combination, lengths: Sequence[int]) -> MemoryReport:
    budget = one.budget
    assert budget is not None, "a combination that stands alone fits"
    pool = pool_table(budget, lengths, longest_tokens=one.max_model_len)
    tables, notes = [budget_table(budget), pool], list(budget.notes)
    longer = [words.count(n) for n in lengths if n > one.max_model_len]
    if longer:
        notes.append(
            f"Requests of {words.listing(longer)} tokens pass the {one.length_words} of "
            f"{words.count(one.max_model_len)} tokens."
        )
    for answer in one.answers:
        assert answer.need is not None, "it has a budget"
        facts = demand_facts(one, answer.need, answer)
        tables.append(facts_table(demand_title(answer.demand), facts))
        notes += answer.need.notes
    if one.answers and budget.windowed:
        notes.append(NEED_IN_TURN)
    return MemoryReport(
        heading=f"{one.model.name} ({one.model.source}) on {one.gpu.title}",
        tables=tuple(tables),
        notes=tuple(dict.fromkeys(notes)),
    )


def _several(found: Sequence[Combination], lengths: Sequence[int]) -> MemoryReport:
    sheets = [comparison_sheet(found), requests_sheet(found, lengths)]
    sheets += [demand_sheet(found, index) for index in range(len(found[0].answers))]
    return MemoryReport(
        heading=f"{len(found)} combinations, the same flags",
        tables=tuple(sheet_table(sheet) for sheet in sheets),
        notes=_notes(found),
    )


def _notes(found: Sequence[Combination]) -> tuple[str, ...]:
    """What is said of windows, of refusals, and of demands; the last two with their rows' names."""
    notes = []
    if any(one.budget and one.budget.windowed for one in found):
        notes += [IN_TURN, NEED_IN_TURN] if found[0].answers else [IN_TURN]
    notes += [CUT] if any(one.budget and one.length_bound == "KV pool" for one in found) else []
    doubts = {one.model.name: one.model.architecture_note for one in found}
    notes += [f"{name}: {doubt}." for name, doubt in doubts.items() if doubt]
    named = list(zip(labels(found), found, strict=True))
    refused = [f"{label}: {one.refusal}" for label, one in named if one.refusal]
    notes += refused[:MOST_REFUSALS_SHOWN]
    if len(refused) > MOST_REFUSALS_SHOWN:
        notes.append(f"{len(refused) - MOST_REFUSALS_SHOWN} more do not fit; --json says why.")
    for label, one in named:
        for answer in one.answers:
            notes += [f"{label}: {note}" for note in (answer.need.notes if answer.need else ())]
    return tuple(notes)


def write_capacity_png(found: Sequence[Combination], out: str) -> Path:
    """Draw the combinations' requests against length; the same input gives the same bytes.

    Raises:
        ValueError: a name that is no PNG's, or a folder that cannot be written to.
    """
    from .capacity_figure import capacity_picture  # matplotlib, which only the picture needs
    from .render import write_png

    return write_png(lambda: capacity_picture(found), out)
