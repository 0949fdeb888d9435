"""How many of which GPU: who wins is known by arithmetic."""

from __future__ import annotations

from typing import Any

import pytest

from kvsim.sim.planner import decide as deciding
from kvsim.sim.planner.shares import Confirmation
from kvsim.sim.planner.sizing import replicas_for
from kvsim.sim.server import Server
from support.planned import a_confirmation, decided, fake_searches, reason

RATES = {"a100": 10.0, "h100-sxm": 25.0, "h200": 32.0}
"""With 1.30, 3.00 and 4.00 USD per hour: 0.130, 0.120 and 0.125 for each request a second."""
THREE = {"gpu": ("a100", "h100-sxm", "h200")}


def by_gpu(server: Server) -> float:
    return RATES[server.gpu.name] * server.deployment.tensor_parallel_size


@pytest.mark.parametrize(
    ("target", "rate", "replicas"),
    [(20, 10, 2), (20.1, 10, 3), (3, 10, 1), (0.3, 0.1, 3), (1.1, 0.1, 11), (20, 9.1, 3)],
)
def test_replicas_are_the_ceiling(target: float, rate: float, replicas: int) -> None:
    assert replicas_for(target, rate) == replicas


@pytest.mark.parametrize(
    ("target", "winner", "replicas", "usd"),
    [
        (10, "a100", 1, 1.30),
        (20, "a100", 2, 2.60),  # one H100 costs 3.00
        (24, "h100-sxm", 1, 3.00),  # three A100 cost 3.90
        (30, "a100", 3, 3.90),  # one H200 costs 4.00, two H100 6.00
        (32, "h200", 1, 4.00),  # four A100 cost 5.20
        (60, "a100", 6, 7.80),  # two H200 8.00, three H100 9.00
    ],
)
def test_the_cheapest_that_carries_the_target_wins(
    monkeypatch: pytest.MonkeyPatch, target: float, winner: str, replicas: int, usd: float
) -> None:
    fake_searches(monkeypatch, by_gpu)
    decision = decided(THREE, target_rate_per_s=target)
    assert decision.chosen is not None
    assert decision.chosen.title == winner
    assert decision.chosen.num_replicas == replicas
    assert decision.chosen.usd_per_hour == pytest.approx(usd)
    assert {one.title for one in decision.losers} == set(RATES) - {winner}


