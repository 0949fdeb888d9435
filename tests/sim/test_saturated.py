"""The run under backlog: how long its queue is, and that times do not matter."""

from __future__ import annotations

import pytest

from kvsim.sim.saturated import MAX_BACKLOG, MIN_BACKLOG, queue_length, saturate
from support.steady import STEP_S, alike, steady_server


def test_throughput_of_full_seats_by_hand() -> None:
    """8 seats, a token each in every step of 10 ms: 800 tokens/s."""
    trace = alike(50, prompt=16, output=5)
    server = steady_server(trace, blocks=500, max_num_seqs=8)
    result, backlog = saturate(server, trace, num_requests=400)
    assert len(result.status) == 400
    assert backlog.mean_running == pytest.approx(8)
    assert backlog.output_tokens_per_s == pytest.approx(8 / STEP_S, rel=0.01)


def test_the_trace_s_times_do_not_matter() -> None:
    lengths, timed = (alike(50, prompt=16, output=5, every_s=t) for t in (None, 3.0))
    server = steady_server(lengths, blocks=60)
    assert saturate(server, lengths)[1] == saturate(server, timed)[1]


def test_the_queue_is_four_turnovers_within_bounds() -> None:
    trace = alike(10, prompt=24, output=16)  # half done: 32 tokens, two blocks
    assert queue_length(steady_server(trace, blocks=100), trace) == MIN_BACKLOG
    assert queue_length(steady_server(trace, blocks=1999), trace) == 4 * (1999 // 2 + 1)
    assert queue_length(steady_server(trace, blocks=60_000), trace) == MAX_BACKLOG


def test_a_pool_that_holds_no_request_is_refused() -> None:
    trace = alike(10, prompt=500, output=16)
    server = steady_server(trace, blocks=64, max_num_seqs=4)
    small = steady_server(alike(10, prompt=20, output=4), blocks=4)
    saturate(server, trace, num_requests=20)
    with pytest.raises(ValueError, match=r"trace\(='alike'\) has no request that the server can"):
        saturate(small, trace)
