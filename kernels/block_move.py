"""Moves whole blocks: copy-on-write inside a cache, gather and scatter for swapping.

A block is taken as words, whatever it holds. Swapping gathers scattered blocks into one contiguous
staging buffer, so that one large transfer crosses PCIe instead of one small one per block.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

WORDS_PER_PROGRAM = 1024
WORD_TYPES = (torch.int64, torch.int32, torch.int16, torch.uint8)


def copy_blocks(cache: torch.Tensor, pairs: torch.Tensor) -> None:
    """Copy block ``pairs[i, 0]`` over block ``pairs[i, 1]``.

    All pairs are copied at once: no block may be written twice, nor be read by one pair and written
    by another.

    Args:
        cache: ``[num_blocks, ...]``, contiguous.
        pairs: ``[num_pairs, 2]`` int64.

    Raises:
        ValueError: a cache that is not contiguous, or pairs of another shape or dtype.
    """
    if pairs.dim() != 2 or pairs.shape[1] != 2:
        raise ValueError(f"pairs(={tuple(pairs.shape)}) must be [num_pairs, 2].")
    words = _words(cache, "cache")
    _move(words, words, _ids(pairs[:, 0], "pairs"), _ids(pairs[:, 1], "pairs"), len(pairs))


def gather_blocks(
    cache: torch.Tensor, block_ids: torch.Tensor, *, out: torch.Tensor | None = None
) -> torch.Tensor:
    """The named blocks one after another, ``[len(block_ids), ...]``: what a swap sends away.

    Raises:
        ValueError: tensors that are not contiguous, or ids that are not int64.
    """
    if out is None:
        out = cache.new_empty((len(block_ids), *cache.shape[1:]))
    _move(_words(cache, "cache"), _words(out, "out"), _ids(block_ids), None, len(block_ids))
    return out


def scatter_blocks(staging: torch.Tensor, cache: torch.Tensor, block_ids: torch.Tensor) -> None:
    """Write ``staging[i]`` over block ``block_ids[i]``: what a swap brings back.

    Raises:
        ValueError: tensors that are not contiguous, or ids that are not int64.
    """
    _move(_words(staging, "staging"), _words(cache, "cache"), None, _ids(block_ids), len(block_ids))


def _words(tensor: torch.Tensor, name: str) -> torch.Tensor:
    """``[blocks, words]`` of the widest word that divides a block."""
    if not tensor.is_contiguous():
        raise ValueError(f"{name}.stride()(={tensor.stride()}) must be contiguous.")
    block_bytes = tensor[0].numel() * tensor.element_size()
    word = next(kind for kind in WORD_TYPES if block_bytes % kind.itemsize == 0)
    return tensor.view(tensor.shape[0], -1).view(word)


def _ids(block_ids: torch.Tensor, name: str = "block_ids") -> torch.Tensor:
    if block_ids.dtype != torch.int64:
        raise ValueError(f"{name}.dtype(={block_ids.dtype}) must be torch.int64.")
    return block_ids


def _move(
    source: torch.Tensor,
    target: torch.Tensor,
    source_ids: torch.Tensor | None,
    target_ids: torch.Tensor | None,
    count: int,
) -> None:
    if not count:
        return
    if source.shape[1] != target.shape[1]:
        raise ValueError(
            f"blocks of {source.shape[1]} words cannot go where {target.shape[1]} fit."
        )
    _copy[(count, triton.cdiv(source.shape[1], WORDS_PER_PROGRAM))](
        source,
        target,
        source if source_ids is None else source_ids,
        target if target_ids is None else target_ids,
        1 if source_ids is None else source_ids.stride(0),
        1 if target_ids is None else target_ids.stride(0),
        source.shape[1],
        FROM_IDS=source_ids is not None,
        TO_IDS=target_ids is not None,
        WORDS=WORDS_PER_PROGRAM,
    )


@triton.jit
def _copy(
    source,
    target,
    source_ids,
    target_ids,
    source_stride,
    target_stride,
    words,
    FROM_IDS: tl.constexpr,
    TO_IDS: tl.constexpr,
    WORDS: tl.constexpr,
):
    index = tl.program_id(0).to(tl.int64)
    read, write = index, index
    if FROM_IDS:
        read = tl.load(source_ids + index * source_stride)
    if TO_IDS:
        write = tl.load(target_ids + index * target_stride)
    word = tl.program_id(1) * WORDS + tl.arange(0, WORDS)
    inside = word < words
    value = tl.load(source + read * words + word, mask=inside)
    tl.store(target + write * words + word, value, mask=inside)
