"""The sum of a tensor over all GPUs of the machine, by NCCL: one process each.

The processes are started once and take one point after another over a pipe each; all of them time
the same calls, and the slowest GPU's time counts.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from ...profile.loads import DTYPE_BYTES
from ..bench import Bench
from ..card import Work
from ..timer import calls_of_a_sample, num_samples

ANSWER_S = 120.0
"""After so long a process is taken for dead."""
DTYPE = "bf16"


def prepare(x: Mapping[str, Any], bench: Bench) -> Work:
    """The point is sent to all processes; their times come back."""
    group = _group(x["gpus"])
    return Work(call=lambda: group.measure(dict(x)), x=x, how="reading")


class Group:
    """One process for each GPU."""

    def __init__(self, gpus: int) -> None:
        context = get_context("spawn")
        self._folder = tempfile.TemporaryDirectory()
        self._pipes: list[Connection] = []
        address = f"file://{Path(self._folder.name) / 'group'}"
        for rank in range(gpus):
            ours, theirs = context.Pipe()
            arguments = (rank, gpus, address, theirs)
            context.Process(target=serve, args=arguments, daemon=True).start()
            self._pipes.append(ours)

    def measure(self, x: dict[str, Any]) -> list[float]:
        """Seconds of each sample, of the slowest GPU.

        Raises:
            RuntimeError: a process failed or does not answer.
        """
        for pipe in self._pipes:
            pipe.send(x)
        answers = []
        for rank, pipe in enumerate(self._pipes):
            if not pipe.poll(ANSWER_S):
                raise RuntimeError(f"GPU {rank} does not answer")
            answers.append(pipe.recv())
        for answer in answers:
            if isinstance(answer, str):
                raise RuntimeError(answer)
        return [max(times) for times in zip(*answers, strict=True)]


def serve(rank: int, gpus: int, address: str, pipe: Connection, backend: str = "nccl") -> None:
    """Measure what comes over the pipe, until it closes."""
    device = torch.device("cuda", rank) if backend == "nccl" else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(backend, init_method=address, rank=rank, world_size=gpus)
    bench = Bench(device, l2_bytes=0, seed=rank)
    try:
        while True:
            x = pipe.recv()
            try:
                pipe.send(times_s(x, bench))
            except RuntimeError as error:
                pipe.send(str(error))
    except EOFError:
        return
    finally:
        dist.destroy_process_group()


def times_s(x: Mapping[str, Any], bench: Bench) -> list[float]:
    """Samples of one GPU; every one takes as many as the first decides."""
    values = bench.normal(max(1, x["bytes"] // DTYPE_BYTES[DTYPE]), dtype=DTYPE).mul_(1e-3)

    def call() -> None:
        dist.all_reduce(values)

    call()
    bench.synchronize()
    trial_s = min(bench.device_times_s(call, 5))
    counts = torch.tensor([calls_of_a_sample(trial_s, 1), 0], device=bench.device)
    counts[1] = num_samples(int(counts[0]) * trial_s)
    dist.broadcast(counts, src=0)
    calls, count = (int(value) for value in counts)
    run = bench.captured(call, calls) if x["mode"] == "graph" else call
    calls = calls if x["mode"] == "graph" else 1
    bench.device_times_s(run, 2)
    return [t / calls for t in bench.device_times_s(run, count)]


_GROUPS: dict[int, Group] = {}


def _group(gpus: int) -> Group:
    if gpus not in _GROUPS:
        _GROUPS[gpus] = Group(gpus)
    return _GROUPS[gpus]
