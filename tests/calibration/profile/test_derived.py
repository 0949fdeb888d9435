"""Cards that nobody measured: which one they are derived from, how far off, what is said of it.

pytest -s tests/calibration/profile/test_derived.py -k tables      prints all figures
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvsim.calibration.costs import step_cost
from kvsim.calibration.gpus import known_gpus, load_gpu
from kvsim.calibration.models import load_model
from kvsim.calibration.operator_cost import OperatorCost
from kvsim.calibration.profile.derived import derived_cost, references
from kvsim.calibration.silicon import SYSTEMS
from kvsim.calibration.step_cost import Batch
from support.command import run
from support.left_out import INSIDE_A_GENERATION, missed, of_another_generation, together

LLAMA = load_model("llama-3.1-8b")
NEAREST = {
    "a100-pcie": "a100",
    "a30": "a100",
    "a10g": "a100",
    "rtx-a6000": "a100",
    "l4": "l40s",
    "rtx-4090": "l40s",
    "h100-pcie": "h100-sxm",
    "h100-nvl": "h100-sxm",
    "h20": "h100-sxm",
    "rtx-5090": "rtx-pro-6000",
    "mi300x": "h200",
    # with tables of their own, as if they had none:
    "h200": "h100-sxm",
    "b200": "b300",
    "a100": "rtx-pro-6000",
    "l40s": "rtx-pro-6000",
}


@pytest.mark.parametrize("gpu", NEAREST)
def test_the_nearest_card(gpu: str) -> None:
    assert references(load_gpu(gpu))[0].name == NEAREST[gpu]


def test_auto_derives_every_card_without_tables() -> None:
    for gpu in known_gpus():
        found = step_cost("auto", model=LLAMA, gpu=gpu)
        assert found.source == ("silicon" if gpu.name in SYSTEMS else "derived"), gpu.name
        assert found.band.low < 0.90 or found.source == "silicon"


def test_a_card_of_ones_own_is_derived() -> None:
    mine = replace(load_gpu("h100-sxm"), name="mine", memory_bandwidth_bytes_per_s=3.0e12)
    found = step_cost("auto", model=LLAMA, gpu=mine)
    assert found.origin.startswith(
        "derived (scaled from h100-sxm by datasheet figures: bandwidth x"
    )
    known = step_cost("silicon", model=LLAMA, gpu=load_gpu("h100-sxm"))
    batch = Batch(64, 64 * 4096)
    assert 1.05 < found.step_ns(batch) / known.step_ns(batch) < 3.35 / 3.0


def test_the_card_may_be_named() -> None:
    named = step_cost("derived:a100", model=LLAMA, gpu=load_gpu("l4"))
    assert named.origin.startswith(
        "derived (scaled from a100 by datasheet figures and what the generations reach of them: "
    )
    assert step_cost("derived", model=LLAMA, gpu=load_gpu("l4")).origin.startswith(
        "derived (scaled from l40s"
    )
    with pytest.raises(ValueError, match=r"gpu\(='h1000'\) is unknown"):
        step_cost("derived:h1000", model=LLAMA, gpu=load_gpu("l4"))
    with pytest.raises(ValueError, match=r"'derived'\) cannot be had: there are no measured"):
        step_cost("derived:a30", model=LLAMA, gpu=load_gpu("l4"))


def test_what_the_nearest_card_lacks_the_datasheet_gives() -> None:
    """The A100 has no latent attention: neither has an A30, and nobody else is asked."""
    latent = load_model("deepseek-v2-lite")
    found = step_cost("auto", model=latent, gpu=load_gpu("a30"))
    assert found.origin.startswith("datasheet (aiconfigurator-core has no mla")
    with pytest.raises(ValueError, match=r"'derived'\) cannot be had: aiconfigurator-core has no"):
        step_cost("derived", model=latent, gpu=load_gpu("a30"))
    assert step_cost("auto", model=latent, gpu=load_gpu("h20")).source == "derived"


def test_without_the_tables_the_datasheet_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvsim.calibration.silicon.systems.find_spec", lambda _: None)
    found = step_cost("auto", model=LLAMA, gpu=load_gpu("l4"))
    assert found.origin.startswith("datasheet (aiconfigurator-core, which ships the measured")


def test_the_source_says_what_it_is() -> None:
    """Never calibrated: from which card, by which ratios, how far in doubt."""
    found = derived_cost(model=LLAMA, gpu=load_gpu("l4"), why="nobody measured it")
    assert found.source == "derived"
    assert found.origin == (
        "derived (scaled from l40s by datasheet figures: bandwidth x0.35, FLOP/s x0.33; silicon of "
        "aiconfigurator-core 0.12.0, l40s; nobody measured it)"
    )
    assert found.caveats == (
        "Step times of l4 are derived: l40s's, scaled by datasheet ratios; nothing was measured on "
        "it.",
    )
    described = found.describe()["derived_from"]
    assert isinstance(described, dict)
    assert described["card"] == "l40s"
    assert described["bandwidth_ratio"] == pytest.approx(300 / 864)
    assert described["relative_uncertainty"] == {
        "read": 0.10,
        "compute": 0.15,
        "experts": 0.25,
        "link": 0.15,
        "launch": 0.30,
    }
    assert "attention" in found.operators.derived
    across = derived_cost(model=LLAMA, gpu=load_gpu("mi300x"))
    assert "derived across generations" in across.caveats[0]
    assert "assumed efficiencies" in across.caveats[0]


def test_doubt_reaches_the_band_by_shares_of_the_step() -> None:
    """Decodes read (10 %), prefills compute (15 %); the card's own band is what is widened."""
    found, own = (step_cost("auto", model=LLAMA, gpu=load_gpu(gpu)) for gpu in ("l4", "l40s"))
    reading, computing = Batch(64, 64 * 1024), Batch(0, 0, ((2048, 0),))
    assert own.band.high * 1.09 < found.band_of(reading).high < own.band.high * 1.13
    assert own.band.high * 1.13 < found.band_of(computing).high < own.band.high * 1.16
    terms = found.terms(reading)
    doubt = sum(t.ns * t.doubt for t in terms) / sum(t.ns for t in terms)
    far = sum(t.ns * 0.05 * (t.distance or 0) for t in terms) / sum(t.ns for t in terms)
    band = found.band_of(reading)
    assert band.low == pytest.approx(own.band.low / (1 + doubt + far))
    assert found.band.high == pytest.approx(own.band.high * 1.135, rel=0.005)
    assert "wider by the doubt of what is scaled" in found.band.source
    across = step_cost("auto", model=LLAMA, gpu=load_gpu("mi300x"))
    assert across.band.high == pytest.approx(own.band.high * 1.25, rel=0.01)


