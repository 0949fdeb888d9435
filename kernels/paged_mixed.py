"""Attention of a mixed step: decodes and chunks, each by the kernel that is made for it."""

from __future__ import annotations

import torch

from .operands import Variant
from .paged_decode import paged_decode
from .paged_prefill import paged_prefill
from .work_list import DecodeWork, PrefillWork


def paged_attention(
    query: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    block_table: torch.Tensor,
    query_start_loc: torch.Tensor,
    seq_lens: torch.Tensor,
    *,
    num_decodes: int,
    variant: Variant | None = None,
    decode_work: DecodeWork | None = None,
    prefill_work: PrefillWork | None = None,
) -> torch.Tensor:
    """A batch whose first ``num_decodes`` sequences bring one token each, the others chunks.

    Arguments are those of ``paged_prefill``; the work of each part may be planned before (that of
    the chunks from starts that are counted from the first chunk's, and kept in the plan).

    Returns:
        ``[num_tokens, heads, head_dim]``.

    Raises:
        ValueError: ``num_decodes`` beyond the batch, shapes or dtypes that do not go together.
    """
    if not 0 <= num_decodes <= len(seq_lens):
        raise ValueError(f"num_decodes(={num_decodes}) must be in 0 .. {len(seq_lens)}.")
    out = torch.empty_like(query)
    if num_decodes:
        paged_decode(
            query[:num_decodes],
            key_cache,
            value_cache,
            block_table[:num_decodes],
            seq_lens[:num_decodes],
            variant=variant,
            work=decode_work,
            out=out[:num_decodes],
        )
    if num_decodes < len(seq_lens):
        if prefill_work is None:
            starts = query_start_loc[num_decodes:] - num_decodes
        else:
            starts = prefill_work.query_start_loc
        paged_prefill(
            query[num_decodes:],
            key_cache,
            value_cache,
            block_table[num_decodes:],
            starts,
            seq_lens[num_decodes:],
            variant=variant,
            work=prefill_work,
            out=out[num_decodes:],
        )
    return out
