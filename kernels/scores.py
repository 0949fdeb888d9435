"""What every attention kernel does with a tile of keys: scores, masks, the running softmax.

Scores are kept in powers of two, so that the exponential is one instruction: with ``q`` and ``k`` a
row and a key, ``s`` the softmax scale times the key scale,

    x = q.k s log2(e)                         or, with a soft cap c,   c tanh(q.k s / c) log2(e)
    x = x + slope (key - query) log2(e)       ALiBi: positions in tokens
    p = exp2(x - max),  out = sum(p v) / sum(p)

A sink is one more logit of its row, without a value: the sum starts at 1 with the sink as maximum.
"""

from __future__ import annotations

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def logits(q, k, scale, softcap, SOFTCAP: tl.constexpr, UPCAST: tl.constexpr):
    """``[rows, tile]`` scores in powers of two; ``q [rows, dim]``, ``k [tile, dim]``."""
    if UPCAST:
        k = k.to(tl.float32)
    x = tl.dot(q, tl.trans(k.to(q.dtype)), input_precision="ieee") * scale
    if SOFTCAP:
        x = softcap * (2.0 * tl.sigmoid(2.0 * x / softcap) - 1.0)
    return x * LOG2E


@triton.jit
def widened(v, DTYPE: tl.constexpr):
    """Bytes to 16 bits, here and not later.

    A tile of values enters the matrix product with its rows and columns exchanged. 16-bit values
    are exchanged while they are loaded from shared memory; bytes cannot be, and the compiler, which
    would rather move bytes than their wider copies, then loads them one at a time. An instruction
    that it must leave in its place keeps the cast before the exchange.
    """
    wide = v.to(DTYPE)
    return tl.inline_asm_elementwise(
        "mov.b32 $0, $1;", "=r,r", [wide], dtype=wide.dtype, is_pure=False, pack=2
    )


@triton.jit
def accumulate(
    acc, peak, total, x, v, DTYPE: tl.constexpr, UPCAST: tl.constexpr, WIDEN: tl.constexpr
):
    """The running softmax with one more tile: masked scores are -inf, ``v [tile, dim]``."""
    higher = tl.maximum(peak, tl.max(x, 1))
    safe = tl.where(higher == float("-inf"), 0.0, higher)
    p = tl.exp2(x - safe[:, None])
    shrink = tl.exp2(peak - safe)
    total = total * shrink + tl.sum(p, 1)
    if UPCAST:
        acc = acc * shrink[:, None] + tl.dot(p, v.to(tl.float32), input_precision="ieee")
    else:
        v = widened(v, DTYPE) if WIDEN else v.to(DTYPE)
        acc = acc * shrink[:, None] + tl.dot(p.to(DTYPE), v, input_precision="ieee")
    return acc, higher, total


@triton.jit
def places(
    keys,
    end,
    table,
    first,
    PAGED: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    TILE: tl.constexpr,
):
    """``(block, slot in it)`` of the keys ``first .. first + TILE`` of one sequence, 64-bit.

    A tile that lies in one block needs one block id, others one for each key. A contiguous cache
    (``table`` is its sequence's number) needs none.
    """
    if not PAGED:
        block = table.to(tl.int64)
        slot = keys
    elif BLOCK_SIZE % TILE == 0:
        block = tl.load(table + first // BLOCK_SIZE).to(tl.int64)
        slot = first % BLOCK_SIZE + tl.arange(0, TILE)
    else:
        block = tl.load(table + keys // BLOCK_SIZE, mask=keys < end, other=0).to(tl.int64)
        slot = keys % BLOCK_SIZE
    return block, slot.to(tl.int64)
