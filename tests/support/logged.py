"""Steps as a log has them, by hand."""

from __future__ import annotations

import math

from kvsim.calibration.engine.records import Scheduled, StepRecord


def step(start_s: float, *rows: tuple[int, int, int], **more: int | float) -> StepRecord:
    """A step of 12.5 ms; rows are ``(sequence, new, past)``."""
    values: dict[str, int | float] = {
        "schedule_s": 0.001,
        "prepare_s": 0.0015,
        "launch_s": 0.002,
        "sync_s": 0.0075,
        "update_s": 0.0005,
        "wall_s": 0.0125,
        "gpu_s": math.nan,
        "bucket": 0,
        "running": len(rows),
        "waiting": 0,
        "used_blocks": 7,
    }
    scheduled = tuple(Scheduled(*row) for row in rows)
    return StepRecord(start_s=start_s, rows=scheduled, **(values | more))  # type: ignore[arg-type]
