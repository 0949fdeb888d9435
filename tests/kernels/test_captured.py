"""On a card: a captured step stays right when the lengths on the device change."""

from __future__ import annotations

import pytest
import torch

from kvsim.kernels.operands import Variant
from kvsim.kernels.paged_decode import paged_decode, plan_decode_for
from support.paged import TOLERANCE, make_batch, relative_error

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


def test_a_graph_plans_for_the_lengths_that_it_finds() -> None:
    batch = make_batch((300, 47, 130, 9), dtype=torch.bfloat16, head_dim=128, heads=8, kv_heads=2)
    lens, out = batch.seq_lens.clone(), torch.empty_like(batch.query)

    def step() -> None:
        work = plan_decode_for(batch.query, batch.key_cache, lens)
        tensors = (batch.key_cache, batch.value_cache, batch.block_table, lens)
        paged_decode(batch.query, *tensors, work=work, out=out)

    step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    for shorter in (0, 5):
        lens.copy_(batch.seq_lens - shorter)
        out.fill_(torch.nan)
        graph.replay()
        torch.cuda.synchronize()
        cut = type(batch)(
            query=batch.query,
            key_cache=batch.key_cache,
            value_cache=batch.value_cache,
            block_table=batch.block_table,
            query_start_loc=batch.query_start_loc,
            seq_lens=batch.seq_lens - shorter,
        )
        assert relative_error(out, cut.expected(Variant())) <= TOLERANCE[torch.bfloat16]
