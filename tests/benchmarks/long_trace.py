"""A trace of millions of requests through one server: requests per second and peak memory.

    .venv/bin/python tests/benchmarks/long_trace.py [REQUESTS [SHORT [WORKLOAD]]]

Streams 10,000,000 requests (drawn with the lengths of a preset, Poisson arrivals) beside a plain
``simulate`` of 100,000 like them and a stream of as many, each in its own process. The server is
Llama-3.1-8B on an H100 with vLLM's defaults.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

REQUESTS, SHORT, WORKLOAD = 10_000_000, 100_000, "alpaca"
RATES_PER_S = {"alpaca": 200.0, "azure-chat": 30.0, "sharegpt": 45.0}
"""Loads that the server below carries without a growing queue."""


def run(kind: str, num_requests: int, workload: str) -> tuple[float, float, float]:
    """One run in this process: requests per CPU second, steps per CPU second, peak MiB."""
    from kvsim.sim.job import simulate_server
    from kvsim.sim.streaming.job import stream_job
    from kvsim.traces.intake import Intake, take_in
    from kvsim.traces.stream_intake import take_stream

    intake = Intake(
        workload=workload, num_requests=num_requests, rate_per_s=RATES_PER_S.get(workload, 10.0)
    )
    hardware = {"gpu": "h100-sxm", "model": "llama-3.1-8b"}
    flags = {"max_model_len": 16_384}
    begin_s = time.process_time()
    if kind == "plain":
        from kvsim.sim.load import load_server

        trace = take_in(intake).trace
        server = load_server(trace, hardware=hardware, flags=flags)
        summary = simulate_server(server, trace=trace)[1]
    else:
        summary = stream_job(take_stream(intake), hardware=hardware, flags=flags).run()
    spent_s = time.process_time() - begin_s
    print(f"{summary.mean_running:.1f} run, {summary.mean_waiting:.1f} wait", file=sys.stderr)
    return num_requests / spent_s, summary.num_steps / spent_s, _peak_mib()


def _peak_mib() -> float:
    """This process's own peak; getrusage would report the parent's where that was larger."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


def main() -> None:
    """Print the table, or one row for the process that prints it."""
    if sys.argv[1:2] == ["--one"]:
        print(*run(sys.argv[2], int(sys.argv[3]), sys.argv[4]))
        return
    given = [*sys.argv[1:], *(str(REQUESTS), str(SHORT), WORKLOAD)[len(sys.argv) - 1 :]]
    num_requests, short, workload = int(given[0]), int(given[1]), given[2]
    print("| run | requests | requests/s | engine steps/s | peak memory |")
    print("|---|---|---|---|---|")
    for kind, number in (("plain", short), ("stream", short), ("stream", num_requests)):
        command = [sys.executable, __file__, "--one", kind, str(number), workload]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        per_s, steps_per_s, peak_mib = map(float, done.stdout.split())
        print(
            f"| {kind} | {number:,} | {per_s:,.0f} | {steps_per_s:,.0f} | {peak_mib:.0f} MiB |",
            flush=True,
        )


if __name__ == "__main__":
    main()
