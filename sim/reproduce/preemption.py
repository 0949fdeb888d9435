"""Swap against recompute: Fig. 19 of the PagedAttention paper (Kwon et al., SOSP 2023)."""

from __future__ import annotations

from ..crossover import Crossover
from ..saturated import saturate
from ..swap_cost import crossover_of
from .claim import Chart, Claim, Series, near, within
from .pagedattention import PAPER, SOURCE
from .setup import BLOCK_SIZE, OPT_13B, Setting, lengths, server_of

COMPARABLE = (16, 32, 64)
COMPARABLE_ROOM = 0.15
"""Of the rate: what counts as comparable end to end."""
MEAN, LONG = 499, 1024
"""Tokens of a preempted request: ShareGPT's mean prompt and mean output (Fig. 11); a long one."""
OTHERS = (256, 330, 384, 512)
"""The paper names no length: what others do to the figures."""
DECODES = 30
"""Beside it: vLLM's batch in Fig. 13."""


def fig_19(setting: Setting) -> Claim:
    """Swap against recompute."""
    mean, long = (_crossover(tokens) for tokens in (MEAN, LONG))
    recompute = [one.recompute_s for one in mean.by_block_size]
    swap = {one.block_size: one.swap_s for one in mean.by_block_size}
    ratio = {one.block_size: one.recompute_s / one.swap_s for one in mean.by_block_size}
    comparable = [ratio[size] for size in COMPARABLE]
    return Claim(
        name="pagedattention-fig-19",
        paper=PAPER,
        source=f"{SOURCE}, Fig. 19 and section 7.3",
        says="Recompute costs the same in blocks of any size, a swap is dear in small ones: "
        "recompute is better for small blocks, swap for large; recompute is never more than 20 % "
        "above swap; from 16 to 64 they are comparable.",
        how=f"OPT-13B on the 40 GB A100: a request of {MEAN} tokens swapped out and in, or "
        f"recomputed beside {DECODES} decodes (the paper names no length); {mean.moves.source}. "
        f"Rates: under backlog, ShareGPT lengths. The length matters: {_other_lengths()}.",
        checks=(
            near(
                "recompute: dearest / cheapest size",
                1.0,
                max(recompute) / min(recompute),
                unit="x",
                printed="constant",
            ),
            within(
                "swap: blocks of 1 / of 256",
                3.0,
                float("inf"),
                swap[1] / swap[256],
                unit="x",
                printed="excessive in small blocks",
                shape=True,
            ),
            within(
                "recompute / swap, blocks of 1",
                0.0,
                1.0,
                ratio[1],
                unit="x",
                printed="recompute is better",
                shape=True,
            ),
            within(
                "recompute / swap, blocks of 256",
                1.0,
                float("inf"),
                ratio[256],
                unit="x",
                printed="swap is better",
                shape=True,
            ),
            within(
                f"recompute / swap, highest of all sizes, {MEAN} tokens",
                0.0,
                1.2,
                max(ratio.values()),
                unit="x",
                printed="at most 1.2x",
            ),
            within(
                f"the same, {LONG:,} tokens",
                0.0,
                1.2,
                max(one.recompute_s / one.swap_s for one in long.by_block_size),
                unit="x",
                printed="at most 1.2x",
                known="A long prefill is bound by compute: by these constants a token takes longer "
                "to recompute than to move twice over PCIe. The paper's lengths are shorter.",
            ),
            *(
                within(
                    f"rate with swap / with recompute, blocks of {size}",
                    1 - COMPARABLE_ROOM,
                    1 + COMPARABLE_ROOM,
                    _served(size, "swap") / _served(size, "recompute"),
                    unit="x",
                    printed="comparable",
                    shape=True,
                )
                for size in (COMPARABLE[0], COMPARABLE[-1])
            ),
            within(
                "recompute / swap, 16 to 64: lowest",
                0.5,
                2.0,
                min(comparable),
                unit="x",
                printed="comparable",
                shape=True,
            ),
            within(
                "recompute / swap, 16 to 64: highest",
                0.5,
                2.0,
                max(comparable),
                unit="x",
                printed="comparable",
                shape=True,
            ),
        ),
        charts=tuple(
            Chart(
                title=f"A request of {found.tokens:,} tokens",
                x_title="block size, tokens",
                y_title="ms",
                series=(
                    Series(
                        name="swap out and in",
                        x=tuple(float(one.block_size) for one in found.by_block_size),
                        y=tuple(1e3 * one.swap_s for one in found.by_block_size),
                    ),
                    Series(
                        name="recompute",
                        x=tuple(float(one.block_size) for one in found.by_block_size),
                        y=tuple(1e3 * one.recompute_s for one in found.by_block_size),
                    ),
                ),
                log_x=True,
            )
            for found in (mean, long)
        ),
    )


def _other_lengths() -> str:
    """A request that ends early in its last block is dear to swap in large ones."""
    parts = []
    for tokens in OTHERS:
        ratios = [one.recompute_s / one.swap_s for one in _crossover(tokens).by_block_size]
        parts.append(
            f"{tokens} tokens {ratios[-1]:.2f}x in blocks of 256, {max(ratios):.2f}x at most"
        )
    return "recompute / swap is with " + ", with ".join(parts)


def _served(size: int, mode: str) -> float:
    """Requests a second under backlog, end to end."""
    server = server_of(OPT_13B, "vLLM", block_size=size, preemption_mode=mode)
    _, backlog = saturate(server, lengths("sharegpt", 2_000), num_requests=2_000)
    return backlog.requests_per_s


def _crossover(tokens: int) -> Crossover:
    found = crossover_of(
        server_of(OPT_13B, "vLLM", block_size=BLOCK_SIZE), tokens=tokens, num_decodes=DECODES
    )
    assert found is not None, "OPT keeps every token in every layer"
    return found
