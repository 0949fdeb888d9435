"""The report: one self-contained HTML file, which loads nothing and has no scripts.

The template shows what this module names and escapes everything, so that a trace's name stays text.
Only the drawings are taken over as they are, and they hold no such names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from .. import __version__
from ..calibration.gpus import GPUSpec
from ..sim.plan import Plan
from . import words
from .memory_sheets import pool_facts
from .picture import Picture
from .render import inline
from .sheet import Sheet
from .sheets import advantage_sheet, candidate_sheet
from .verdict import answer, ratio, setting, short_name, verdict

TEMPLATES = Path(__file__).parent / "templates"
MOST_SKIPPED_SHOWN = 20
FIRST_PICTURE = "requests-at-once"
MEMORY_PICTURE = "memory-budget"


def plan_page(plan: Plan, pictures: list[Picture]) -> str:
    """The HTML of a plan."""
    return rendered("report.html.j2", plan_values(plan, pictures))


def rendered(template: str, values: Mapping[str, object]) -> str:
    """A template of this package with its values, escaped; a value that it lacks is an error."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values)


def plan_values(plan: Plan, pictures: list[Picture]) -> dict[str, object]:
    """What the template shows, by name."""
    shown = {picture.name: figure_values(picture) for picture in pictures}
    return {
        "title": f"{plan.model.name} on {plan.gpu.title}",
        "verdict": unbroken(verdict(plan)),
        "answer": [unbroken(line) for line in answer(plan)],
        "tiles": _tiles(plan),
        "setting": setting(plan),
        "configuration": _configuration(plan),
        "serve_command": plan.serve_command,
        "first_figure": shown.pop(FIRST_PICTURE),
        "memory_figure": shown.pop(MEMORY_PICTURE),
        "figures": list(shown.values()),
        "pool_facts": pool_facts(plan.budget),
        "budget_notes": plan.budget.notes,
        "candidates": candidate_sheet(plan),
        "advantages": advantage_sheet(plan),
        "assumptions": plan.assumptions,
        "notes": plan.notes,
        "skipped": _skipped(plan),
        "num_skipped": len(plan.trace.skipped),
        "sources": _sources(plan),
        "digests": dict(plan.chosen.summary.digests),
        "version": __version__,
    }


def unbroken(text: str) -> str:
    """Names such as contiguous-max stay on one line: their hyphens become non-breaking ones."""
    return text.replace("-", "\N{NON-BREAKING HYPHEN}")


def figure_values(picture: Picture) -> dict[str, object]:
    """What the template shows of a picture."""
    return {
        "name": picture.name,
        "title": picture.title,
        "caption": picture.caption,
        "drawing": Markup(inline(picture)),  # ours: candidates' names and numbers only
        "sheet": picture.sheet,
    }


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
