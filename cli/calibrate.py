"""``kvsim calibrate``: measure this machine's card, fit again, import, report. No logic.

Only measuring needs a GPU and the extra ``kvsim[gpu]``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from .groups import with_groups
from .options import Force, JsonFlag
from .printing import print_json, print_table

if TYPE_CHECKING:
    from ..calibration.measure.calibrate import Calibrated
    from ..calibration.profile.values import Profile, Sample

app = typer.Typer(help="Measure a card: its profile, for step times.", no_args_is_help=False)

MODES = {
    "measuring": ("out", "budget", "model", "families", "gpu", "seed"),
    "--refit": ("out", "refit"),
    "--from": ("out", "folder", "gpu", "model", "tensor_parallel_size"),
    "report": (),
}
"""Options that say something in each mode, beside --json."""
FLAGS = {"folder": "from"}
"""Options under another name than their variable's."""


@app.callback(invoke_without_command=True)
@with_groups()
def calibrate(
    context: typer.Context,
    out: Annotated[str | None, typer.Option(help="The profile to write: h200.json.")] = None,
    budget: Annotated[str, typer.Option(help="Time for measuring: 480s, 8m.")] = "480s",
    model: Annotated[
        str, typer.Option(help="Whose shapes: a name of `kvsim models`, or a config.json.")
    ] = "llama-3.1-8b",
    families: Annotated[
        str, typer.Option(help="Only these: decode,ragged,gemm ... [default: all]")
    ] = "",
    gpu: Annotated[
        str | None, typer.Option(help="The card, where its name is not recognised.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the order and of what is drawn.")] = 0,
    refit: Annotated[
        str | None, typer.Option(help="A profile whose fit is done again; needs no GPU.")
    ] = None,
    folder: Annotated[
        str | None, typer.Option("--from", help="Import LLMServingSim's CSV files of a card.")
    ] = None,
    tensor_parallel_size: Annotated[
        int, typer.Option(help="Of --from: GPUs that the layers were divided over.")
    ] = 1,
    as_json: JsonFlag = False,
) -> None:
    """Measure this machine's GPU with kvsim's own kernels, and write its profile."""
    from ..calibration.measure import calibrate as calibrating

    mode = context.invoked_subcommand or _mode(refit, folder)
    _refuse_beside(mode, context)
    if mode == "report":
        return
    if out is None and refit is None:
        raise ValueError("out must name the profile to write: --out h200.json.")
    if folder is not None:
        made = calibrating.convert(
            folder, str(out), gpu=gpu, model=model, tensor_parallel_size=tensor_parallel_size
        )
        _written(made, as_json=as_json)
    elif refit is not None:
        _written(calibrating.refit(refit, out), as_json=as_json)
    else:
        names = tuple(name.strip() for name in families.split(",") if name.strip())
        asked = {"budget": budget, "model": model, "families": names, "gpu": gpu, "seed": seed}
        _measure(str(out), asked, as_json=as_json)


@app.command()
@with_groups()
def report(
    profile: Annotated[str, typer.Argument(help="A profile's JSON.")],
    out: Annotated[str, typer.Option(help="Folder for report.html and figures.")] = "calibration",
    force: Force = False,
    as_json: JsonFlag = False,
) -> None:
    """What a profile holds: ceilings, fits, errors, goals; a page with figures."""
    from ..calibration.profile.store import read_profile, read_samples
    from ..reports.calibration_report import calibration_json, write_calibration_report

    found, samples = read_profile(profile), read_samples(profile)
    paths = write_calibration_report(found, samples, out, force=force)
    if as_json:
        print_json(calibration_json(found))
        return
    _show(found, samples)
    beside = f" (and {len(paths) - 1} files beside it)" if paths[1:] else ""
    typer.echo(f"Report: {paths[0]}{beside}")


def _measure(out: str, asked: dict[str, Any], *, as_json: bool) -> None:
    from ..calibration.measure.calibrate import calibrate as measure
    from ..reports.progress import ProgressBar

    with ProgressBar() as bar:
        done = measure(out, report=bar.report, **asked)
    _written(done, as_json=as_json)
    if done.why_ended not in ("", "budget"):
        raise typer.Exit(code=130 if done.why_ended == "interrupted" else 1)


def _written(done: Calibrated, *, as_json: bool) -> None:
    from ..calibration.profile.store import read_samples
    from ..reports.calibration_report import calibration_json

    if as_json:
        paths = [str(path) for path in done.paths]
        print_json({**calibration_json(done.profile), "paths": paths, "ended": done.why_ended})
        return
    _show(done.profile, read_samples(done.path))
    for line in done.lines():
        typer.echo(line)
    typer.echo(f"Wrote {', '.join(str(path) for path in done.paths)}")


def _show(profile: Profile, samples: tuple[Sample, ...]) -> None:
    from ..reports.calibration_report import calibration_heading, calibration_tables
    from ..reports.tables import sheet_table

    for line in calibration_heading(profile, samples):
        typer.echo(line)
    for sheet in calibration_tables(profile, samples):
        print_table(sheet_table(sheet))


def _mode(refit: str | None, folder: str | None) -> str:
    if refit is not None:
        return "--refit"
    return "measuring" if folder is None else "--from"


def _refuse_beside(mode: str, context: typer.Context) -> None:
    """An option that a mode does not read is an error."""
    for name, value in context.params.items():
        source = context.get_parameter_source(name)
        typed = source is not None and source.name != "DEFAULT"
        if typed and name not in (*MODES[mode], "as_json"):
            flag = FLAGS.get(name, name)
            raise ValueError(f"{flag}(={value!r}) says nothing beside {mode}: leave it out.")
