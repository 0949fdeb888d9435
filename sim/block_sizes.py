"""The block size in three terms: what its tails waste, what the kernel pays, what prefixes find.

Tails. A request of ``p`` prompt and ``g`` output tokens holds, while its n-th token is written,
``ceil(n / B) B`` slots, of which ``n`` are filled. It is held for its prefill (n = p) and for each
of its decode steps (n = p + 1 .. p + g - 1; the last token's KV is never written). With steps of
one length the time-weighted share of empty slots over a trace is a sum that needs no simulation:

    tail = sum over requests and steps of (ceil(n / B) B - n) / sum of ceil(n / B) B

A simulation under backlog agrees to half a percent (the tests run it): there the batch is steady,
so its steps are of one length nearly. (Scheduling ahead, a request holds its next token's slot as
well.) Each request counts by itself, without the blocks that it shares.

Kernel. Only from a measured profile, see ``calibration.profile.by_block_size``.

Prefixes. Full blocks can be found, but never a prompt's or an answer's last token. Of ``s`` tokens
that a prompt has in common with an earlier one it finds ``floor(min(s, p - 1) / B) B``, in a cache
without limit. Trace ids of 512 tokens say of ``s`` no more than that: sizes below theirs all look
alike. A radix cache finds tokens, whatever the blocks.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from ..calibration.profile.by_block_size import Slowdowns, decode_slowdowns
from ..traces import Trace
from .backlog import Backlog
from .content import shared_prefixes
from .servable import servable_rows
from .server import Server
from .summary import plain

SIZES = (1, 8, 16, 32, 64, 128, 256)
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSize:
    """One size, the rest of the server kept."""

    block_size: int
    """Tokens."""
    tail_share: float
    """Of the slots that requests hold: empty, in their last blocks."""
    never_filled_share: float
    """Of the slots that requests hold: those of the empty ones that their owner will never fill."""
    tail_pool_share: float
    """Empty slots of last blocks, of the pool, with the requests that the backlog runs at once."""
    decode_slowdown: float | None
    """Time of decode attention over that in blocks of 16; None where it was not measured."""
    prefix_hit_ratio: float | None
    """Of the prompt tokens, in a cache without limit; None where no prompts begin alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSizes:
    """The sizes that the pool and ``max_model_len`` allow, smallest first."""

    chosen: int
    sizes: tuple[BlockSize, ...]
    kernel: Slowdowns | None
    """What the slowdowns were measured over."""
    prefix_resolution_tokens: int | None
    """Tokens that the trace's prefixes are known to: 1, or those of an id's block."""
    caching: str
    """The chosen server's prefix cache: ``off``, ``hash`` or ``radix``."""

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "chosen": self.chosen,
            "sizes": [plain(asdict(size)) for size in self.sizes],
            "kernel": None if self.kernel is None else plain(asdict(self.kernel)),
            "prefix_resolution_tokens": self.prefix_resolution_tokens,
            "caching": self.caching,
        }


def block_sizes(server: Server, trace: Trace, *, backlog: Backlog) -> BlockSizes | None:
    """The three terms for each size; None where layers keep different tokens.

    (Their groups have block sizes of their own, and give blocks back before the request ends.)

    Args:
        server: the chosen, paged one.
        trace: what it serves.
        backlog: of the server, which says how many requests run at once.
    """
    flags = server.deployment
    if flags.kv_groups:
        return None
    served = trace.take(servable_rows(trace, flags, server.num_gpu_blocks))
    prompt = served.prompt_tokens
    output = np.minimum(served.output_tokens, flags.max_model_len - prompt)
    kernel = decode_slowdowns(
        server.cost,
        batch=max(1, round(backlog.mean_running)),
        context_tokens=max(1, round(mean_context(prompt, output))),
    )
    shared = _shared_tokens(served)
    slots = (server.num_gpu_blocks - 1) * flags.block_size
    by_token = flags.prefix_cache == "radix"

    def row(size: int) -> BlockSize:
        tails = _tails(prompt, output, size)
        return BlockSize(
            block_size=size,
            tail_share=tails.empty / tails.held,
            never_filled_share=tails.never / tails.held,
            tail_pool_share=backlog.mean_running * tails.empty / tails.steps / slots,
            decode_slowdown=None if kernel is None else kernel.times.get(size),
            prefix_hit_ratio=(
                None if shared is None else _found(shared, prompt, 1 if by_token else size)
            ),
        )

    return BlockSizes(
        chosen=flags.block_size,
        sizes=tuple(row(size) for size in _allowed(server, slots)),
        kernel=kernel,
        prefix_resolution_tokens=None if shared is None else _resolution(served),
        caching=flags.caching,
    )


def _allowed(server: Server, slots: int) -> list[int]:
    """No longer than the longest request, at least one usable block beside the null block."""
    flags = server.deployment
    fits = [size for size in SIZES if size <= flags.max_model_len and slots // size >= 1]
    return sorted({*fits, flags.block_size})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tails:
    """Sums over all requests and their steps."""

    steps: int
    held: int
    empty: int
    never: int


def _tails(prompt: Ints, output: Ints, size: int) -> _Tails:
    last = prompt + output - 1  # tokens whose KV is written
    held = _held_sum(last, size) - _held_sum(prompt - 1, size)
    filled = (last * (last + 1) - (prompt - 1) * prompt) // 2
    left = -last % size  # stay empty, from the step that takes the last block on
    in_last_block = np.minimum(output, last - (last - 1) // size * size)
    return _Tails(
        steps=int(output.sum()),
        held=int(held.sum()),
        empty=int((held - filled).sum()),
        never=int((left * in_last_block).sum()),
    )


def _held_sum(tokens: Ints, size: int) -> Ints:
    """Sum over n = 1 .. tokens of ceil(n / size) * size."""
    full, rest = np.divmod(tokens, size)
    return np.asarray(size * (size * (full * (full + 1) // 2) + rest * (full + 1)))


def mean_context(prompt: Ints, output: Ints) -> float:
    """Tokens of a decoding request, at any time."""
    return float(((prompt + output / 2) * output).sum() / output.sum())


def _shared_tokens(trace: Trace) -> Ints | None:
    """What each prompt has in common with an earlier one; None where none has anything."""
    row, tokens = shared_prefixes(trace)
    written = trace.prompt_tokens[row] + trace.output_tokens[row] - 1  # all but an answer's last
    return np.minimum(tokens, written) if tokens.any() else None


def _resolution(trace: Trace) -> int:
    has_links = trace.prefix_tokens is not None and bool(trace.prefix_tokens.any())
    return 1 if has_links or trace.hash_block_size is None else trace.hash_block_size


def _found(shared: Ints, prompt: Ints, size: int) -> float:
    """Share of the prompt tokens."""
    full_blocks = np.minimum(shared, prompt - 1) // size
    return float((full_blocks * size).sum() / prompt.sum())
