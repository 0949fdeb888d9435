"""``kvsim groundtruth``: a real engine replays a trace; its log beside the prediction. No logic.

Only running needs a GPU (or patience) and the extra ``kvsim[gpu]``; the report needs neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .groups import with_groups
from .inputs import taken_of
from .options import Force, JsonFlag
from .printing import print_json, print_table

if TYPE_CHECKING:
    from ..reports.progress import ProgressBar

app = typer.Typer(help="A real engine beside the prediction.", no_args_is_help=True)

_RUN, _SERVER = "Run", "Server"


def _option(panel: str, text: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, **more)


def server_options(
    block_size: Annotated[int, _option(_SERVER, "Tokens per block.")] = 16,
    max_model_len: Annotated[
        int | None, _option(_SERVER, "Longest prompt + output, tokens [8192; of toy 128].")
    ] = None,
    max_num_seqs: Annotated[int | None, _option(_SERVER, "Requests at once [256].")] = None,
    max_num_batched_tokens: Annotated[
        int | None, _option(_SERVER, "Tokens per step [2048].")
    ] = None,
    num_gpu_blocks_override: Annotated[
        int | None,
        _option(_SERVER, "Blocks of the pool, the null block included [what fits the card]."),
    ] = None,
    scheduler: Annotated[
        str, _option(_SERVER, "vllm, vllm_v0, sarathi, orca or transformers.")
    ] = "vllm",
    enable_prefix_caching: Annotated[
        bool, _option(_SERVER, "Share the KV of equal beginnings.", "--enable-prefix-caching")
    ] = False,
    enable_chunked_prefill: Annotated[
        bool, _option(_SERVER, "Split long prompts over steps.")
    ] = True,
    preemption_mode: Annotated[
        str,
        _option(
            _SERVER,
            "recompute, swap (to host memory) or swap_groups (of vllm_v0).",
            "--preemption-mode",
            "--preemption",
        ),
    ] = "recompute",
    swap_space: Annotated[float | None, _option(_SERVER, "Host memory for swaps, GiB [4].")] = None,
    enforce_eager: Annotated[bool, _option(_SERVER, "No CUDA graphs.", "--enforce-eager")] = False,
) -> dict[str, Any]:
    """How the engine is set up: fields of ``Deployment``, and the pool."""
    return dict(locals())


@app.command()
@with_groups(work=options.work_options, flags=server_options)
def run(
    work: dict[str, Any],
    flags: dict[str, Any],
    model: Annotated[
        str, _option(_RUN, "Shape: llama-3-8b, llama-3.2-3b, llama-3.2-1b or toy.")
    ] = "llama-3-8b",
    device: Annotated[str, _option(_RUN, "cuda, or cpu: Triton's interpreter, for toy.")] = "cuda",
    clock: Annotated[
        str,
        _option(_RUN, "wall; on a CPU also processor (the thread's own time) or steady."),
    ] = "wall",
    minutes: Annotated[
        float | None, _option(_RUN, "Nobody is let in later [default: all of the trace].")
    ] = None,
    runs: Annotated[int, _option(_RUN, "So many one after another: the noise floor.")] = 1,
    out: Annotated[str, _option(_RUN, "Folder for the logs.")] = "groundtruth",
    name: Annotated[str, _option(_RUN, "Of the log: NAME.jsonl.gz.")] = "run",
    force: Force = False,
    as_json: JsonFlag = False,
) -> None:
    """Replay a trace through the mini engine in real time and write its log."""
    from ..reports.groundtruth_words import served_json, served_line
    from ..reports.progress import ProgressBar
    from ..sim.groundtruth.asked import check_open_loop, engine_run, log_paths
    from ..sim.groundtruth.serve import serve_trace

    check_open_loop(work["concurrency"])
    taken = taken_of(work)
    asked = engine_run(
        model=model,
        flags=flags,
        device=device,
        clock=clock,
        minutes=minutes,
        seed=work["seed"],
    )
    served = []
    for path in log_paths(out, name, runs, force=force):
        with ProgressBar() as bar:
            serve_trace(taken.trace, asked, path, _before_serving(bar))
        served.append(served_json(path))
        if not as_json:
            typer.echo(served_line(path))
    if as_json:
        print_json({"logs": served})


@app.command()
@with_groups()
def report(
    logs: Annotated[
        list[str],
        typer.Argument(help="Logs of `groundtruth run`, or folders of them.", show_default=False),
    ],
    fit: Annotated[
        list[str] | None,
        typer.Option(help="Logs of the same host that step times are fitted to; not predicted."),
    ] = None,
    profile: Annotated[
        str | None, typer.Option(help="Or the card's profile, by `kvsim calibrate`.")
    ] = None,
    out: Annotated[str, typer.Option(help="Folder for report.html and figures.")] = (
        "groundtruth-report"
    ),
    force: Force = False,
    as_json: JsonFlag = False,
) -> None:
    """Prediction against measurement: steps, the whole run, the noise floor; a page."""
    from ..reports.groundtruth_report import (
        groundtruth_lines,
        groundtruth_tables,
        write_groundtruth,
    )
    from ..reports.progress import ProgressBar
    from ..sim.folder import check_folder
    from ..sim.groundtruth.asked import find_logs
    from ..sim.groundtruth.truth import compare_logs, truths_json

    paths, fitted = find_logs(logs), find_logs(fit or [], "fit")
    check_folder(out, "groundtruth", force=force)
    with ProgressBar() as bar:
        truths = compare_logs(
            [path for path in paths if path not in fitted],
            fit=fitted,
            profile=profile,
            report=bar.report,
        )
    written = write_groundtruth(truths, out, force=force)
    if as_json:
        print_json(truths_json(truths))
    else:
        for table in groundtruth_tables(truths):
            print_table(table)
        for line in groundtruth_lines(truths):
            typer.echo(line)
        typer.echo(f"Report: {written[0]} (and {len(written) - 1} files beside it)")
    raise typer.Exit(1 if any(one.misses for one in truths) else 0)


@app.command()
@with_groups(flags=server_options)
def memory(
    flags: dict[str, Any],
    model: Annotated[
        str, _option(_RUN, "Shape: llama-3-8b, llama-3.2-3b or llama-3.2-1b.")
    ] = "llama-3-8b",
    gpu: Annotated[str | None, _option(_RUN, "The card, where its name is not recognised.")] = None,
    gpu_memory_utilization: Annotated[
        float, _option(_SERVER, "Share of the GPU's memory the server may use.")
    ] = 0.92,
    as_json: JsonFlag = False,
) -> None:
    """Measure what the engine's memory goes to on this GPU, beside `kvsim memory`."""
    from ..reports.groundtruth_memory import memory_line, memory_sheet
    from ..reports.tables import sheet_table
    from ..sim.groundtruth.asked import engine_run
    from ..sim.groundtruth.memory import measure_on_card

    asked = {**flags, "gpu_memory_utilization": gpu_memory_utilization}
    found = measure_on_card(engine_run(model=model, flags=asked), gpu)
    if as_json:
        print_json(found.to_json())
    else:
        print_table(sheet_table(memory_sheet(found)))
        typer.echo(memory_line(found))
    raise typer.Exit(0 if found.met else 1)


def _before_serving(bar: ProgressBar) -> Any:
    """A bar while weights and graphs are made; none is drawn while steps are timed."""

    def report(title: str, done: int, total: int) -> None:
        if title == "serve":
            bar.stop()
        else:
            bar.report(title, done, total)

    return report
