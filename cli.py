"""The command line: parse, call, print. No logic.

Heavy imports stay inside the commands: ``kvsim --help`` loads none of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import __version__, calibrate_cli, options
from .options import JsonFlag, OutOption, with_groups
from .printing import print_json as _print_json
from .printing import print_table as _print
from .usage import OneSentenceGroup

if TYPE_CHECKING:
    from .sim.server import Server
    from .traces.intake import Taken
    from .traces.trace import Trace

app = typer.Typer(
    name="kvsim",
    cls=OneSentenceGroup,
    help="Simulate LLM KV-cache memory and plan serving capacity.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
trace_app = typer.Typer(
    help="Request traces: statistics, synthesis, download.", no_args_is_help=True
)
app.add_typer(trace_app, name="trace")
app.add_typer(calibrate_cli.app, name="calibrate")

Files = Annotated[list[str], typer.Argument(help="Trace files.", show_default=False)]
Plans = Annotated[str, typer.Option(help="Folder for report.html, figures and plan.json.")]


@app.callback(invoke_without_command=True)
def main(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Simulate LLM KV-cache memory and plan serving capacity."""
    if version:
        typer.echo(f"kvsim {__version__}")
        raise typer.Exit


@app.command()
@with_groups(
    hardware=options.hardware_options,
    flags=options.flag_options,
    work=options.work_options,
)
def plan(
    hardware: dict[str, Any],
    flags: dict[str, Any],
    work: dict[str, Any],
    out: Plans = "report",
    as_json: JsonFlag = False,
) -> None:
    """Simulate a trace on a GPU, paged beside contiguous, and write a capacity report."""
    from .reports import tables
    from .reports.progress import ProgressBar
    from .reports.write import write_plan
    from .sim.plan import make_plan, with_default_arrivals
    from .sim.store import prepare_directory

    taken = _taken(work)
    server = _server(hardware, flags, taken.trace)
    prepare_directory(out)
    with ProgressBar() as bar:
        if not taken.arrivals:
            taken = with_default_arrivals(server, taken, seed=work["seed"], report=bar.report)
        made = make_plan(server, taken=taken, concurrency=work["concurrency"], report=bar.report)
    paths = write_plan(made, Path(out))
    if as_json:
        _print_json(made.to_json())
        return
    for line in tables.headline(made):
        typer.echo(line)
    _print(tables.plan_table(made))
    _print_notes(taken.trace, made.notes)
    typer.echo(f"Report: {paths[0]} (and {len(paths) - 1} files beside it)")


