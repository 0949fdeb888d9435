"""The page of a plan: one self-contained HTML file, which loads nothing.

The first screen answers; below it stand the figures in their sections, the candidates, and at the
end what the answer rests on. The template shows what this module names and escapes everything, so
that a trace's name stays text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from .. import __version__
from ..calibration.gpus import GPUSpec
from ..sim.plan import Plan
from . import words
from .decision_values import decision_values, page_verdict
from .interval import interval_sources
from .memory_sheets import pool_facts
from .picture import Picture
from .sections import BUDGET, DECISION, FIRST_FIGURE, Section, anchor, sections
from .sheet import Sheet
from .sheets import advantage_sheet, candidate_sheet
from .template import figure_values, rendered, unbroken
from .verdict import answer, ratio, setting, short_name

MOST_SKIPPED_SHOWN = 20
KEY_SETTINGS = (
    "KV pool",
    "block_size",
    "max_model_len",
    "max_num_seqs",
    "max_num_batched_tokens",
    "kv_cache_dtype",
    "scheduler",
    "trace",
)
"""Settings of the first screen; the others are behind a fold."""
LAST_SECTIONS = ("Candidates", "Assumptions", "Sources and digests")


def plan_page(
    plan: Plan,
    pictures: list[Picture],
    interval: Sequence[str] = (),
    elements: Mapping[str, str] | None = None,
    *,
    directory: str | Path = ".",
) -> str:
    """The HTML of a plan.

    Args:
        plan: what to show.
        pictures: its figures.
        interval: says in sentences how sure the answer is.
        elements: drawings of the figures by name, where they are there.
        directory: where the page will stand: paths in the recommendation are seen from there.
    """
    values = plan_values(plan, pictures, interval, elements, directory=directory)
    return rendered("report.html.j2", values)


def plan_values(
    plan: Plan,
    pictures: list[Picture],
    interval: Sequence[str] = (),
    elements: Mapping[str, str] | None = None,
    *,
    directory: str | Path = ".",
) -> dict[str, object]:
    """What the template shows, by name."""
    known = elements or {}
    figures = {one.name: figure_values(one, known.get(one.name)) for one in pictures}
    parts = [part for part in sections(figures) if part.title != DECISION]
    decision = decision_values(plan, figures, directory)
    configuration = _configuration(plan)
    return {
        "title": f"{plan.model.name} on {plan.gpu.title}",
        "verdict": unbroken(page_verdict(plan)),
        "interval": [unbroken(line) for line in interval],
        "answer": [unbroken(line) for line in answer(plan)],
        "tiles": _tiles(plan),
        "setting": setting(plan),
        "key_settings": {name: configuration[name] for name in KEY_SETTINGS},
        "other_settings": {n: v for n, v in configuration.items() if n not in KEY_SETTINGS},
        "serve_command": plan.serve_command,
        "contents_of_page": _contents(parts, decided=decision is not None),
        "first_figure": figures.get(FIRST_FIGURE),
        "sections": parts,
        "decision": decision,
        "budget_section": BUDGET,
        "pool_facts": pool_facts(plan.budget),
        "budget_notes": plan.budget.notes,
        "candidates": candidate_sheet(plan),
        "advantages": advantage_sheet(plan),
        "assumptions": [*plan.assumptions, *interval_sources(plan)],
        "notes": plan.notes,
        "skipped": _skipped(plan),
        "num_skipped": len(plan.trace.skipped),
        "sources": _sources(plan),
        "digests": dict(plan.chosen.summary.digests),
        "version": __version__,
    }


def _contents(parts: Sequence[Section[dict[str, object]]], *, decided: bool) -> dict[str, str]:
    """Anchors and titles of the page's sections, in their order."""
    first = (DECISION,) if decided else ()
    titles = [*first, "What happens", *(part.title for part in parts), *LAST_SECTIONS]
    return {"answer": "Answer"} | {anchor(title): title for title in titles}


def _tiles(plan: Plan) -> list[dict[str, str]]:
    """One for each baseline: the ratio under backlog, large; the two others, small."""
    return [
        {
            "baseline": unbroken(short_name(plan, one.baseline)),
            "under_backlog": ratio(one, "under_backlog"),
            "memory_alone": ratio(one, "memory_alone"),
            "over_the_trace": ratio(one, "over_the_trace"),
        }
        for one in plan.advantages
    ]


def _configuration(plan: Plan) -> dict[str, str]:
    """What was chosen or taken by default, under the flags' own names."""
    flags, budget = plan.chosen.server.deployment, plan.budget
    return {
        "model": plan.model.name,
        "GPU": plan.gpu.title,
        "tensor_parallel_size": str(flags.tensor_parallel_size),
        "pipeline_parallel_size": str(flags.pipeline_parallel_size),
        "gpu_memory_utilization": f"{flags.gpu_memory_utilization:g}",
        "KV pool": f"{words.gib(budget.kv_cache_bytes)}, {words.count(budget.kv_cache_tokens)} "
        "tokens",
        "num_gpu_blocks": words.count(budget.num_gpu_blocks),
        "block_size": words.tokens(flags.block_size),
        "kv_cache_dtype": flags.kv_cache_dtype,
        "max_model_len": words.tokens(flags.max_model_len),
        "max_num_seqs": words.count(flags.max_num_seqs),
        "max_num_batched_tokens": words.count(flags.max_num_batched_tokens),
        "scheduler": flags.scheduler,
        "prefix caching": _caching(plan),
        "asynchronous scheduling": "on" if flags.async_scheduling else "off",
        "trace": f"{plan.origin}, {words.count(len(plan.trace))} requests",
        "arrivals": plan.arrivals,
        "price": _price(plan.gpu),
    }


def _caching(plan: Plan) -> str:
    """Which cache, and what it found over the trace."""
    flags, summary = plan.chosen.server.deployment, plan.chosen.summary
    if not flags.enable_prefix_caching:
        return "off"
    found = words.share(summary.prefix_hit_ratio)
    return f"{flags.prefix_cache}, {found} of the prompt tokens found"


def _price(gpu: GPUSpec) -> str:
    if gpu.price_usd_per_hour is None:
        return "not known"
    source = ", ".join(part for part in (gpu.price_date, gpu.price_source) if part)
    return f"{gpu.price_usd_per_hour:.2f} USD per GPU and hour ({source})"


def _skipped(plan: Plan) -> Sheet:
    rows = plan.trace.skipped[:MOST_SKIPPED_SHOWN]
    return Sheet(
        title="Rows of the trace that were skipped",
        columns=("file", "row", "reason"),
        rows=tuple((row.file, str(row.row), row.reason) for row in rows),
        text_columns=(0, 2),
    )


def _sources(plan: Plan) -> dict[str, str]:
    """Where each figure comes from; the memory lines carry theirs in their own table."""
    shown: dict[str, str] = {}
    for name, value in plan.chosen.summary.sources.items():
        if isinstance(value, Mapping):
            shown.update({f"{name}: {key}": str(part) for key, part in value.items()})
        else:
            shown[name] = str(value)
    return {name: value for name, value in shown.items() if not name.startswith("memory: ")}