def test_losers_say_by_how_much(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_searches(monkeypatch, by_gpu)
    decision = decided(THREE, target_rate_per_s=20.0)
    assert reason(decision, "h100-sxm") == "1.15x the price: 1 GPU, 3.00 USD/h"
    assert reason(decision, "h200") == "1.54x the price: 1 GPU, 4.00 USD/h"
    assert decision.runner_up is not None
    assert decision.runner_up.title == "h100-sxm"
    found = next(o for o in decision.to_json()["options"] if o["title"] == "a100")  # type: ignore[attr-defined]
    # 2.60 USD/h over 20 requests/s of 100 tokens: 7.2 million tokens an hour
    assert found["usd_per_million_output_tokens"] == pytest.approx(2.60 / 7.2, rel=1e-8)
    assert (found["price_date"], found["usd_per_gpu_hour"]) == ("2026-05", 1.30)
    assert found["price_source"]


@pytest.mark.parametrize(
    ("price", "winner"),
    [
        (("h100-sxm=2.5",), "h100-sxm"),
        (("a100=1.6", "h200=3.1"), "h100-sxm"),
        (("a100=0.5", "h200=0.5"), "h200"),
    ],
)
def test_a_price_given_replaces_the_catalogue(
    monkeypatch: pytest.MonkeyPatch, price: tuple[str, ...], winner: str
) -> None:
    fake_searches(monkeypatch, by_gpu)
    decision = decided({**THREE, "price": price}, target_rate_per_s=20.0)
    assert decision.chosen is not None
    assert decision.chosen.title == winner
    assert decision.chosen.server.gpu.price_source in (
        "given by the user",
        "midpoint of a May 2026 survey, specialty providers",
    )


def test_without_a_target_the_cheapest_token_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_searches(monkeypatch, by_gpu)
    decision = decided(THREE)
    assert decision.chosen is not None
    assert decision.chosen.title == "h100-sxm"  # 0.120 USD/h for each request a second
    assert decision.chosen.num_replicas == 1
    assert reason(decision, "a100") == "1.08x the price per output token"
    assert decision.share_per_s == 25.0


def test_fewer_gpus_at_one_price(monkeypatch: pytest.MonkeyPatch) -> None:
    """TP 2 holds three times the rate of TP 1 here: two of them are four GPUs, as four of TP 1."""
    fake_searches(
        monkeypatch, lambda server: 10.0 if server.deployment.tensor_parallel_size == 1 else 20.0
    )
    decision = decided(flags={"tensor_parallel_size": (2, 1)}, target_rate_per_s=10.0)
    assert decision.chosen is not None
    assert decision.chosen.title == "a100, TP 1"
    assert reason(decision, "a100, TP 2") == "2.00x the price: 2 GPUs, 2.60 USD/h"
    free = decided({"price": "0"}, {"tensor_parallel_size": (2, 1)}, target_rate_per_s=10.0)
    assert free.chosen is not None
    assert free.chosen.title == "a100, TP 1"
    assert reason(free, "a100, TP 2") == "2 GPUs instead of 1"


def test_a_gpu_without_a_price_loses_only_beside_priced_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_searches(monkeypatch, lambda server: 10.0)
    decision = decided({"gpu": ("a100", "l40s")}, target_rate_per_s=20.0)
    assert decision.chosen is not None
    assert decision.chosen.title == "a100"
    assert reason(decision, "l40s") == "no price is known: give --price l40s=..."
    assert decision.runner_up is None
    alone = decided({"gpu": ("l40s", "rtx-4090")}, target_rate_per_s=20.0)
    assert alone.chosen is not None
    assert alone.chosen.num_gpus == 2


def test_what_does_not_fit_loses_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_searches(monkeypatch, lambda server: 10.0)
    decision = decided({"gpu": ("a30", "a100"), "model": "qwen3-32b"}, target_rate_per_s=5.0)
    assert decision.chosen is not None
    assert decision.chosen.title == "a100"
    assert "do not fit" in reason(decision, "a30")
    with pytest.raises(ValueError, match=r"do not fit the .* of a30 allows"):
        decided({"gpu": ("a30", "a10g"), "model": "qwen3-32b"}, target_rate_per_s=5.0)


def test_a_size_that_the_heads_do_not_allow_loses(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_searches(monkeypatch, lambda server: 10.0)
    decision = decided(flags={"tensor_parallel_size": (1, 3)}, target_rate_per_s=5.0)
    assert "must divide the 32 attention heads" in reason(decision, "a100, TP 3")


def test_no_rate_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_searches(monkeypatch, lambda server: 10.0 if server.gpu.name == "h200" else 0.0)
    decision = decided(THREE, target_rate_per_s=20.0)
    assert decision.met
    assert reason(decision, "a100") == ("no rate holds: at 0.1/s TPOT P95 is 61 ms > 50 ms")
    fake_searches(monkeypatch, lambda server: 0.0)
    none = decided(THREE, target_rate_per_s=20.0)
    assert not none.met
    assert none.chosen is None
    assert none.nearest is not None
    assert none.miss == (
        "Nearest is a100: at 0.1/s TPOT P95 is 61 ms > 50 ms; --slo-tpot 62ms would hold there."
    )
    assert none.to_json()["met"] is False


def test_max_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_searches(monkeypatch, by_gpu)
    decision = decided(THREE, target_rate_per_s=60.0, max_gpus=2)
    assert decision.chosen is not None
    assert decision.chosen.title == "h200"
    assert reason(decision, "a100") == "needs 6 GPUs: max_gpus is 2"
    none = decided(THREE, target_rate_per_s=60.0, max_gpus=1)
    assert not none.met
    assert none.miss == ("Nearest is h200: 1 GPU holds 32/s of 60/s; max_gpus 2 would carry it.")


def test_replicas_that_do_not_keep_it_together_get_one_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two A100 should carry 20/s; they do not, and three cost more than an H100."""
    fake_searches(monkeypatch, by_gpu)
    asked: list[tuple[str, int]] = []

    def confirm(server: Server, *args: Any, num_replicas: int, **_: object) -> Confirmation:
        asked.append((server.gpu.name, num_replicas))
        return a_confirmation(20.0, num_replicas, holds=server.gpu.name != "a100")

    monkeypatch.setattr(deciding, "confirm", confirm)
    decision = decided(THREE, target_rate_per_s=20.0)
    assert asked == [("a100", 2), ("h100-sxm", 1)]
    assert decision.chosen is not None
    assert decision.chosen.title == "h100-sxm"
    assert reason(decision, "a100") == "1.30x the price: 3 GPUs, 3.90 USD/h"
    asked.clear()
    alone = decided(target_rate_per_s=20.0)
    assert asked == [("a100", 2), ("a100", 3), ("a100", 4)]
    assert not alone.met
    assert reason(alone, "a100") == "4 replicas together keep it for 90.0% only"


def test_neighbours_say_where_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of each GPU is searched first, whatever the order of the grid."""
    searched = fake_searches(monkeypatch, by_gpu)
    decided({"gpu": ("a100", "h200")}, {"block_size": (16, 32)})
    assert searched == [
        "a100, block_size 16",
        "h200, block_size 16",
        "a100, block_size 32",
        "h200, block_size 32",
    ]


def test_the_runner_up_is_on_other_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 32 on the same GPU come second in the order, an H100 is the other choice."""
    fake_searches(monkeypatch, by_gpu)
    decision = decided(THREE, {"block_size": (16, 32)}, target_rate_per_s=20.0)
    assert decision.chosen is not None
    assert decision.chosen.title == "a100, block_size 16"
    assert decision.runner_up is not None
    assert decision.runner_up.title == "h100-sxm, block_size 16"
    alone = decided(flags={"block_size": (16, 32)}, target_rate_per_s=20.0)
    assert alone.runner_up is not None
    assert alone.runner_up.title == "a100, block_size 32"
