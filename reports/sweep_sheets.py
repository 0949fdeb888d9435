"""The table of a sweep: a row per cell, the Pareto front marked, what failed in a table below."""

from __future__ import annotations

from collections.abc import Sequence

from ..sim.sweep.show import THROUGHPUT, Row
from ..sim.sweep.supervise import DONE
from . import words
from .sheet import Sheet

MARK = "*"
TITLES = {"ttft_s": "TTFT", "tpot_s": "TPOT", "itl_s": "ITL", "e2e_s": "E2E"}


def latency_words(latency: str) -> str:
    """``TTFT p95``."""
    name, _, part = latency.partition(".")
    return f"{TITLES[name]} {part}"


def sweep_sheet(rows: Sequence[Row], *, latency: str, front: bool = False) -> Sheet:
    """The cells with a result; ``front`` keeps those on the Pareto front."""
    kept = [row for row in rows if row.status == DONE and (row.on_front or not front)]
    judged = any(row.attainment is not None for row in kept)
    others = [name for name in ("tpot_s.p95", "ttft_s.p95") if name != latency][:1]
    times = map(latency_words, (latency, *others))
    slo = ("SLO kept",) if judged else ()
    columns = ("cell", "front", "requests/s", "output tok/s", *times, *slo)
    return Sheet(
        title="Pareto front" if front else "Cells",
        columns=(*columns, "$/h", "$/M output"),
        rows=tuple(_cells(row, latency, others, judged) for row in kept),
    )


def failure_sheet(rows: Sequence[Row]) -> Sheet | None:
    """The cells without a result, and why; None where every cell has one."""
    failed = [row for row in rows if row.status != DONE]
    if not failed:
        return None
    return Sheet(
        title="Without a result",
        columns=("cell", "what happened", "why"),
        rows=tuple((row.name, row.status, row.reason or words.NONE) for row in failed),
        text_columns=(0, 1, 2),
    )


def _cells(row: Row, latency: str, others: Sequence[str], judged: bool) -> tuple[str, ...]:
    found = row.metrics
    rate = row.rate_per_s if row.rate_per_s is not None else found.get("requests_per_s")
    attained = (_or_none(row.attainment, words.share),) if judged else ()
    return (
        row.name,
        MARK if row.on_front else "",
        _or_none(rate, words.number),
        _or_none(found.get(THROUGHPUT), words.count),
        *(_or_none(found.get(name), words.seconds) for name in (latency, *others)),
        *attained,
        _or_none(row.usd_per_hour, _dollars),
        _or_none(row.usd_per_million_output_tokens, _dollars),
    )


def _dollars(value: float) -> str:
    return f"{value:,.2f}"


def _or_none(value: float | None, say: object) -> str:
    assert callable(say), "one of words' functions"
    return words.NONE if value is None else str(say(value))
