"""``kvsim memory``, ``cost``, ``gpus``, ``models``: what fits, what a step costs. No logic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from . import options
from .groups import several, single, typed, with_groups
from .inputs import hardware_of
from .options import JsonFlag
from .printing import print_json, print_table


@with_groups(
    hardware=several(options.hardware_options, gpu=str, model=str),
    flags=several(options.memory_options, kv_cache_dtype=str, tensor_parallel_size=int),
)
def memory(
    context: typer.Context,
    hardware: dict[str, Any],
    flags: dict[str, Any],
    tokens: Annotated[
        list[int] | None,
        typer.Option("--request-tokens", help="Prompt + output of a request; several times."),
    ] = None,
    demands: Annotated[
        list[str] | None,
        typer.Option("--for", help="NxL: what N requests of L tokens need, 64x8192 or 64x8k."),
    ] = None,
    speculative_config: Annotated[
        str | None,
        typer.Option(
            help="A drafter, vLLM's JSON: method, model, num_speculative_tokens.",
            rich_help_panel="Server",
        ),
    ] = None,
    out: Annotated[
        str | None, typer.Option(help="PNG to write: requests at once against their length.")
    ] = None,
    from_log: Annotated[
        str | None,
        typer.Option(help="Start-up log of vLLM: compare it line by line, learn its overhead."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """What fits: the memory budget, blocks, requests; several models or GPUs side by side."""
    from ..calibration.combinations import load_combinations
    from ..calibration.demand import read_demands
    from ..reports.memory_report import memory_json, memory_report, write_capacity_png

    if from_log is not None:
        given = [single(typed(context, group)) for group in (hardware, flags)]
        unused = {"for": demands, "request_tokens": tokens, "out": out}
        _refuse_beside("from_log", {**unused, "speculative_config": speculative_config})
        _compare_log(from_log, *given, as_json=as_json)
        return
    wanted = read_demands(demands or ())
    found = load_combinations(hardware, flags, wanted, speculative_config=speculative_config)
    lengths = tokens or [1_000, 4_000, 16_000, 64_000]
    path = None if out is None else write_capacity_png(found, out)
    if as_json:
        print_json(memory_json(found, lengths))
        return
    report = memory_report(found, lengths, drawn=out is not None)
    typer.echo(report.heading)
    for table in report.tables:
        print_table(table)
    for note in report.notes:
        typer.echo(f"Note: {note}")
    if path is not None:
        typer.echo(f"Wrote {path}")


@with_groups(hardware=options.hardware_options, flags=options.cost_options)
def cost(
    hardware: dict[str, Any],
    flags: dict[str, Any],
    batches: Annotated[
        list[str] | None,
        typer.Option("--batch", help="NxC: N decodes of C tokens of context; several add up."),
    ] = None,
    chunks: Annotated[
        list[str] | None,
        typer.Option("--chunk", help="NEW or NEW+PAST: a prefill after PAST cached tokens."),
    ] = None,
    swap: Annotated[
        int | None,
        typer.Option(
            help="Instead of a step: preempting a request of so many tokens, by swap or recompute."
        ),
    ] = None,
    out: Annotated[
        str | None, typer.Option(help="PNG to write: the terms on a roofline, or both costs.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """What one engine step costs: its terms, their sources, what binds them."""
    from ..calibration.costed_step import cost_a_step
    from ..calibration.step_shape import read_batch
    from ..reports.cost_report import cost_json, cost_report, write_cost_png

    if swap is not None:
        _refuse_beside("swap", {"chunk": chunks})
        _cost_a_swap(hardware, flags, swap, batches or (), out=out, as_json=as_json)
        return
    batch = read_batch(batches or (), chunks or ())
    step = cost_a_step(*hardware_of(hardware), batch, flags)
    path = None if out is None else write_cost_png(step, out)
    if as_json:
        print_json(cost_json(step))
        return
    report = cost_report(step)
    for line in report.heading:
        typer.echo(line)
    print_table(report.table)
    for line in report.notes:
        typer.echo(line)
    if path is not None:
        typer.echo(f"Wrote {path}")


@with_groups()
def gpus(as_json: JsonFlag = False) -> None:
    """The GPUs kvsim knows, with their sources."""
    from ..calibration.gpus import known_gpus
    from ..reports import tables
    from ..reports.listing import gpus_json

    known = known_gpus()
    print_json(gpus_json(known)) if as_json else print_table(tables.gpus_table(known))


@with_groups()
def models(as_json: JsonFlag = False) -> None:
    """The models kvsim knows, with their sources."""
    from ..calibration.models import known_models
    from ..reports import tables
    from ..reports.listing import models_json

    known = known_models()
    print_json(models_json(known)) if as_json else print_table(tables.models_table(known))


def _cost_a_swap(
    hardware: dict[str, Any],
    flags: dict[str, Any],
    tokens: int,
    batches: Sequence[str],
    *,
    out: str | None,
    as_json: bool,
) -> None:
    from ..calibration.step_shape import read_batch
    from ..reports.swap_report import swap_json, swap_report, write_swap_png
    from ..sim.swap_cost import crossover_on

    if tokens < 1:
        raise ValueError(f"swap(={tokens}) must be > 0.")
    model, gpu = hardware_of(hardware)
    beside = read_batch(batches, ()) if batches else None
    found = crossover_on(model, gpu, flags, tokens=tokens, batch=beside)
    path = None if out is None else write_swap_png(found, out)
    if as_json:
        print_json(swap_json(model, gpu, found))
        return
    report = swap_report(model, gpu, found)
    for line in report.heading:
        typer.echo(line)
    for table in report.tables:
        print_table(table)
    for line in report.notes:
        typer.echo(line)
    if path is not None:
        typer.echo(f"Wrote {path}")


def _refuse_beside(option: str, others: dict[str, Any]) -> None:
    for name, value in others.items():
        if value:
            shown = " ".join(map(str, value)) if isinstance(value, list) else value
            raise ValueError(f"{name}(={shown!r}) says nothing beside {option}: leave one out.")


def _compare_log(
    path: str, hardware: dict[str, Any], flags: dict[str, Any], *, as_json: bool
) -> None:
    from ..calibration.log_comparison import compare_log
    from ..calibration.startup_log import read_startup_log
    from ..reports import log_sheets, tables

    asked = {name: hardware.get(name) for name in ("gpu", "model", "quantization")}
    compared = compare_log(read_startup_log(path), **asked, flags=flags)
    if as_json:
        print_json(compared.to_json())
        return
    typer.echo(log_sheets.headline(compared))
    print_table(tables.sheet_table(log_sheets.comparison_sheet(compared)))
    for sentence in log_sheets.sentences(compared):
        typer.echo(sentence)
