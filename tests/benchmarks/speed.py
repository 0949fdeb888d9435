"""How fast the simulator is: requests simulated per second on one core, and peak memory.

    .venv/bin/python tests/benchmarks/speed.py [TRACE [PREFIX_TRACE]]

Without a trace it draws 19,366 requests with the lengths of the Azure conversation trace. The case
is the one that other simulators were timed on: Llama-2-7B on an A100, 7,424 blocks of 16 tokens, at
most 128 requests and 4,096 tokens a step. Each row is the best of five runs in its own process.
A trace with prefix ids (the Mooncake conversation trace) is run once more, with blocks of 16.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

REPEATS = 5
PLAIN = {"enable_prefix_caching": False, "async_scheduling": False}
ALLOCATORS = {
    "paged, as vLLM: prefix caching, asynchronous": {},
    "paged, prefix caching": {"async_scheduling": False},
    "paged": PLAIN,
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
        flags={"max_num_seqs": 128, "max_num_batched_tokens": 4096, **_flags(name)},
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


def time_prefixes(trace_path: str) -> tuple[float, int, float]:
    """A trace with prefix ids, once: seconds, steps, hit ratio."""
    from kvsim.calibration.affine import AffineCost
    from kvsim.sim.deployment import Deployment
    from kvsim.sim.simulation import simulate

    trace = _trace(trace_path)
    deployment = Deployment(
        max_model_len=131_072,
        max_num_seqs=256,
        max_num_batched_tokens=8_192,
        enable_prefix_caching=True,
        async_scheduling=True,
    )
    cost = AffineCost(base_s=0.005, per_scheduled_token_s=2e-6, per_context_token_s=1e-8)
    begin_s = time.process_time()
    result = simulate(trace, deployment=deployment, cost=cost, num_gpu_blocks=200_000)
    spent_s = time.process_time() - begin_s
    hit_ratio = result.requests["cached_tokens"].sum() / trace.prompt_tokens.sum()
    return spent_s, result.num_steps, float(hit_ratio)


def _flags(name: str) -> dict[str, object]:
    """Contiguous allocators run in lock step, as the plain paged one beside them."""
    flags: dict[str, object] = ALLOCATORS[name]
    return {**PLAIN, **flags} if "allocator" in flags else flags


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


def table(trace_path: str = "", prefix_trace_path: str = "") -> list[str]:
    """The benchmark as the lines of a Markdown table."""
    lines = ["| allocator | requests/s | engine steps/s | peak memory |", "|---|---|---|---|"]
    for name in ALLOCATORS:
        row = _in_a_process(name, trace_path)
        lines.append(
            f"| {row.name} | {row.requests_per_s:,.0f} | {row.steps_per_s:,.0f} "
            f"| {row.peak_mib:.0f} MiB |"
        )
    whole_s = time_command(trace_path)
    lines += ["", f"Whole `kvsim simulate`, cold: {whole_s:.1f} s."]
    if prefix_trace_path:
        spent_s, steps, hit_ratio, peak_mib = _numbers("--prefixes", prefix_trace_path)
        lines[-1] += (
            " Mooncake's conversation trace (12,031 requests, 145 M prompt tokens, 200,000 blocks "
            f"of 16, prefix caching, asynchronous): {spent_s:.1f} s for {steps:,.0f} engine steps, "
            f"{peak_mib:.0f} MiB, {100 * hit_ratio:.1f} % of the prompt tokens found."
        )
    return lines


def _in_a_process(name: str, trace_path: str) -> Timing:
    rates = _numbers("--one", name, trace_path)
    return Timing(name=name, requests_per_s=rates[0], steps_per_s=rates[1], peak_mib=rates[2])


def _numbers(*arguments: str) -> list[float]:
    """What this script prints in a process of its own."""
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [float(word) for word in done.stdout.split()]


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
    if sys.argv[1:2] == ["--prefixes"]:
        spent_s, steps, hit_ratio = time_prefixes(sys.argv[2])
        print(spent_s, steps, hit_ratio, _peak_mib())
        return
    print("\n".join(table(*sys.argv[1:3])))


if __name__ == "__main__":
    main()
