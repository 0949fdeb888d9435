"""From names and flags to a run of the engine and to the logs of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from math import inf
from pathlib import Path
from typing import Any

from ...calibration.engine.shape import TOY, LlamaShape, shape_named
from ..deployment import BYTES_PER_GIB, Deployment
from .serve import EngineRun, check_device

LOG_ENDINGS = (".jsonl", ".jsonl.gz")
MODEL_LEN = {TOY.name: 128}
"""Longest prompt + output by default; of the other shapes 8192, what a Llama 3 was made for."""
CPU_BLOCKS = 257
"""Of a pool on a CPU by default, the null block included."""


def engine_run(
    *,
    model: str,
    flags: Mapping[str, Any],
    device: str = "cuda",
    clock: str = "wall",
    minutes: float | None = None,
    seed: int = 0,
) -> EngineRun:
    """What to run.

    Args:
        model: a shape's name: llama-3-8b, a smaller one, or toy.
        flags: of the server, by their names in ``Deployment``, None = by default; besides
            ``num_gpu_blocks_override`` (by default what fits the card, or a few on a CPU).
        device: ``cuda`` or ``cpu``.
        clock: ``wall`` or ``processor``.
        minutes: how long requests are let in; None = all of the trace.
        seed: of weights and tokens.

    Raises:
        ValueError: a name or flag that there is none of, no GPU, one with too little memory.
    """
    shape = shape_named(model, field="model")
    check_device(device, clock)
    given = {name: value for name, value in flags.items() if value is not None}
    override = given.pop("num_gpu_blocks_override", None)
    given.setdefault("max_model_len", MODEL_LEN.get(shape.name, 8192))
    deployment = Deployment(**given)
    swaps = deployment.preemption_mode in ("swap", "swap_groups")
    return EngineRun(
        shape=shape,
        deployment=deployment,
        num_gpu_blocks=override or _blocks(shape, deployment, device),
        num_host_blocks=_host_blocks(shape, deployment) if swaps else 0,
        minutes=inf if minutes is None else minutes,
        device=device,
        seed=seed,
        clock=clock,
    )


def find_logs(names: Sequence[str], field: str = "logs") -> list[Path]:
    """Log files by name, and all of a folder in the order of their names.

    Raises:
        ValueError: nothing of that name, or a folder without logs.
    """
    found: list[Path] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            inside = [one for one in path.iterdir() if one.name.endswith(LOG_ENDINGS)]
            if not inside:
                raise ValueError(f"{field}(={name!r}) must hold logs, files that end in .jsonl.gz.")
            found += sorted(inside, key=name_of)
        elif path.is_file():
            found.append(path)
        else:
            raise ValueError(
                f"{field}(={name!r}) must be a log or a folder of them: none is there."
            )
    return list(dict.fromkeys(found))


def name_of(path: Path) -> str:
    """A log's name for people."""
    return path.name.removesuffix(".gz").removesuffix(".jsonl")


def check_open_loop(concurrency: int | None) -> None:
    """Refuse a closed loop.

    Raises:
        ValueError: clients instead of arrival times.
    """
    if concurrency is not None:
        raise ValueError(
            f"concurrency(={concurrency}) must be left out: the engine replays arrival times."
        )


def log_paths(out: str, name: str, runs: int, *, force: bool) -> list[Path]:
    """Where the logs of so many runs go; the folder is made.

    Raises:
        ValueError: no runs, a name with a folder in it, or a log that is there already.
    """
    if runs < 1:
        raise ValueError(f"runs(={runs}) must be > 0.")
    if not name or Path(name).name != name:
        raise ValueError(f"name(={name!r}) must be a file's name without a folder.")
    folder = Path(out)
    names = [name] if runs == 1 else [f"{name}-{number}" for number in range(1, runs + 1)]
    paths = [folder / f"{one}.jsonl.gz" for one in names]
    there = [path.name for path in paths if path.exists()]
    if there and not force:
        raise ValueError(
            f"out(={out!r}) holds {there[0]}: give another name, or add --force to replace it."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"out(={out!r}) cannot be made: {error.strerror}.") from None
    return paths


def _blocks(shape: LlamaShape, deployment: Deployment, device: str) -> int:
    if device != "cuda":
        return CPU_BLOCKS
    check_libraries(device)
    from ...calibration.engine.session import card_blocks

    return card_blocks(shape, deployment.block_size)


def _host_blocks(shape: LlamaShape, deployment: Deployment) -> int:
    """What ``swap_space`` holds; more than all seats could fill is never used."""
    size = deployment.block_size
    held = int(deployment.swap_space * BYTES_PER_GIB) // (shape.kv_bytes_per_token * size)
    return min(held, deployment.max_num_seqs * -(-deployment.max_model_len // size))


def check_libraries(device: str) -> None:
    """Refuse to run without what computes.

    Raises:
        ValueError: torch or Triton is not installed.
    """
    for module in ("torch", "triton"):
        if find_spec(module) is None:
            raise ValueError(
                f"device(={device}) needs {module}, which is not installed: pip install "
                "'kvsim[gpu]'."
            )
