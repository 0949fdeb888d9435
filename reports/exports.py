"""A simulation for other tools: a timeline for Perfetto, metrics for Prometheus."""

from __future__ import annotations

from pathlib import Path

from ..sim.files import write_files
from ..sim.result import Result
from ..sim.summary import Summary
from .openmetrics import Scraping, metrics_text
from .timeline import timeline_bytes


def write_exports(
    result: Result,
    summary: Summary,
    *,
    timeline: str | None = None,
    metrics: str | None = None,
    scraping: Scraping | None = None,
) -> list[Path]:
    """Write what is asked for; returns the paths.

    Args:
        result: the run.
        summary: of the same run.
        timeline: file of :func:`~kvsim.reports.timeline.timeline_bytes`.
        metrics: file of :func:`~kvsim.reports.openmetrics.metrics_text`.
        scraping: how the run is scraped for ``metrics``.

    Raises:
        ValueError: a file that cannot be written, or too many scrapes.
    """
    files: dict[Path, bytes] = {}
    if timeline is not None:
        about = {"sources": summary.sources, "digests": summary.digests}
        files[Path(timeline)] = timeline_bytes(result, name=timeline, about=about)
    if metrics is not None:
        files[Path(metrics)] = metrics_text(result, summary, scraping).encode()
    for path, data in files.items():
        write_files(path.parent, {path.name: data})
    return list(files)
