"""Published results rerun: modules by paper, one entry here for each of its figures."""

from __future__ import annotations

from . import (
    blocks,
    jenga,
    pagedattention,
    preemption,
    prefix_caching,
    rates,
    sarathi,
    seed,
    shared_prefix,
    sharing,
    vattention,
)
from .row import Row

ROWS: dict[str, Row] = {
    "seed-contiguous-waste": Row(run=seed.contiguous_waste),
    "seed-paged-waste": Row(run=seed.paged_waste),
    "seed-concurrency": Row(run=seed.concurrency),
    "seed-block-size": Row(run=blocks.seed_block_size, weight=20),
    "pagedattention-table-1": Row(run=pagedattention.table_1),
    "pagedattention-fig-2": Row(run=pagedattention.fig_2),
    "pagedattention-fig-12-sharegpt": Row(run=rates.fig_12_sharegpt, weight=80),
    "pagedattention-fig-12-alpaca": Row(run=rates.fig_12_alpaca, weight=300),
    "pagedattention-fig-13": Row(run=pagedattention.fig_13, weight=15),
    "pagedattention-fig-14": Row(run=sharing.fig_14, weight=40),
    "pagedattention-fig-15": Row(run=sharing.fig_15, weight=60),
    "pagedattention-fig-16": Row(run=shared_prefix.fig_16, weight=40),
    "pagedattention-fig-17": Row(run=rates.fig_17, weight=20),
    "pagedattention-fig-18": Row(run=blocks.fig_18, weight=20),
    "pagedattention-fig-19": Row(run=preemption.fig_19),
    "mooncake-conversation": Row(run=prefix_caching.conversation, weight=10),
    "mooncake-table-1": Row(run=prefix_caching.tool_agent, weight=10),
    "jenga-ratio": Row(run=jenga.ratio),
    "vattention-pages": Row(run=vattention.pages),
    "vattention-fig-15": Row(run=vattention.batches, weight=15),
    "sarathi-table-4": Row(run=sarathi.table_4, weight=15),
}
"""In the order of the page; the name begins with the paper's."""
