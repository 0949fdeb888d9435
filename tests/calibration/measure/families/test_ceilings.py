"""A sustained product is sampled in hundreds for as long as it is asked."""

from __future__ import annotations

import torch

from kvsim.calibration.measure.bench import Bench
from kvsim.calibration.measure.families import ceilings


class Clock(Bench):
    """Each run takes a tenth of a second."""

    def device_times_s(self, run: object, count: int) -> list[float]:
        return [0.1] * count


def test_ten_seconds_of_hundreds() -> None:
    bench = Clock(torch.device("cpu"), l2_bytes=1)
    x = {"what": "matmul_sustained", "dtype": "fp32", "flops": 2 * 4**3, "seconds": 10.0}
    times = ceilings.prepare(x, bench).call()
    assert times == [0.1 / 100] * 100


def test_a_product_has_the_flops_that_it_says() -> None:
    bench = Bench(torch.device("cpu"), l2_bytes=1)
    x = {"what": "matmul", "dtype": "fp32", "flops": 2 * 64**3}
    out = ceilings.prepare(x, bench).call()
    assert isinstance(out, torch.Tensor)
    assert out.shape == (64, 64)
