"""Record the toy engine on this machine's CPU: the logs that the tests and docs compare with.

    python tests/benchmarks/record_toy.py [--out tests/fixtures/groundtruth] [--clock steady]

    fit/      what step times are fitted to, and nothing else: crowds, trickles, swaps; recorded
              before, between and after the others, as a host is not always equally fast
    load-50   half of what the simulator says the engine can serve, twice: the noise floor
    load-75   three quarters, twice
    burst     all at once, twice
    recompute, swap   a small pool, all at once, twice
    prefix    prompts that begin alike, twice

Needs about 20 minutes of a core. ``--clock wall`` waits for arrivals and sees the machine's other
work; ``processor`` is the time of the serving thread and waits for nobody; ``steady`` is that time
corrected for how fast the processor is. A log that is there is not made again, so that a run that
was stopped goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from kvsim.calibration.engine.clock import CLOCKS
from kvsim.calibration.engine.fitting import fit_logs
from kvsim.calibration.engine.log_reader import Log, read_log
from kvsim.calibration.engine.shape import TOY
from kvsim.sim.deployment import Deployment
from kvsim.sim.groundtruth.loads import at_load, capacity_per_s
from kvsim.sim.groundtruth.serve import EngineRun, serve_trace
from kvsim.traces import Trace

ROOT = Path(__file__).resolve().parents[2]
BLOCK_SIZE, PREFIX_BLOCKS = 8, 3
FLAGS = Deployment(
    max_model_len=128, block_size=BLOCK_SIZE, max_num_seqs=8, max_num_batched_tokens=64
)
ROOMY = EngineRun(shape=TOY, deployment=FLAGS, num_gpu_blocks=129, device="cpu")
SMALL = replace(ROOMY, num_gpu_blocks=25)
SWAP = replace(SMALL, deployment=replace(FLAGS, preemption_mode="swap"), num_host_blocks=128)
CACHED = replace(ROOMY, deployment=replace(FLAGS, enable_prefix_caching=True), num_gpu_blocks=49)
NUM_REQUESTS = 60
PREFIX_LOAD = 0.35
"""Of the capacity without prefixes, which add to every prompt."""


def draw(name: str, seed: int, count: int, *, prefixes: int = 0) -> Trace:
    """Lengths like a chat's, for a toy; a few prefixes of some blocks where asked for."""
    random = np.random.default_rng(seed)

    def lengths(median: float, spread: float, most: int) -> np.ndarray:
        drawn = np.round(median * np.exp(spread * random.standard_normal(count)))
        return np.clip(drawn, 4, most).astype(np.int64)  # the TPOT of few tokens is one step's

    prompts, outputs = lengths(20, 0.6, 64), lengths(8, 0.7, 32)
    lacking = {"arrival_s": np.zeros(count)}
    if not prefixes:
        return Trace(name=name, prompt_tokens=prompts, output_tokens=outputs, **lacking)
    group = random.integers(0, prefixes, count)
    ids = 1 + PREFIX_BLOCKS * group[:, None] + np.arange(PREFIX_BLOCKS)
    return Trace(
        name=name,
        prompt_tokens=prompts + PREFIX_BLOCKS * BLOCK_SIZE,
        output_tokens=outputs,
        hash_ids=ids.ravel().astype(np.uint64),
        hash_offsets=np.arange(count + 1) * PREFIX_BLOCKS,
        hash_block_size=BLOCK_SIZE,
        **lacking,
    )


def record(trace: Trace, run: EngineRun, path: Path) -> None:
    """One log, under its name only once it is whole."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"partial-{path.name}")
    serve_trace(trace, run, partial)
    partial.rename(path)
    log = read_log(path)
    print(f"{path.name}: {len(log.steps)} steps in {log.end['end_s']:.0f} s", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Record what is not there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "tests" / "fixtures" / "groundtruth")
    parser.add_argument("--clock", default="steady", choices=CLOCKS)
    parser.add_argument("--requests", type=int, default=NUM_REQUESTS)
    read = parser.parse_args(arguments)
    out, count = read.out, read.requests
    roomy, small, swap, cached = (
        replace(run, clock=read.clock) for run in (ROOMY, SMALL, SWAP, CACHED)
    )

    def fit(name: str, run: EngineRun, seed: int, rate_per_s: float = 0.0) -> Log:
        path = out / "fit" / f"{name}.jsonl.gz"
        trace = draw(name, seed, max(12, count // 4))
        record(at_load(trace, 1.0, rate_per_s, seed=seed) if rate_per_s else trace, run, path)
        return read_log(path)

    crowd, swaps = fit("crowd-1", roomy, 101), fit("swaps", swap, 102)
    cost, moves = fit_logs([crowd, swaps])
    chat, prefix = draw("chat", 1, count), draw("prefix", 2, count, prefixes=3)
    capacity = capacity_per_s(chat, crowd, cost, moves)
    runs = [
        ("load-50", at_load(chat, 0.5, capacity, seed=11), roomy),
        ("load-75", at_load(draw("chat-2", 3, count), 0.75, capacity, seed=12), roomy),
        ("burst", draw("burst", 4, count), roomy),
        ("recompute", draw("recompute", 5, count), small),
        ("swap", draw("swap", 6, count), swap),
        ("prefix", at_load(prefix, PREFIX_LOAD, capacity, seed=13), cached),
    ]
    print(f"capacity: {capacity:.3g} requests/s", flush=True)
    for number, (name, trace, run) in enumerate(runs, start=1):
        for repeat in ("", "-again"):
            record(trace, run, out / f"{name}{repeat}.jsonl.gz")
        fit(f"trickle-{number}", roomy, 110 + number, 0.3 * capacity)
        fit(f"crowd-{number + 1}", roomy, 120 + number)


if __name__ == "__main__":
    main()
