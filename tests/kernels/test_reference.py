"""The definitions themselves: by hand, and beside torch's own attention."""

from __future__ import annotations

from math import exp

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from kvsim.kernels import reference
from kvsim.kernels.operands import Variant


def column(*values: float) -> torch.Tensor:
    """``[tokens, 1 head, 1 lane]``."""
    return torch.tensor(values, dtype=torch.float64)[:, None, None]


def attended(variant: Variant) -> float:
    """Query 2 at position 2, keys 0, 1, 2, values 10, 20, 40."""
    out = reference.attention(column(2.0), column(0, 1, 2), column(10, 20, 40), variant)
    return float(out)


def softmax_of(scores: dict[float, float], sink: float | None = None) -> float:
    """From value to score."""
    total = sum(exp(s) for s in scores.values()) + (0 if sink is None else exp(sink))
    return sum(value * exp(s) for value, s in scores.items()) / total


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        (Variant(scale=1.0), softmax_of({10: 0, 20: 2, 40: 4})),
        (Variant(), softmax_of({10: 0, 20: 2, 40: 4})),
        (Variant(scale=0.5), softmax_of({10: 0, 20: 1, 40: 2})),
        (Variant(sliding_window=2), softmax_of({20: 2, 40: 4})),
        (Variant(sliding_window=1), 40),
        (Variant(k_scale=0.5, v_scale=3.0), 3 * softmax_of({10: 0, 20: 1, 40: 2})),
        (
            Variant(softcap=2.0),
            softmax_of({10: 0, 20: 2 * 0.7615941559557649, 40: 2 * 0.9640275800758169}),
        ),
        (
            Variant(alibi_slopes=torch.tensor([0.5])),
            softmax_of({10: 0 - 1.0, 20: 2 - 0.5, 40: 4}),
        ),
        (Variant(sinks=torch.tensor([3.0])), softmax_of({10: 0, 20: 2, 40: 4}, sink=3)),
    ],
)
def test_by_hand(variant: Variant, expected: float) -> None:
    assert attended(variant) == pytest.approx(expected, rel=1e-12)


def test_torch_agrees() -> None:
    draw = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(n, h, 16, generator=draw) for n, h in ((5, 4), (9, 2), (9, 2)))
    mask = torch.ones(5, 9, dtype=torch.bool).tril(4)
    theirs = scaled_dot_product_attention(
        *(x.transpose(0, 1)[None].double() for x in (q, k, v)), attn_mask=mask, enable_gqa=True
    )
    ours = reference.attention(q, k, v, Variant())
    assert torch.allclose(ours, theirs[0].transpose(0, 1), atol=1e-12)


def test_no_keys_give_zeros() -> None:
    out = reference.attention(column(1.0), column(), column(), Variant())
    assert out.tolist() == [[[0.0]]]


def test_rotation_by_hand() -> None:
    x = torch.tensor([[[1.0, 2.0, 3.0, 4.0, 9.0]]])
    quarter = (torch.zeros(1, 2), torch.ones(1, 2))  # cos, sin of 90 degrees
    neox = reference.rotate(x, *quarter, interleaved=False)
    assert neox.tolist() == [[[-3.0, -4.0, 1.0, 2.0, 9.0]]]
    gptj = reference.rotate(x, *quarter, interleaved=True)
    assert gptj.tolist() == [[[-2.0, 1.0, -4.0, 3.0, 9.0]]]


def test_quantised_values_stay_in_range() -> None:
    wild = torch.tensor([1e9, -1e9, 0.6, -0.4])
    assert reference.quantise(wild, torch.int8).tolist() == [127, -128, 1, 0]
    assert reference.quantise(wild, torch.float8_e4m3fn).float().tolist()[:2] == [448.0, -448.0]
