"""Multi-turn sessions: later prompts repeat what was said before.

Turn k's prompt = turn k-1's prompt + turn k-1's output + newly drawn tokens. A later turn starts
when the turn before has ended and the user has thought: gamma with a mean and a CV (1 =
exponential).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .columns import Floats, Ints, whole_ns
from .lengths import Lengths


@dataclass(frozen=True, slots=True, kw_only=True)
class Sessions:
    """`turns`: distribution of the number of turns; think time in seconds."""

    turns: Lengths
    think_mean_s: float = 0.0
    think_cv: float = 1.0

    def __post_init__(self) -> None:
        if not (self.think_mean_s >= 0 and math.isfinite(self.think_mean_s)):
            raise ValueError(f"think_mean_s(={self.think_mean_s}) must be >= 0.")
        if not (self.think_cv > 0 and math.isfinite(self.think_cv)):
            raise ValueError(f"think_cv(={self.think_cv}) must be > 0.")

    def number(self, num_requests: int, rng: np.random.Generator) -> Ints:
        """(n,) session of each request, from 0; the last session may be cut short."""
        session = np.repeat(np.arange(num_requests), self.turns.sample(num_requests, rng))
        return session[:num_requests].astype(np.int64)

    def think_s(self, n: int, rng: np.random.Generator) -> Floats:
        """(n,) pauses in seconds, whole nanoseconds."""
        shape = self.think_cv**-2
        return whole_ns(rng.gamma(shape, 1 / shape, n) * self.think_mean_s)


def parents_of(session: Ints) -> Ints:
    """(n,) row of the previous turn, -1 for a first turn; a session's rows lie side by side."""
    rows = np.arange(len(session))
    first = np.concatenate(([True], session[1:] != session[:-1]))
    return np.where(first, -1, rows - 1).astype(np.int64)


def grown_prompts(new_tokens: Ints, output_tokens: Ints, session: Ints) -> Ints:
    """(n,) prompts that hold all earlier turns of their session."""
    said = np.cumsum(new_tokens + output_tokens)
    before = said - new_tokens - output_tokens  # of all rows above
    first = np.searchsorted(session, session)  # first row of each row's session
    return np.asarray(before - before[first] + new_tokens, dtype=np.int64)


def split_sessions(session: Ints, too_long: NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """Sessions renumbered so that each one's first too long later turn begins a new one.

    Also the rows of first turns that are too long themselves.
    """
    starts = parents_of(session) < 0
    later = np.flatnonzero(too_long & ~starts)
    again = np.flatnonzero(too_long & starts)
    starts[later[np.unique(session[later], return_index=True)[1]]] = True
    return np.cumsum(starts).astype(np.int64) - 1, again
