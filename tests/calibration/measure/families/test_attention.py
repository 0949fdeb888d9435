"""Attention operands: tables that name each block once, results that are attention's."""

from __future__ import annotations

import pytest
import torch

from kvsim.calibration.measure.bench import Bench
from kvsim.calibration.measure.families import attention

X = {
    "kind": "paged",
    "dtype": "fp32",
    "kv_dtype": "fp32",
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 16,
    "block_size": 4,
    "seq_lens": [[9, 1], [3, 1]],
    "sliding_window": 0,
}


@pytest.fixture
def bench() -> Bench:
    return Bench(torch.device("cpu"), l2_bytes=1 << 12)


def test_every_block_belongs_to_one_sequence_of_one_set(bench: Bench) -> None:
    kv = attention.paged_kv(X, bench, [9, 3])
    assert len(kv.tables) == 4  # 4 blocks of 4 tokens, 256 bytes each, a set; 16 KiB in all
    assert kv.keys.shape == kv.values.shape == (16, 4, 2, 16)
    named = torch.cat([table[table >= 0] for table in kv.tables])
    assert sorted(named.tolist()) == list(range(16))
    assert kv.tables[0].shape == (2, 16), "rows are a multiple of 16 entries"
    assert [(row >= 0).sum().item() for row in kv.tables[0]] == [3, 1]
    assert kv.keys.data_ptr() != kv.values.data_ptr()


def test_a_call_is_attention_over_the_blocks_it_names(bench: Bench) -> None:
    kv = attention.paged_kv(X, bench, [9, 3])
    work = attention.prepare(X, bench)  # the same pool, other tables
    out = work.call()
    assert isinstance(out, torch.Tensor)
    assert out.shape == (2, 4, 16)
    assert out.isfinite().all()
    low, high = kv.values.amin(), kv.values.amax()
    assert (out >= low).all(), "a mean of values lies between them"
    assert (out <= high).all()


def test_each_call_reads_other_blocks(bench: Bench) -> None:
    work = attention.prepare(X, bench)
    outs = [work.call().clone() for _ in range(work.num_sets + 1)]  # type: ignore[attr-defined]
    assert not torch.equal(outs[0], outs[1])
    assert torch.equal(outs[0], outs[work.num_sets])


def test_quantised_caches_have_a_scale(bench: Bench) -> None:
    assert not attention.variant_of(X, bench).is_scaled
    assert attention.variant_of({**X, "kv_dtype": "int8"}, bench).is_scaled
