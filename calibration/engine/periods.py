"""How long a step keeps the engine: from asking whom to run until it asks again.

A step's ``wall_s`` ends when the scheduler knows the tokens. Until the next one its record is
written and arrivals are looked at; a server that is never idle pays for that, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from .records import StepRecord


def periods_s(steps: Sequence[StepRecord]) -> NDArray[np.float64]:
    """Of the steps of one run, in their order; ``(num_steps,)``.

    Where the next step goes on with a sequence of this one, the engine was not idle in between;
    elsewhere the median of what lies between the others stands for it.
    """
    walls = np.array([step.wall_s for step in steps])
    starts = np.array([step.start_s for step in steps])
    between = np.append(starts[1:] - starts[:-1] - walls[:-1], np.nan)
    goes_on = [_goes_on(one, other) for one, other in pairwise(steps)]
    between[~np.array([*goes_on, False])] = np.nan
    usual = float(np.nanmedian(between)) if any(goes_on) else 0.0
    filled: NDArray[np.float64] = walls + np.where(np.isnan(between), usual, between)
    return filled


def _goes_on(one: StepRecord, other: StepRecord) -> bool:
    behind = {row.sequence: row.past_tokens + row.new_tokens for row in one.rows}
    return any(behind.get(row.sequence) == row.past_tokens for row in other.rows)