def test_the_plan_prints_the_wider_interval() -> None:
    said = " ".join(run("cost", "--gpu", "l4", "--batch", "8x1k").stdout.split())
    assert "Source: derived (scaled from l40s" in said
    shown = run("simulate", "--gpu", "l4", "--prompt-tokens", "100", "--output-tokens", "20",
                "--concurrency", "4", "-n", "20")  # fmt: skip
    assert "step times: derived (scaled from l40s" in " ".join(shown.stdout.split())


@lru_cache
def derived(gpu: str, model: str, size: int) -> OperatorCost:
    return derived_cost(
        model=load_model(model), gpu=load_gpu(gpu), tensor_parallel_size=size, max_num_seqs=256
    )


@given(
    of=st.sampled_from(
        [("l4", "llama-3.1-8b", 1), ("a30", "gemma-3-27b", 2), ("h20", "deepseek-v3", 8)]
    ),
    num=st.integers(1, 300),
    mean=st.one_of(st.floats(1, 60_000), st.floats(1000, 1030)),
    stretch=st.floats(1.0, 8.0),
    k=st.integers(0, 100),
)
@settings(max_examples=60, deadline=None)
def test_span_is_the_sum_of_its_steps(
    of: tuple[str, str, int], num: int, mean: float, stretch: float, k: int
) -> None:
    found = derived(*of)
    batch = Batch(num, round(num * mean), (), 0, round(mean * stretch))
    steps = [
        found.step_ns(
            batch._replace(
                decode_context_tokens=batch.decode_context_tokens + j * num,
                longest_context_tokens=batch.longest_context_tokens + j,
            )
        )
        for j in range(k)
    ]
    assert found.span_s(batch, k) == pytest.approx(math.fsum(steps) / 1e9, rel=1e-12)


# ---------------------------------------------------------------------- leaving cards out


def test_cards_with_tables_of_their_own_inside_a_generation() -> None:
    """Hopper and Blackwell cards, each from the nearest other one: half are met to 3 %."""
    found = {card: missed(card) for card in INSIDE_A_GENERATION}
    for card, one in found.items():
        print(f"{card:14} {one}")
        assert np.median(np.abs(one.derived)) < 0.05, card
        assert np.median(np.abs(one.derived)) < np.median(np.abs(one.datasheet)), card
        assert one.in_band.mean() > 0.95, card
    all_of_them = together(list(found.values()))
    print(f"{'together':14} {all_of_them}")
    assert np.median(np.abs(all_of_them.derived)) < 0.035
    assert all_of_them.in_band.mean() > 0.98


def test_cards_with_tables_of_their_own_across_generations() -> None:
    """Every card, from the nearest one of another generation: half are met to 9 %.

    The datasheet misses half by 14 %, though its efficiencies were taken from these very tables;
    it is the nearer one for the RTX PRO 6000 (from an A100) alone.
    """
    found = {card: missed(card, of_another_generation(card)) for card in SYSTEMS}
    for card, one in found.items():
        print(f"{card:14} from {of_another_generation(card):14} {one}")
        assert np.median(np.abs(one.derived)) < 0.15, card
        assert one.in_band.mean() > 0.88, card
    all_of_them = together(list(found.values()))
    print(f"{'together':14} {'':19} {all_of_them}")
    assert np.median(np.abs(all_of_them.derived)) < 0.10
    assert np.median(np.abs(all_of_them.datasheet)) > 0.12
    assert all_of_them.in_band.mean() > 0.95
    worse = {
        card
        for card, one in found.items()
        if np.median(np.abs(one.derived)) > np.median(np.abs(one.datasheet))
    }
    assert worse == {"rtx-pro-6000"}
