"""``kvsim fleet``: a trace through several replicas behind a router. No logic."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from . import completion, options
from .groups import with_groups
from .inputs import print_notes, taken_of
from .options import Force, JsonFlag, OutOption
from .printing import print_json, print_table

_FLEET, _SCALING = "Fleet", "Autoscaler"


def _option(panel: str, text: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, **more)


def fleet_options(
    replicas: Annotated[int | None, _option(_FLEET, "Servers of the GPU [default: 1].")] = None,
    pools: Annotated[
        str, _option(_FLEET, "Servers of several GPUs: a100:2,h100-sxm:1 instead of --replicas.")
    ] = "",
    prefill: Annotated[
        str, _option(_FLEET, "Disaggregation: servers that prefill, 2 or h100-sxm:2.")
    ] = "",
    decode: Annotated[str, _option(_FLEET, "And servers that decode: 4, or a100:4.")] = "",
    router: Annotated[
        str,
        _option(
            _FLEET,
            "round_robin, least_outstanding, least_kv, prefix_aware or session_affinity.",
            autocompletion=completion.router_names,
        ),
    ] = "round_robin",
    max_ongoing_requests: Annotated[
        int | None,
        _option(_FLEET, "Requests that a server is given at once; others wait at the router."),
    ] = None,
    kv_transfer_bandwidth: Annotated[
        float | None, _option(_FLEET, "GB/s from a prefill to a decode server [default: 50].")
    ] = None,
    kv_transfer_latency: Annotated[
        float | None, _option(_FLEET, "Microseconds before the first byte [default: 0].")
    ] = None,
    scale: Annotated[
        list[str] | None,
        _option(_FLEET, "Servers that join or leave: 60:+1; of several pools 60:a100:-1."),
    ] = None,
) -> dict[str, Any]:
    """Which servers, and who chooses among them."""
    return dict(locals())


def scaling_options(
    max_replicas: Annotated[
        int | None, _option(_SCALING, "Most servers of a pool; this switches the autoscaler on.")
    ] = None,
    min_replicas: Annotated[int | None, _option(_SCALING, "Fewest [default: 1].")] = None,
    target_ongoing_requests: Annotated[
        float | None, _option(_SCALING, "Requests per server that it aims at.")
    ] = None,
    target_kv_usage: Annotated[
        float | None, _option(_SCALING, "Or the share of the KV pool in use: 0.7.")
    ] = None,
    scale_interval: Annotated[
        float | None, _option(_SCALING, "Seconds between two looks [default: 10].")
    ] = None,
    scale_out_delay: Annotated[
        float | None,
        _option(_SCALING, "Seconds until a new server serves: weights, graphs [default: 60]."),
    ] = None,
    scale_cooldown: Annotated[
        float | None,
        _option(_SCALING, "Seconds after a change in which none is taken away [default: 300]."),
    ] = None,
) -> dict[str, Any]:
    """When servers come and go."""
    return dict(locals())


@with_groups(
    hardware=options.hardware_options,
    flags=options.flag_options,
    work=options.work_options,
    allocator=options.allocator_options,
    shape=fleet_options,
    scaling=scaling_options,
)
def fleet(
    hardware: dict[str, Any],
    flags: dict[str, Any],
    work: dict[str, Any],
    allocator: dict[str, Any],
    shape: dict[str, Any],
    scaling: dict[str, Any],
    out: OutOption = None,
    force: Force = False,
    exact_steps: Annotated[
        bool, typer.Option("--exact-steps", help="One engine step at a time: slow, same result.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Replay a trace through several servers behind a router: latencies, balance, cost."""
    from ..reports.fleet_report import fleet_lines, fleet_tables, write_fleet
    from ..reports.progress import ProgressBar
    from ..sim.fleet.asked import fleet_of
    from ..sim.fleet.figures import fleet_json
    from ..sim.fleet.job import fleet_notes, run_fleet
    from ..sim.folder import check_folder

    taken = taken_of(work)
    asked = fleet_of(
        taken.trace, hardware=hardware, flags={**flags, **allocator}, shape=shape, scaling=scaling
    )
    if out is not None:
        check_folder(out, "fleet", force=force)
    with ProgressBar() as bar:
        found, summary = run_fleet(
            asked,
            trace=taken.trace,
            concurrency=work["concurrency"],
            exact_steps=exact_steps,
            report=bar.report,
        )
    paths = [] if out is None else write_fleet(found, summary, out, taken=taken, force=force)
    if as_json:
        print_json(fleet_json(found, summary))
        return
    for line in fleet_lines(found, summary, taken):
        typer.echo(line)
    for table in fleet_tables(found, summary):
        print_table(table)
    print_notes(taken.trace, fleet_notes(found, taken.trace))
    if out is not None:
        typer.echo(f"Wrote {out}: {', '.join(path.name for path in paths)}")
