"""Published results rerun: one module for each paper, one entry here for each of its figures."""

from __future__ import annotations

from . import pagedattention, prefix_caching, rates, seed
from .row import Row

ROWS: dict[str, Row] = {
    "seed-contiguous-waste": Row(run=seed.contiguous_waste),
    "seed-paged-waste": Row(run=seed.paged_waste),
    "seed-concurrency": Row(run=seed.concurrency),
    "pagedattention-table-1": Row(run=pagedattention.table_1),
    "pagedattention-fig-2": Row(run=pagedattention.fig_2),
    "pagedattention-fig-12-sharegpt": Row(run=rates.fig_12_sharegpt, weight=80),
    "pagedattention-fig-12-alpaca": Row(run=rates.fig_12_alpaca, weight=300),
    "pagedattention-fig-13": Row(run=pagedattention.fig_13, weight=15),
    "pagedattention-fig-17": Row(run=rates.fig_17, weight=20),
    "mooncake-conversation": Row(run=prefix_caching.conversation, weight=10),
    "mooncake-table-1": Row(run=prefix_caching.tool_agent, weight=10),
}
"""In the order of the page; the name begins with the paper's."""
