"""How fast the simulator is: requests simulated per second on one core, and peak memory.

    .venv/bin/python tests/benchmarks/speed.py [TRACE]

Without a trace it draws 19,366 requests with the lengths of the Azure conversation trace. The case
is the one that other simulators were timed on: Llama-2-7B on an A100, 7,424 blocks of 16 tokens, at
most 128 requests and 4,096 tokens a step. Each row is the best of five runs in its own process.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

REPEATS = 5
ALLOCATORS = {
    "paged": {},
    "contiguous max (buddy)": {"allocator": "contiguous", "reservation": "max"},
    "contiguous pow2 (buddy)": {"allocator": "contiguous", "reservation": "pow2"},
    "contiguous oracle (buddy)": {"allocator": "contiguous", "reservation": "oracle"},
    "contiguous oracle (best_fit)": {
        "allocator": "contiguous",
        "reservation": "oracle",
        "placement": "best_fit",
    },
}
CASE = "--gpu a100 --model llama-2-7b --num-gpu-blocks-override 7424 --max-num-seqs 128"
CASE += " --max-num-batched-tokens 4096 --max-model-len 16384"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One row of the benchmark."""

    name: str
    requests_per_s: float
    steps_per_s: float
    peak_mib: float


def time_allocator(name: str, trace_path: str) -> Timing:
    """Simulate the case once per repeat; the best of them."""
    from kvsim.calibration.gpus import load_gpu
    from kvsim.calibration.models import load_model
    from kvsim.sim.server import resolve
    from kvsim.sim.simulation import simulate

    trace = _trace(trace_path)
    server = resolve(
        model=load_model("llama-2-7b"),
        gpu=load_gpu("a100"),
        trace=trace,
        max_model_len=16_384,
        flags={"max_num_seqs": 128, "max_num_batched_tokens": 4096, **ALLOCATORS[name]},
        num_gpu_blocks_override=7424,
    )
    best_s, num_steps = float("inf"), 0
    for _ in range(REPEATS):
        begin_s = time.process_time()
        result = simulate(
            trace,
            deployment=server.deployment,
            cost=server.cost,
            num_gpu_blocks=server.num_gpu_blocks,
        )
        best_s, num_steps = min(best_s, time.process_time() - begin_s), result.num_steps
    return Timing(
        name=name,
        requests_per_s=len(trace) / best_s,
        steps_per_s=num_steps / best_s,
        peak_mib=_peak_mib(),
    )


def time_command(trace_path: str) -> float:
    """Seconds of the whole ``kvsim simulate``, from a cold interpreter; the best of three."""
    work = ["--trace", trace_path] if trace_path else ["--workload", "azure-chat", "-n", "19366"]
    command = [sys.executable, "-c", "from kvsim.cli import app; app()", "simulate", *work]
    best_s = float("inf")
    for _ in range(3):
        begin_s = time.perf_counter()
        subprocess.run([*command, *CASE.split()], check=True, stdout=subprocess.DEVNULL)
        best_s = min(best_s, time.perf_counter() - begin_s)
    return best_s


def table(trace_path: str) -> list[str]:
    """The benchmark as the lines of a Markdown table."""
    lines = ["| allocator | requests/s | engine steps/s | peak memory |", "|---|---|---|---|"]
    for name in ALLOCATORS:
        row = _in_a_process(name, trace_path)
        lines.append(
            f"| {row.name} | {row.requests_per_s:,.0f} | {row.steps_per_s:,.0f} "
            f"| {row.peak_mib:.0f} MiB |"
        )
    whole_s = time_command(trace_path)
    return [*lines, "", f"Whole `kvsim simulate` (paged), cold: {whole_s:.1f} s."]


def _in_a_process(name: str, trace_path: str) -> Timing:
    command = [sys.executable, __file__, "--one", name, trace_path]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    rates = [float(word) for word in done.stdout.split()]
    return Timing(name=name, requests_per_s=rates[0], steps_per_s=rates[1], peak_mib=rates[2])


def _peak_mib() -> float:
    """This process's own peak; getrusage would report the parent's where that was larger."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


def _trace(path: str):  # type: ignore[no-untyped-def]  # imported late: --one measures memory
    from kvsim.traces import load_trace, synthesize, workload_preset

    if path:
        return load_trace(path)
    return synthesize(workload=workload_preset("azure-chat"), num_requests=19_366, seed=0)


def main() -> None:
    """Print the table, or one row for the process that prints it."""
    if sys.argv[1:2] == ["--one"]:
        row = time_allocator(sys.argv[2], sys.argv[3])
        print(row.requests_per_s, row.steps_per_s, row.peak_mib)
        return
    print("\n".join(table(sys.argv[1] if len(sys.argv) > 1 else "")))


if __name__ == "__main__":
    main()
