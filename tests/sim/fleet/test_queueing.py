"""Fleets against queueing theory, where theory has the answer (``support/queues.py``)."""

from __future__ import annotations

import pytest

from support.queues import answers, e_m_1_each, m_d_n, m_m_n, waits_s


@pytest.mark.parametrize(
    ("router", "replicas", "load"),
    [
        ("least_outstanding", 4, 0.7),
        *(
            pytest.param(router, *fleet, marks=pytest.mark.slow)
            for router in ("round_robin", "least_kv")
            for fleet in ((1, 0.6), (2, 0.8), (5, 0.7))
        ),
    ],
)
def test_one_queue_is_m_m_n(router: str, replicas: int, load: float) -> None:
    """Who waits at the router goes to the first replica that is free: Erlang C for any router."""
    assert abs(m_m_n(replicas, load, router).error) < 0.08


@pytest.mark.parametrize(
    ("replicas", "load"), [(2, 0.8), pytest.param(4, 0.7, marks=pytest.mark.slow)]
)
def test_one_queue_is_m_d_n(replicas: int, load: float) -> None:
    assert abs(m_d_n(replicas, load).error) < 0.06


@pytest.mark.parametrize(
    ("replicas", "load"), [(2, 0.7), pytest.param(4, 0.8, marks=pytest.mark.slow)]
)
def test_round_robin_is_e_m_1_each(replicas: int, load: float) -> None:
    assert abs(e_m_1_each(replicas, load).error) < 0.12


@pytest.mark.slow
def test_the_shortest_queue_lies_between() -> None:
    """Worse than one queue for all, better than taking turns."""
    outputs = answers(4_000)
    one_queue = waits_s(4, 0.85, "round_robin", outputs=outputs, max_ongoing_requests=1).mean()
    shortest = waits_s(4, 0.85, "least_outstanding", outputs=outputs).mean()
    turns = waits_s(4, 0.85, "round_robin", outputs=outputs).mean()
    assert one_queue < 0.9 * shortest
    assert shortest < 0.9 * turns
