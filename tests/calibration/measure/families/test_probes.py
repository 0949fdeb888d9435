"""The two kernels that only a calibration has, beside plain torch."""

from __future__ import annotations

import torch

from kvsim.calibration.measure.families.probes import READ_VALUES, read_sums, silu_mul


def test_sums_of_what_is_read() -> None:
    values = torch.randn(3 * READ_VALUES + 5)
    out = torch.full((3,), float("nan"))
    read_sums(values, out)
    expected = values[: 3 * READ_VALUES].double().view(3, -1).sum(1)
    torch.testing.assert_close(out.double(), expected, rtol=1e-4, atol=1e-2)


def test_the_gated_activation_of_an_odd_width() -> None:
    gate_up = torch.randn(3, 2 * 1500)
    out = torch.full((3, 1500), float("nan"))
    silu_mul(gate_up, out)
    gate, up = gate_up.split(1500, dim=1)
    torch.testing.assert_close(out, torch.nn.functional.silu(gate) * up)
