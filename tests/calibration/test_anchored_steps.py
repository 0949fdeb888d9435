"""Step times beside published ones: the H100 decode law, its loaded case, Splitwise's shapes."""

from __future__ import annotations

from itertools import pairwise

import pytest

from kvsim.calibration.step_cost import Batch
from support.anchors import (
    INTERCEPT_MS,
    LOADED_TOKENS_PER_S,
    LOADED_TTFT_MEAN_S,
    SLOPE_MS,
    SPLITWISE_PROMPT_MS,
    cost_of,
    decode_law,
    loaded_run,
    prompt_ms,
)


@pytest.mark.parametrize("source", ["silicon", "datasheet"])
def test_decode_law_of_an_h100(source: str) -> None:
    """Published: 6.44 ms + 4.37e-5 ms a token; silicon finds 6.48 and 4.70e-5."""
    law = decode_law(source)
    assert law.slope_ms == pytest.approx(SLOPE_MS, rel=0.12)
    assert law.intercept_ms == pytest.approx(INTERCEPT_MS, rel=0.15)


def test_loaded_h100() -> None:
    """Published: 450.3 tok/s at 8 clients with 20k tokens each; silicon finds 468."""
    summary = loaded_run("silicon")
    assert summary.num_finished == 150
    assert summary.output_tokens_per_s == pytest.approx(LOADED_TOKENS_PER_S, rel=0.12)
    assert summary.ttft_s.mean == pytest.approx(LOADED_TTFT_MEAN_S, rel=0.12)


def test_splitwise_prompts() -> None:
    """Rise with the prompt, at least in proportion at the end; fall with GPUs; H100 before A100."""
    ours = {key: prompt_ms("silicon", *key) for key in SPLITWISE_PROMPT_MS}
    for times in ours.values():
        assert all(a < b for a, b in pairwise(times))
        assert times[-1] > 1.9 * times[-2]
    for gpu in ("a100", "h100-sxm"):
        for few, many in ((2, 4), (4, 8)):
            pairs = list(zip(ours[gpu, few], ours[gpu, many], strict=True))
            assert all(1.3 < a / b < 2.0 for a, b in pairs)
    for size in (2, 4, 8):
        pairs = list(zip(ours["h100-sxm", size], ours["a100", size], strict=True))
        assert all(0.3 < a / b < 0.51 for a, b in pairs)  # published: 0.51 of an early stack
    published = SPLITWISE_PROMPT_MS["a100", 2]
    for mine, theirs in zip(ours["a100", 2], published, strict=True):
        assert mine == pytest.approx(theirs, rel=0.25)


def test_splitwise_decodes() -> None:
    """Nearly flat in the batch, and never falling: 49 ms on two A100s, published 55."""
    for gpu, size in SPLITWISE_PROMPT_MS:
        cost = cost_of("silicon", "llama-2-70b", gpu, tensor_parallel_size=size)
        times = [cost.step_ns(Batch(n, 512 * n)) / 1e6 for n in (1, 2, 4, 8, 16, 32, 64)]
        assert all(a <= b for a, b in pairwise(times))
        assert times[-1] < 1.7 * times[0]  # published: 1.6 on eight GPUs
    cost = cost_of("silicon", "llama-2-70b", "a100", tensor_parallel_size=2)
    assert cost.step_ns(Batch(1, 512)) / 1e6 == pytest.approx(55, rel=0.15)
