"""What ``kvsim cost`` prints: one step, its terms as a table, their sources; the same as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from . import words
from .sheet import Sheet
from .tables import sheet_table

if TYPE_CHECKING:
    from ..calibration.costed_step import CostedStep
    from ..calibration.step_cost import Batch
    from ..calibration.terms import Term

MOST_CHUNKS_NAMED = 2
GIGA = 1e9
OF_ONE_GPU = (
    "Note: bytes and FLOPs are those of one GPU; what passes the link is not in the sum of bytes."
)
EXTRAPOLATED = "extrapolated: no measured shape lies around, or derived from another kernel."


@dataclass(frozen=True, slots=True, kw_only=True)
class CostReport:
    """A heading, a table, notes: in the order of printing."""

    heading: tuple[str, ...]
    table: Table
    notes: tuple[str, ...]


def cost_report(step: CostedStep) -> CostReport:
    """The step in full."""
    return CostReport(
        heading=heading(step), table=sheet_table(terms_sheet(step)), notes=_notes(step)
    )


def cost_json(step: CostedStep) -> dict[str, Any]:
    """Plain values; times in seconds."""
    batch = step.batch
    return {
        "model": step.model.name,
        "gpu": step.gpu.name,
        "tensor_parallel_size": step.tensor_parallel_size,
        "pipeline_parallel_size": step.pipeline_parallel_size,
        "source": step.source,
        "origin": step.origin,
        "why": step.why or None,
        "batch": {
            "num_decodes": batch.num_decodes,
            "decode_context_tokens": batch.decode_context_tokens,
            "longest_context_tokens": batch.longest_context_tokens,
            "chunks": [{"new_tokens": new, "past_tokens": past} for new, past in batch.chunks],
        },
        "step_s": step.step_s,
        "band": {"low": step.band.low, "high": step.band.high, "source": step.band.source},
        "output_tokens_per_s": step.tokens_per_s,
        "bound_s": step.bound_s,
        "terms": [term.to_json() for term in step.terms],
        "notes": list(step.notes),
    }


def heading(step: CostedStep) -> tuple[str, ...]:
    """The server, the batch, the source, the time."""
    because = f", because {step.why[0].lower()}{step.why[1:]}" if step.why else ""
    named = f"{step.source} ({step.taken_from})" if step.taken_from else step.source
    rate = step.tokens_per_s
    tokens = "" if rate is None else f", {words.number(rate)} output tokens/s"
    return (
        f"Model {step.model.name} on {server_words(step)}.",
        f"One step: {batch_words(step.batch)}.",
        f"Source: {named if step.why else step.origin}{because}.",
        f"Step {banded(step)}{tokens}.",
    )


def server_words(step: CostedStep) -> str:
    """``NVIDIA H100 SXM 80 GB``, with the parallel sizes that are not 1."""
    sizes = {
        "tensor_parallel_size": step.tensor_parallel_size,
        "pipeline_parallel_size": step.pipeline_parallel_size,
    }
    return step.gpu.title + "".join(f", {name} {n}" for name, n in sizes.items() if n > 1)


def batch_words(batch: Batch) -> str:
    """``64 decodes of 4,096 tokens and a chunk of 512 after 4,096``."""
    parts = []
    if batch.num_decodes:
        even = batch.num_decodes * batch.longest_context_tokens == batch.decode_context_tokens
        mean = words.count(batch.decode_context_tokens / batch.num_decodes)
        plural = "s" * (batch.num_decodes > 1)
        rest = "" if even else f" on average, {words.count(batch.longest_context_tokens)} at most"
        each = "token" if mean == "1" else "tokens"
        parts.append(f"{words.count(batch.num_decodes)} decode{plural} of {mean} {each}{rest}")
    if len(batch.chunks) > MOST_CHUNKS_NAMED:
        new = sum(new for new, _ in batch.chunks)
        parts.append(f"{len(batch.chunks)} chunks of {words.count(new)} new tokens in all")
    else:
        parts += [_chunk(new, past) for new, past in batch.chunks]
    return words.listing(parts)


def _chunk(new: int, past: int) -> str:
    after = f" after {words.count(past)} cached" if past else ""
    return f"a chunk of {words.count(new)}{after}"


def banded(step: CostedStep) -> str:
    """``12.3 ms (10.9-14.1)``."""
    low, high = (words.number(step.step_s * x * 1e3) for x in (step.band.low, step.band.high))
    return f"{words.number(step.step_s * 1e3)} ms ({low}-{high})"


def terms_sheet(step: CostedStep) -> Sheet:
    """A row per term and one of the whole; sources by number."""
    numbers = {source: str(i + 1) for i, source in enumerate(_sources(step.terms))}
    return Sheet(
        title="Terms",
        columns=(
            "term",
            "ms",
            "share",
            "bound by",
            "GB moved",
            "GFLOP",
            "octaves off",
            "extrapolated",
            "source",
        ),
        rows=(
            *(_row(term, step.step_s, numbers[term.source]) for term in step.terms),
            _total(step),
        ),
        text_columns=(0, 3, 7),
        total_row=True,
    )


def _row(term: Term, step_s: float, source: str) -> tuple[str, ...]:
    return (
        term.name,
        f"{term.ns / 1e6:,.3f}",
        words.share(term.ns / 1e9 / step_s),
        term.bound,
        _giga(term.bytes),
        _giga(term.flops),
        words.NONE if term.distance is None else f"{term.distance:.2f}",
        "yes" if term.extrapolated else "",
        source,
    )


def _total(step: CostedStep) -> tuple[str, ...]:
    moved = sum(term.bytes for term in step.terms if term.bound != "link")
    flops = sum(term.flops for term in step.terms)
    cells = (f"{step.step_s * 1e3:,.3f}", words.share(1.0), "", _giga(moved), _giga(flops))
    return ("step", *cells, "", "", "")


def _giga(value: float) -> str:
    return words.number(value / GIGA) if value else words.NONE


def _sources(terms: Sequence[Term]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(term.source for term in terms))


def bound_words(step: CostedStep) -> str:
    """``bandwidth 88.4 %, latency 11.0 %, host 0.5 %``."""
    return ", ".join(f"{name} {words.share(s / step.step_s)}" for name, s in step.bound_s.items())


def _notes(step: CostedStep) -> tuple[str, ...]:
    whole = len(step.terms) == 1
    binds = f"Bound by {next(iter(step.bound_s))}: {bound_words(step)} of the step."
    notes = [f"What binds it: not known, {step.source} gives the whole only." if whole else binds]
    notes.append(f"Band: {step.band.source}.")
    notes += [f"[{i + 1}] {source}" for i, source in enumerate(_sources(step.terms))]
    extrapolated = list(dict.fromkeys(t.name for t in step.terms if t.extrapolated))
    if extrapolated:
        notes.append(f"Note: {words.listing(extrapolated)}: {EXTRAPOLATED}")
    if step.tensor_parallel_size * step.pipeline_parallel_size > 1 and any(
        term.bytes for term in step.terms
    ):
        notes.append(OF_ONE_GPU)
    return (*notes, *(f"Note: {note}" for note in step.notes))


def write_cost_png(step: CostedStep, out: str) -> Path:
    """Draw the step's roofline; the same input gives the same bytes.

    Raises:
        ValueError: a name that is no PNG's, or a folder that cannot be written to.
    """
    from .cost_figure import cost_picture  # matplotlib, which only the picture needs
    from .render import write_png

    return write_png(lambda: cost_picture(step), out)
