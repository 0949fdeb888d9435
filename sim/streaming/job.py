"""One streamed simulation of one server, with its summary and its folder: what a command runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...traces import Trace
from ...traces.chunks import Survey, survey
from ...traces.stream_intake import TakenStream
from ..files import json_bytes, unwritable
from ..folder import check_folder, write_folder
from ..ignored import ignored
from ..job import Report
from ..load import load_server
from ..provenance import digests, settings, sources
from ..server import Server
from ..store import KIND, REQUESTS, SUMMARY
from ..summary import Summary
from .fold import STATED_ACCURACY
from .run import Sink, Streamed, simulate_stream
from .sink import ParquetSink
from .totals import summarise_stream

_NOTE = (
    f"Streamed: percentiles of times are within {100 * STATED_ACCURACY:g} %, all else is exact; "
    "requests are written in the order in which they leave."
)


def check_options(*, stream: bool, repeat: int | None, whole: Mapping[str, object]) -> None:
    """Refuse what goes with a stream only, and what a stream does not have.

    Raises:
        ValueError: ``repeat`` without a stream, or an option that needs the whole run.
    """
    if not stream:
        raise ValueError(f"repeat(={repeat}) needs --stream.")
    for name, value in whole.items():
        if value is not None:
            raise ValueError(f"{name}(={value}) needs the whole run: leave --stream out.")


@dataclass(slots=True, kw_only=True)
class StreamJob:
    """A stream, its server, and after :meth:`run` what was written and is to be said."""

    taken: TakenStream
    server: Server
    survey: Survey
    notes: tuple[str, ...] = ()
    written: tuple[str, ...] = ()

    def run(
        self,
        *,
        concurrency: int | None = None,
        exact_steps: bool = False,
        out: str | Path | None = None,
        force: bool = False,
        report: Report | None = None,
    ) -> Summary:
        """Simulate; with ``out`` the summary and the requests are written to a folder.

        Raises:
            ValueError: as ``simulate_stream``; a folder that cannot be written to.
        """
        if out is None:
            return self._summary(concurrency, exact_steps, report, None)
        path = check_folder(out, KIND, force=force)
        with ParquetSink(path.absolute(), REQUESTS) as sink:
            try:
                summary = self._summary(concurrency, exact_steps, report, sink)
                sink.close()
            except OSError as error:
                raise unwritable(out, error) from error
            files = {SUMMARY: json_bytes(summary.to_json())}
            paths = write_folder(path, KIND, files, force=force, moved={REQUESTS: sink.path})
        self.written = tuple(place.name for place in paths)
        return summary

    def _summary(
        self,
        concurrency: int | None,
        exact_steps: bool,
        report: Report | None,
        sink: Sink | None,
    ) -> Summary:
        server, total = self.server, self.survey.num_requests
        title = server.deployment.title
        run = simulate_stream(
            self.taken.stream,
            deployment=server.deployment,
            cost=server.cost,
            num_gpu_blocks=server.num_gpu_blocks,
            concurrency=concurrency,
            exact_steps=exact_steps,
            progress=None if report is None else lambda done: report(title, done, total),
            moves=server.moves,
            sink=sink,
        )
        if report is not None:
            report(title, total, total)
        return self._summarise(run, concurrency)

    def _summarise(self, run: Streamed, concurrency: int | None) -> Summary:
        server, sample = self.server, self.taken.stream.sample
        said = (*sample.notes, *server.notes, *run.notes, _NOTE)
        left_out = ignored(sample, server.deployment, concurrency=concurrency)
        self.notes = (*said, *left_out)
        trace = replace(sample, skipped=self.survey.skipped)
        given = {
            **settings(server, trace, concurrency=concurrency),
            "num_skipped_rows": self.survey.num_skipped,
            "notes": list(self.notes),
        }
        moved = bool(run.moved)
        marks = digests(
            server, trace_digest=self.survey.digest, moved=moved, concurrency=concurrency
        )
        return summarise_stream(
            run, settings=given, sources=sources(server, moved=moved), digests=marks
        )


def stream_job(
    taken: TakenStream,
    *,
    hardware: Mapping[str, Any],
    flags: Mapping[str, Any],
    report: Report | None = None,
) -> StreamJob:
    """Read a stream once, and set up the server for its longest request.

    Raises:
        ValueError: as ``load_server``, or what the stream raises.
    """
    if report is not None:
        report("reading the trace", 0, 1)
    found = survey(taken.stream)
    prompt, output = found.longest
    longest = Trace(
        name=taken.stream.name,
        prompt_tokens=np.array([prompt]),
        output_tokens=np.array([output]),
        arrival_s=None,
    )
    server = load_server(longest, hardware=hardware, flags=flags)
    return StreamJob(taken=taken, server=server, survey=found)
