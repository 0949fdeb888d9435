"""The host's step: lengths grow by one, slots follow the table."""

from __future__ import annotations

import torch

from kvsim.calibration.measure.bench import Bench
from kvsim.calibration.measure.families.host import BLOCK_SIZE, Step


def test_a_step_fills_the_arrays_as_an_engine_does() -> None:
    step = Step(40, Bench(torch.device("cpu"), l2_bytes=1))
    arrays = step._arrays
    step.prepare()
    before = arrays["positions"].copy()
    for _ in range(BLOCK_SIZE):  # every request crosses a block
        step.prepare()
    assert (arrays["positions"] == before + BLOCK_SIZE).all()
    assert (arrays["seq_lens"] == arrays["positions"] + 1).all()
    blocks = arrays["table"][range(40), arrays["positions"] // BLOCK_SIZE]
    assert len(set(blocks.tolist())) == 40, "every request has a block of its own"
    assert (arrays["slots"] == blocks * BLOCK_SIZE + arrays["positions"] % BLOCK_SIZE).all()


def test_what_is_uploaded_comes_down_again() -> None:
    step = Step(3, Bench(torch.device("cpu"), l2_bytes=1))
    step._arrays["tokens"][:] = (5, 6, 7)
    step.upload()
    step._arrays["tokens"][:] = 0
    assert step.download() == [5, 6, 7]
