"""The words of a comparison with a real run: figures with their units, verdicts, lines."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from pathlib import Path

from ..calibration.engine.log_reader import Log, read_log
from ..sim.groundtruth.truth import Compared, Truth
from . import words
from .compare_sheets import percent

TITLES = {
    "requests_per_s": "throughput, requests/s",
    "output_tokens_per_s": "throughput, output tokens/s",
    "mean_running": "requests running, mean",
    "kv_use": "KV pool in use, mean",
    "num_preemptions": "preemptions",
}
CLOCKS = {
    "processor": "times are the processor time of the thread that served, not the wall clock's.",
    "steady": "times are processor time, counted in launches of a small kernel between the steps, "
    "so that the host's own drift cancels; they are not the wall clock's.",
}
VERDICTS = {True: "held", False: "missed", None: words.NONE}


def title(name: str) -> str:
    """Of a figure: ``TTFT P95``."""
    if name in TITLES:
        return TITLES[name]
    what, percentile, _ = name.split("_")
    return f"{what.upper()} {percentile.upper()}"


def value(name: str, number: float) -> str:
    """With its unit."""
    if name.endswith("_p50_s") or name.endswith("_p95_s") or name.endswith("_p99_s"):
        return words.seconds(number)
    if name == "kv_use":
        return words.share(number)
    return words.count(number) if name == "num_preemptions" else words.number(number, digits=4)


def error(one: Compared) -> str:
    """Signed; in words beside a measured 0."""
    return percent(one.error) if isfinite(one.error) else "not 0" if one.measured == 0 else "-"


def floor(one: Compared) -> str:
    """How far a repeat of the run is off."""
    if one.noise is None:
        return words.NONE
    return words.share(one.noise) if isfinite(one.noise) else "not 0"


def goal(one: Compared) -> str:
    """The limit, and whether the noise floor has taken its place."""
    if one.goal is None:
        return words.NONE
    return f"{100 * one.goal:g} %"


def verdict(truths: Sequence[Truth]) -> str:
    """How many goals hold."""
    judged = [one for truth in truths for one in truth.compared if one.met is not None]
    held = sum(one.met is True for one in judged)
    floors = sum(one.met is True and abs(one.error) > (one.goal or 0.0) for one in judged)
    beside = f", {floors} of them within the noise floor only" if floors else ""
    runs = f"{len(truths)} run{'' if len(truths) == 1 else 's'}"
    return f"{held} of {len(judged)} goals held over {runs}{beside}."


def lines(truths: Sequence[Truth]) -> list[str]:
    """Verdict, what was missed run by run, and what a reader should know."""
    said = [verdict(truths)]
    for truth in truths:
        if truth.misses:
            named = [f"{title(one.name)} ({error(one)})" for one in truth.misses]
            said.append(f"{truth.name} misses {words.listing(named)}.")
    return said + [f"Note: {note}" for note in notes(truths)]


def notes(truths: Sequence[Truth]) -> list[str]:
    """What is missing, of what the figures are made."""
    said = [note for truth in truths for note in truth.log.notes]
    alone = [truth.name for truth in truths if truth.repeat is None]
    if alone:
        said.append(
            f"no repeat of {words.listing(alone)} is here: their goals stand without a noise floor."
        )
    compiled = sum(truth.forced.num_compiled for truth in truths)
    if compiled:
        said.append(f"{compiled} steps in which kernels were compiled are left out of the errors.")
    clock = str(truths[0].log.header.hardware.get("clock"))
    if clock in CLOCKS:
        said.append(CLOCKS[clock])
    return said


def setting(truth: Truth) -> str:
    """What ran, on what."""
    header = truth.log.header
    flags, trace = header.flags, header.trace
    caching = ", prefix caching" if flags.get("enable_prefix_caching") else ""
    return (
        f"{header.engine} engine, {header.model.get('name')}, {header.hardware.get('name')}; "
        f"{flags.get('num_gpu_blocks')} blocks of {flags.get('block_size')}, max_num_seqs "
        f"{flags.get('max_num_seqs')}, {flags.get('preemption_mode')}{caching}; "
        f"{trace.get('name')}, {words.count(len(truth.log.requests))} requests"
    )


def served_line(path: Path) -> str:
    """A run that has ended, from its log."""
    log = read_log(path)
    left = f", {log.end['num_left_out']} not let in any more" if log.end["num_left_out"] else ""
    return (
        f"Wrote {path}: {len(log.requests)} requests{left}, {len(log.steps)} steps in "
        f"{words.seconds(log.end['end_s'])}, {_preemptions(log)}."
    )


def served_json(path: Path) -> dict[str, object]:
    """The same as plain values."""
    log = read_log(path)
    return {"path": str(path), "requests": len(log.requests), **log.end}


def _preemptions(log: Log) -> str:
    count = sum(step.preempted for step in log.steps)
    return f"{count} preemption{'' if count == 1 else 's'}"
