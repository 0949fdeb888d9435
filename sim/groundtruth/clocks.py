"""Where the step times of a comparison come from: a fit to the host's logs, or a profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ...calibration.costs import step_cost
from ...calibration.engine.fitting import fit_logs
from ...calibration.engine.graph_buckets import buckets_up_to
from ...calibration.engine.host_fit import host_of
from ...calibration.engine.log_reader import Log, read_log
from ...calibration.engine.shape import LlamaShape
from ...calibration.gpus import load_gpu
from ...calibration.host import HostTimes
from ...calibration.models import load_model
from ...calibration.moves import block_moves, profile_for
from ...calibration.operator_cost import OperatorCost
from ...calibration.profile.store import read_profile
from ...calibration.step_cost import StepCost
from ..moved import Moves


class Clock(NamedTuple):
    """What steps and moves cost."""

    cost: StepCost
    moves: Moves | None


def clock_of(
    logs: Sequence[tuple[Path, Log]], *, fit: Sequence[Path] = (), profile: str | None = None
) -> Clock:
    """The step times for some logs.

    Args:
        logs: what will be predicted.
        fit: logs of the same host and shape that the times are fitted to, none of them in ``logs``;
            beside a profile the host's only.
        profile: of the card, by ``kvsim calibrate``: measured apart from any run.

    Raises:
        ValueError: none of both, a log that is fitted to and predicted, another host or shape.
    """
    if not fit and profile is None:
        raise ValueError(
            "fit or profile must say what a step costs: --fit LOG, or --profile PROFILE.json."
        )
    predicted = {path.resolve() for path, _ in logs}
    read = []
    for path in fit:
        if path.resolve() in predicted:
            raise ValueError(f"fit(={path.name!r}) must not be among the logs that it predicts.")
        read.append((path, read_log(path)))
    check_alike([*logs, *read])
    fitted = [log for _, log in read]
    if profile is None:
        return Clock(*fit_logs(fitted))
    return _of_profile(logs[0][1], profile, host_of(fitted) if fitted else None)


def check_alike(logs: Sequence[tuple[Path, Log]]) -> None:
    """Refuse logs that one clock cannot predict.

    Raises:
        ValueError: another engine, shape, host, clock or block size than the first one's.
    """
    path, first = logs[0]
    for other, log in logs[1:]:
        for name, value in _said(log).items():
            if value != _said(first)[name]:
                raise ValueError(
                    f"{name}(={value}) of {other.name} must be {_said(first)[name]}, as in "
                    f"{path.name}: compare logs of one engine on one host."
                )


def _said(log: Log) -> dict[str, object]:
    header = log.header
    return {
        "engine": header.engine,
        "model": header.model.get("name"),
        "hardware": header.hardware.get("name"),
        "clock": header.hardware.get("clock"),
        "block_size": header.flags.get("block_size"),
    }


def _of_profile(log: Log, path: str, host: HostTimes | None) -> Clock:
    flags, profile = log.header.flags, read_profile(path)
    model, gpu = load_model(str(log.header.model["name"])), load_gpu(profile.hardware.gpu)
    block_size = int(flags["block_size"])
    measured, why = profile_for(gpu, "measured", path)
    cost = step_cost(
        "measured",
        model=model,
        gpu=gpu,
        profile=path,
        max_num_seqs=int(flags["max_num_seqs"]),
        max_num_batched_tokens=int(flags["max_num_batched_tokens"]),
        enforce_eager=bool(flags["enforce_eager"]),
        async_scheduling=False,
        block_size=block_size,
    )
    if isinstance(cost, OperatorCost):
        eager = bool(flags["enforce_eager"])
        captured = () if eager else buckets_up_to(int(flags["max_num_seqs"]))
        cost = replace(cost, capture_sizes=captured, host=host or cost.host)
    moves = block_moves(
        model=model,
        gpu=gpu,
        block_bytes=LlamaShape(**log.header.model).kv_bytes_per_token * block_size,
        profile=measured,
        method="gathered",
        why=why,
    )
    return Clock(cost, moves)