@app.command()
@with_groups(
    hardware=options.hardware_options,
    flags=options.flag_options,
    work=options.work_options,
    allocator=options.allocator_options,
)
def simulate(
    hardware: dict[str, Any],
    flags: dict[str, Any],
    work: dict[str, Any],
    allocator: dict[str, Any],
    out: OutOption = None,
    exact_steps: Annotated[
        bool, typer.Option("--exact-steps", help="One engine step at a time: slow, same result.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Replay a trace through one server: latencies, concurrency, where the bytes went."""
    from .reports import tables
    from .reports.progress import ProgressBar
    from .sim.ignored import ignored
    from .sim.job import simulate_server
    from .sim.store import prepare_directory, write_result

    taken = _taken(work)
    server = _server(hardware, {**flags, **allocator}, taken.trace)
    if out is not None:
        prepare_directory(out)
    with ProgressBar() as bar:
        result, summary = simulate_server(
            server,
            trace=taken.trace,
            concurrency=work["concurrency"],
            exact_steps=exact_steps,
            report=bar.report,
        )
    paths = [] if out is None else write_result(result, summary, out)
    if as_json:
        _print_json(summary.to_json())
        return
    typer.echo(server.setting + ".")
    typer.echo(f"Trace: {taken.origin}, {len(taken.trace)} requests; {taken.arrivals}.")
    _print(tables.summary_table(summary))
    for reason, count in summary.reject_reasons.items():
        typer.echo(f"Rejected {count}: {reason}.")
    left_out = ignored(taken.trace, server.deployment, concurrency=work["concurrency"])
    _print_notes(taken.trace, (*taken.trace.notes, *server.notes, *left_out))
    if out is not None:
        typer.echo(f"Wrote {out}: {', '.join(path.name for path in paths)}")


@app.command()
@with_groups(
    hardware=options.several(options.hardware_options, gpu=str, model=str),
    flags=options.several(options.memory_options, kv_cache_dtype=str, tensor_parallel_size=int),
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
    from .calibration.combinations import load_combinations
    from .calibration.demand import read_demands
    from .reports.memory_report import memory_json, memory_report, write_capacity_png

    if from_log is not None:
        given = [options.single(options.typed(context, group)) for group in (hardware, flags)]
        unused = {"for": demands, "request_tokens": tokens, "out": out}
        _refuse_beside("from_log", {**unused, "speculative_config": speculative_config})
        _compare_log(from_log, *given, as_json=as_json)
        return
    wanted = read_demands(demands or ())
    found = load_combinations(hardware, flags, wanted, speculative_config=speculative_config)
    lengths = tokens or [1_000, 4_000, 16_000, 64_000]
    path = None if out is None else write_capacity_png(found, out)
    if as_json:
        _print_json(memory_json(found, lengths))
        return
    report = memory_report(found, lengths, drawn=out is not None)
    typer.echo(report.heading)
    for table in report.tables:
        _print(table)
    for note in report.notes:
        typer.echo(f"Note: {note}")
    if path is not None:
        typer.echo(f"Wrote {path}")


@app.command()
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
    out: Annotated[str | None, typer.Option(help="PNG to write: the terms on a roofline.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """What one engine step costs: its terms, their sources, what binds them."""
    from .calibration.costed_step import cost_a_step
    from .calibration.step_shape import read_batch
    from .reports.cost_report import cost_json, cost_report, write_cost_png

    batch = read_batch(batches or (), chunks or ())
    step = cost_a_step(*_hardware(hardware), batch, flags)
    path = None if out is None else write_cost_png(step, out)
    if as_json:
        _print_json(cost_json(step))
        return
    report = cost_report(step)
    for line in report.heading:
        typer.echo(line)
    _print(report.table)
    for line in report.notes:
        typer.echo(line)
    if path is not None:
        typer.echo(f"Wrote {path}")


@app.command()
@with_groups()
def gpus(as_json: JsonFlag = False) -> None:
    """The GPUs kvsim knows, with their sources."""
    from .calibration.gpus import known_gpus
    from .reports import tables
    from .reports.listing import gpus_json

    known = known_gpus()
    _print_json(gpus_json(known)) if as_json else _print(tables.gpus_table(known))


@app.command()
@with_groups()
def models(as_json: JsonFlag = False) -> None:
    """The models kvsim knows, with their sources."""
    from .calibration.models import known_models
    from .reports import tables
    from .reports.listing import models_json

    known = known_models()
    _print_json(models_json(known)) if as_json else _print(tables.models_table(known))


@app.command()
@with_groups()
def conform(
    files: Annotated[list[str], typer.Argument(help="Step logs (.jsonl.gz) of the real engine.")],
    traces: Annotated[
        str | None, typer.Option(help="Folder of their traces [default: beside them].")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Replay step logs of the real scheduler; exit code 1 where a step differs."""
    from .sim.conformance import compare_files

    outcomes = compare_files([Path(file) for file in files], traces)
    if as_json:
        _print_json([outcome.to_json() for outcome in outcomes])
    else:
        typer.echo("\n".join(str(outcome) for outcome in outcomes))
    if any(outcome.differs for outcome in outcomes):
        raise typer.Exit(code=1)


@trace_app.command()
@with_groups(options=options.file_options)
def stats(options: dict[str, Any], files: Files, as_json: JsonFlag = False) -> None:
    """Lengths, arrivals and prefix reuse of a trace."""
    from .reports import tables
    from .traces.intake import Intake, take_in
    from .traces.stats import trace_stats

    trace = take_in(Intake(trace=tuple(files), **options)).trace
    found = trace_stats(trace)
    if as_json:
        _print_json({**found, "skipped": [str(row) for row in trace.skipped]})
        return
    _print(tables.stats_table(found, title=trace.name))
    _print_notes(trace, trace.notes)


@trace_app.command("cache-curve")
@with_groups(options=options.file_options)
def cache_curve(
    options: dict[str, Any],
    files: Files,
    sizes: Annotated[
        list[int] | None, typer.Option("--size", help="Blocks of the cache; several times.")
    ] = None,
    out: Annotated[str | None, typer.Option(help="PNG to write.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Prefix-cache hit ratio against cache size (LRU), in one pass over the trace."""
    from .reports.cache_curve import CONVENTIONS, SIZES, curve_json, curve_png, curve_sheet
    from .reports.tables import sheet_table
    from .sim.store import write_files
    from .traces.cache_curve import cache_curve as curve_of
    from .traces.intake import Intake, take_in

    trace = take_in(Intake(trace=tuple(files), **options)).trace
    curve = curve_of(trace)
    wanted = sizes or SIZES
    shown = curve_json(curve, wanted)
    if out is not None:
        path = Path(out)
        write_files(path.parent, {path.name: curve_png(curve, trace.name)})
    if as_json:
        _print_json(shown)
        return
    _print(sheet_table(curve_sheet(curve, wanted)))
    typer.echo(CONVENTIONS[curve.convention])
    _print_notes(trace, trace.notes)


@trace_app.command()
@with_groups(options=options.workload_options)
def generate(
    options: dict[str, Any],
    out: Annotated[str, typer.Option(help="File to write, Mooncake format; .gz compresses.")],
    as_json: JsonFlag = False,
) -> None:
    """Draw a synthetic workload from a seed and write it as a Mooncake trace."""
    from .traces.intake import Intake, take_in
    from .traces.write import write_mooncake

    taken = take_in(Intake(**options))
    path = write_mooncake(taken.trace, out)
    found = {"path": str(path), "num_requests": len(taken.trace), "digest": taken.trace.digest}
    if as_json:
        _print_json(found)
        return
    typer.echo(f"{len(taken.trace)} requests ({taken.origin}; {taken.arrivals or 'no arrivals'})")
    typer.echo(f"Wrote {path}")


@trace_app.command()
@with_groups()
def fetch(
    name: Annotated[str, typer.Argument(help="A public trace, by name; `list` lists them.")],
    out: Annotated[str, typer.Option(help="Folder to put it in.")] = ".",
    base_url: Annotated[str | None, typer.Option(help="A mirror: BASE_URL/<file name>.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Download a public trace by name; its SHA-256 is checked."""
    from .reports.listing import traces_json, traces_table
    from .reports.progress import ProgressBar
    from .traces.catalogue import CATALOGUE
    from .traces.fetch import fetch as fetch_trace

    if name == "list":
        _print_json(traces_json(CATALOGUE)) if as_json else _print(traces_table(CATALOGUE))
        return
    with ProgressBar() as bar:
        path = fetch_trace(
            name,
            directory=out,
            base_url=base_url,
            progress=lambda done, total: bar.report(f"fetching {name}", done, total),
        )
    _print_json({"path": str(path)}) if as_json else typer.echo(f"Wrote {path}")


def _taken(work: dict[str, Any]) -> Taken:
    from .traces.intake import Intake, take_in

    return take_in(Intake(**work))


def _hardware(hardware: dict[str, Any]) -> tuple[Any, Any]:
    from .calibration.gpus import load_gpu
    from .calibration.models import load_model
    from .calibration.quantized import quantized

    gpu = load_gpu(hardware["gpu"], price_usd_per_hour=hardware["price"])
    return quantized(load_model(hardware["model"]), hardware["quantization"]), gpu


def _refuse_beside(option: str, others: dict[str, Any]) -> None:
    for name, value in others.items():
        if value:
            shown = " ".join(map(str, value)) if isinstance(value, list) else value
            raise ValueError(f"{name}(={shown!r}) says nothing beside {option}: leave one out.")


def _compare_log(
    path: str, hardware: dict[str, Any], flags: dict[str, Any], *, as_json: bool
) -> None:
    from .calibration.log_comparison import compare_log
    from .calibration.startup_log import read_startup_log
    from .reports import log_sheets, tables

    asked = {name: hardware.get(name) for name in ("gpu", "model", "quantization")}
    compared = compare_log(read_startup_log(path), **asked, flags=flags)
    if as_json:
        _print_json(compared.to_json())
        return
    typer.echo(log_sheets.headline(compared))
    _print(tables.sheet_table(log_sheets.comparison_sheet(compared)))
    for sentence in log_sheets.sentences(compared):
        typer.echo(sentence)


def _server(hardware: dict[str, Any], flags: dict[str, Any], trace: Trace) -> Server:
    from .sim.server import resolve

    model, gpu = _hardware(hardware)
    return resolve(
        model=model,
        gpu=gpu,
        trace=trace,
        max_model_len=flags.pop("max_model_len"),
        step_cost_spec=flags.pop("step_cost"),
        profile=flags.pop("profile"),
        num_gpu_blocks_override=flags.pop("num_gpu_blocks_override"),
        kv_cache_memory_bytes=flags.pop("kv_cache_memory_bytes"),
        non_kv_memory_bytes=flags.pop("non_kv_memory_bytes"),
        engine=flags.pop("engine"),
        hybrid_kv_cache=flags.pop("hybrid_kv_cache"),
        flags=flags,
    )


def _print_notes(trace: Trace, notes: tuple[str, ...]) -> None:
    from .reports.notes import note_lines

    for line in note_lines(trace.skipped, notes):
        typer.echo(line)
