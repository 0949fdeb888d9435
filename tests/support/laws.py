"""What must hold of every result, and of two runs of one simulation."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from kvsim.sim.result import CANCELLED, FINISHED, REJECTED, Result
from kvsim.sim.summary import CATEGORIES, summarise


def assert_equal(macro: Result, exact: Result) -> None:
    """Macro-steps and single steps give the same result, times to rounding."""
    for name, column in exact.requests.items():
        if column.dtype.kind == "f":
            np.testing.assert_allclose(macro.requests[name], column, rtol=1e-9, err_msg=name)
        else:
            np.testing.assert_array_equal(macro.requests[name], column, err_msg=name)
    assert macro.num_steps == exact.num_steps
    assert macro.peak_waiting == exact.peak_waiting
    assert_close(summarise(macro).to_json(), summarise(exact).to_json())


def assert_close(macro: object, exact: object) -> None:
    """Equal JSON values, numbers to rounding."""
    if isinstance(exact, dict):
        assert isinstance(macro, dict)
        assert list(macro) == list(exact)
        for key in exact:
            assert_close(macro[key], exact[key])
    elif isinstance(exact, float):
        assert macro == pytest.approx(exact, rel=1e-8, abs=1e-8)
    else:
        assert macro == exact


def assert_causal(result: Result) -> None:
    """Everybody ends, times go forward, the pool's shares sum to 1."""
    requests = result.requests
    done = result.status == FINISHED
    rejected = result.status == REJECTED
    cancelled = result.status == CANCELLED
    assert (done | rejected | cancelled).all(), "every request ends, is rejected or is cancelled"
    assert (np.asarray(requests["reject_reason"])[rejected] != "").all()
    order = ["arrival_s", "scheduled_s", "first_token_s", "finish_s"]
    times = [np.asarray(requests[name], dtype=float)[done] for name in order]
    for earlier, later in pairwise(times):
        assert (earlier <= later).all()
    segments = result.segments
    ends = np.asarray(segments["start_s"]) + np.asarray(segments["duration_s"])
    assert (np.asarray(segments["duration_s"]) > 0).all(), "time never goes back"
    np.testing.assert_array_less(ends[:-1], np.asarray(segments["start_s"])[1:] + 1e-9)
    total = sum(np.asarray(segments[name], dtype=float) for name in CATEGORIES)
    np.testing.assert_allclose(total, result.pool_slots, rtol=1e-9)
    for name in CATEGORIES:
        assert (np.asarray(segments[name]) >= -1e-6).all(), name
