"""A published run of a real server lies in the ``datasheet`` source's own band."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from support.measured import MEASURED, TRACE, figure, simulated_run


def test_the_truth_lies_in_the_band(shared_file: Callable[[str], Path]) -> None:
    server, summary = simulated_run(shared_file(TRACE))
    assert summary.num_finished == 300
    assert summary.peak_running == 128
    band = server.cost.band
    for name, measured in MEASURED.items():
        simulated = figure(summary, name)
        if name == "output_tokens_per_s":  # a rate: slower steps, fewer tokens
            simulated, measured = 1 / simulated, 1 / measured
        assert simulated * band.low <= measured <= simulated * band.high, name
        assert simulated == pytest.approx(measured, rel=0.15), name
