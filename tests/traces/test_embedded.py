"""A trace inside another file: the same again, or refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from kvsim.traces import Trace
from kvsim.traces.embedded import trace_from_json, trace_json
from kvsim.traces.intake import Intake, take_in

EVERYTHING = Trace(
    name="all",
    prompt_tokens=np.array([20, 24, 9]),
    output_tokens=np.array([3, 1, 2]),
    arrival_s=np.array([0.1, 1 / 3, np.nan]),
    hash_ids=np.array([2**63 + 1, 7, 2**63 + 1], dtype=np.uint64),
    hash_offsets=np.array([0, 2, 3, 3]),
    hash_block_size=8,
    parent=np.array([-1, -1, 0]),
    delay_s=np.array([np.nan, np.nan, 0.5]),
    num_samples=np.array([1, 2, 1]),
    priority=np.array([1, 0, 0]),
    tenant=np.array([0, 1, 0]),
    cancel_s=np.array([np.nan, 4.0, np.nan]),
)
TURNS = take_in(
    Intake(workload="sharegpt", num_requests=20, rate_per_s=2.0, turns=3, prefix_groups=2,
           prefix_tokens=64)
).trace  # fmt: skip


@pytest.mark.parametrize("trace", [EVERYTHING, TURNS], ids=lambda trace: trace.name)
def test_it_comes_back(trace: Trace) -> None:
    again = trace_from_json(json.loads(json.dumps(trace_json(trace), allow_nan=False)))
    assert again.digest == trace.digest
    assert again.name == trace.name
    assert np.array_equal(again.arrival_s, trace.arrival_s, equal_nan=True)


def test_a_changed_column_is_refused() -> None:
    values = trace_json(EVERYTHING)
    values["columns"]["output_tokens"][1] = 2
    with pytest.raises(ValueError, match=r"^trace\(='all'\) must have the digest .* was changed.$"):
        trace_from_json(values)
