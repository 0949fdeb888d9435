"""What a user will check first: the sentences that PagedAttention is known by.

vLLM's announcement (Kwon et al., blog of 20 June 2023): existing systems waste 60 to 80 % of the KV
memory, PagedAttention under 4 %; 2 to 4 times the throughput (paper, abstract). OPT-13B on a 40 GB
A100 with ShareGPT lengths, saturated, without any timing model.
"""

from __future__ import annotations

from .claim import Chart, Claim, Series, within
from .replays import saturated
from .setup import Setting

PAPER = "Seed claims"
BLOG = "vLLM blog, 20 June 2023; Kwon et al., SOSP 2023, Fig. 2"
ORCA = ("Orca (Max)", "Orca (Pow2)", "Orca (Oracle)")
HOW = (
    "OPT-13B, ShareGPT lengths, a queue that never empties; memory decides alone, no timing model."
)


def contiguous_waste(setting: Setting) -> Claim:
    """60 to 80 % of the memory unused."""
    unused = {system: 1 - saturated("sharegpt", system).pool_share.token_states for system in ORCA}
    return Claim(
        name="seed-contiguous-waste",
        paper=PAPER,
        source=BLOG,
        says="Contiguous reservation leaves 60 to 80 % of the KV memory unused.",
        how=HOW,
        checks=tuple(
            within(f"{system}: without KV in it", 0.60, 0.80, share, unit="share")
            for system, share in unused.items()
        ),
        charts=(_bars("share of the pool", unused, shares=True),),
    )


def paged_waste(setting: Setting) -> Claim:
    """Under 4 %."""
    presets = {"ShareGPT": "sharegpt", "Alpaca": "alpaca"}
    unused = {
        title: 1 - saturated(preset, "vLLM").pool_share.token_states
        for title, preset in presets.items()
    }
    return Claim(
        name="seed-paged-waste",
        paper=PAPER,
        source=BLOG,
        says="Paged allocation leaves under 4 % unused.",
        how=HOW + " All that holds no KV is waste: tails of blocks and the watermark. The share "
        "is printed for ShareGPT; requests as short as Alpaca's leave "
        f"{100 * unused['Alpaca']:.1f} % in half-empty last blocks of 16.",
        checks=(
            within(
                "ShareGPT: without KV in it",
                0.0,
                0.04,
                unused["ShareGPT"],
                unit="share",
                printed="under 4 %",
            ),
        ),
        charts=(_bars("share of the pool", unused, shares=True),),
    )


def concurrency(setting: Setting) -> Claim:
    """2 to 4 times the requests."""
    paged = saturated("sharegpt", "vLLM").mean_running
    ratios = {system: paged / saturated("sharegpt", system).mean_running for system in ORCA}
    room = 0.2
    return Claim(
        name="seed-concurrency",
        paper=PAPER,
        source="Kwon et al., SOSP 2023, abstract and Fig. 13 (2.2x Oracle, 4.3x Max)",
        says="Paged allocation runs 2 to 4 times as many requests at once.",
        how=HOW + f" The printed interval's ends to {100 * room:.0f} %: the paper's batches are "
        "those of one rate, ours those of full memory. Its own 4.3x lies beyond the interval, too.",
        checks=tuple(
            within(
                f"paged / {system}",
                2.0 * (1 - room),
                4.0 * (1 + room),
                ratio,
                unit="x",
                printed="2x to 4x",
            )
            for system, ratio in ratios.items()
        ),
        charts=(_bars("times as many requests at once", ratios, shares=False),),
    )


def _bars(title: str, values: dict[str, float], *, shares: bool) -> Chart:
    return Chart(
        title=title[:1].upper() + title[1:],
        y_title=title,
        labels=tuple(values),
        series=(Series(name="ours", y=tuple(values.values())),),
        shares=shares,
    )
