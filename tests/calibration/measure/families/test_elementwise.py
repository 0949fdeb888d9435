"""Sampling keeps to the top k and the top p."""

from __future__ import annotations

import torch

from kvsim.calibration.measure.families.elementwise import TOP_K, sampled


def test_a_token_is_drawn_from_the_likely_ones() -> None:
    torch.manual_seed(0)
    logits = torch.randn(64, 1000) * 3
    tokens = sampled(logits)
    assert tokens.shape == (64, 1)
    best = logits.topk(TOP_K).indices
    assert (tokens == best).any(dim=1).all()
    assert (tokens[:, 0] != best[:, 0]).any(), "not always the likeliest"


def test_a_token_beyond_the_top_p_is_never_drawn() -> None:
    torch.manual_seed(0)
    probabilities = torch.tensor(
        [0.5, 0.38, 0.08, 0.04]
    )  # 0.88 before the third, 0.96 before the last
    tokens = sampled(probabilities.log().expand(4000, 4))
    assert set(tokens.unique().tolist()) == {0, 1, 2}


def test_one_token_that_has_all_the_probability_is_drawn() -> None:
    logits = torch.zeros(4, 100)
    logits[:, 7] = 50.0
    assert (sampled(logits) == 7).all()
