"""Prefix-cache curves of the Mooncake papers, replayed from the released traces.

Qin et al., FAST 2025 (conversation and tool&agent traces) and arXiv 2407.00079 (its Table 1). Hits
are counted as in ``traces.prefix_stats``: the longest run of leading blocks. The papers do not say
how they count, so that their printed shares are met to some points only, while a replay of the same
files by others is met to a tenth of one.
"""

from __future__ import annotations

from ...traces.cache_curve import CacheCurve, cache_curve, fifo_hit_blocks
from ...traces.load import load_trace
from ...traces.trace import Trace
from .claim import Chart, Check, Claim, Series, near, within
from .setup import Setting

PAPER = "Mooncake"
CONVERSATION = "conversation_trace.jsonl"
TOOL_AGENT = "toolagent_trace.jsonl"
REPLAY_LRU = {
    1_000: 0.0445,
    3_000: 0.0650,
    10_000: 0.2112,
    30_000: 0.3257,
    50_000: 0.3546,
    100_000: 0.3637,
}
REPLAY_FIFO = {1_000: 0.0434, 10_000: 0.1815, 30_000: 0.2944, 50_000: 0.3335, 100_000: 0.3563}
REPLAY_IDEAL = 0.3664
FIRST_TABLE = {1_000: 0.30, 10_000: 0.40, 30_000: 0.48, 50_000: 0.50, 100_000: 0.51}
FIRST_TABLE_IDEAL = 0.51
LOCAL_TOKENS, GLOBAL_TOKENS = 3_000_000, 50_000_000
_DIGITS = 0.001
_PAPER_ROOM = 0.05
_TO_GET = "put it there with `kvsim trace fetch mooncake-conversation` and name it with --traces"


def conversation(setting: Setting) -> Claim:
    """The conversation trace's curve: exact against a replay, near the paper's."""
    name, source = "mooncake-conversation", "Qin et al., FAST 2025, Table 2 and Fig. 9"
    says = (
        "The conversation trace: 12,031 requests of 12,035 input tokens on average, 40 % of them "
        "cacheable; a local cache of 3 M tokens reaches 41 % of the highest hit rate, 50 M tokens "
        "nearly all of it."
    )
    path = setting.trace_file(CONVERSATION)
    if path is None:
        return _skipped(name, source, says, CONVERSATION)
    trace = load_trace([str(path)])
    curve = cache_curve(trace)
    whole = curve.token_ratio(None)
    local = curve.token_ratio(LOCAL_TOKENS // curve.block_tokens) / whole
    large = curve.token_ratio(GLOBAL_TOKENS // curve.block_tokens) / whole
    return Claim(
        name=name,
        paper=PAPER,
        source=source,
        says=says,
        how="The released file through one LRU cache of 512-token blocks, no timing. A replay "
        "of the same file by others to a tenth of a point, the paper's own shares to 5 points.",
        checks=(
            near("requests", 12_031, len(trace)),
            near("mean input, tokens", 12_035, float(trace.prompt_tokens.mean()), abs=0.5),
            near("mean output, tokens", 343, float(trace.output_tokens.mean()), abs=0.5),
            *_replayed(trace, curve),
            near(
                "cacheable, mean over requests (Table 2)",
                0.40,
                _mean_of_requests(trace),
                abs=_PAPER_ROOM,
                unit="share",
            ),
            near(
                "3 M tokens: of the highest hit rate (Fig. 9)",
                0.41,
                local,
                abs=_PAPER_ROOM,
                unit="share",
            ),
            within(
                "50 M tokens: of the highest hit rate (Fig. 9)",
                0.98,
                1.0,
                large,
                unit="share",
                printed="~100 %",
            ),
        ),
        charts=(_chart(curve, {**REPLAY_LRU}, "replay by others"),),
    )


def tool_agent(setting: Setting) -> Claim:
    """Table 1 of the first paper: the tool&agent trace, as a shape."""
    name, source = "mooncake-table-1", "Qin et al., arXiv 2407.00079, Table 1"
    says = (
        "One pool of 512-token blocks under LRU finds 30, 40, 48, 50 and 51 % in 1,000, 10,000, "
        "30,000, 50,000 and 100,000 blocks, and no more in an infinite one."
    )
    path = setting.trace_file(TOOL_AGENT)
    if path is None:
        return _skipped(name, source, says, TOOL_AGENT)
    curve = cache_curve(load_trace([str(path)]))
    checks = [
        near(f"LRU, {size:,} blocks", ratio, curve.block_ratio(size), abs=_PAPER_ROOM, unit="share")
        for size, ratio in FIRST_TABLE.items()
    ]
    return Claim(
        name=name,
        paper=PAPER,
        source=source,
        says=says,
        how="The released tool&agent file through one LRU cache; the paper's definition of a hit "
        "is not stated: 5 points.",
        checks=(
            *checks,
            near(
                "infinite",
                FIRST_TABLE_IDEAL,
                curve.block_ratio(None),
                abs=_PAPER_ROOM,
                unit="share",
            ),
            _saturation(curve),
        ),
        charts=(_chart(curve, FIRST_TABLE, "paper"),),
    )


def _replayed(trace: Trace, curve: CacheCurve) -> list[Check]:
    """Every size of the independent replay, and LRU before FIFO."""
    fifo = {size: fifo_hit_blocks(trace, size) / curve.block_refs for size in REPLAY_FIFO}
    checks = [
        near(f"LRU, {size:,} blocks", ratio, curve.block_ratio(size), abs=_DIGITS, unit="share")
        for size, ratio in REPLAY_LRU.items()
    ]
    checks += [
        near(f"FIFO, {size:,} blocks", ratio, fifo[size], abs=_DIGITS, unit="share")
        for size, ratio in REPLAY_FIFO.items()
    ]
    checks.append(
        near("infinite", REPLAY_IDEAL, curve.block_ratio(None), abs=_DIGITS, unit="share")
    )
    lead = min(curve.block_ratio(size) - found for size, found in fifo.items())
    checks.append(
        within(
            "LRU less FIFO, the least",
            0.0,
            1.0,
            lead,
            unit="share",
            printed="LRU is never behind",
            shape=True,
        )
    )
    return checks


def _saturation(curve: CacheCurve) -> Check:
    return within(
        "50,000 blocks, of the infinite cache",
        0.95,
        1.0,
        curve.block_ratio(50_000) / curve.block_ratio(None),
        unit="share",
        printed="saturated (50 of 51 %)",
        shape=True,
    )


def _mean_of_requests(trace: Trace) -> float:
    """Mean over requests of the share of their input that an infinite cache finds."""
    seen: set[int] = set()
    total = 0.0
    assert trace.hash_block_size is not None, "the curve needed ids"
    for row, prompt in enumerate(trace.prompt_tokens.tolist()):
        chain = trace.hash_chain(row).tolist()
        known = next((depth for depth, one in enumerate(chain) if one not in seen), len(chain))
        total += min(known * trace.hash_block_size, prompt) / prompt
        seen.update(chain)
    return total / len(trace)


def _chart(curve: CacheCurve, printed: dict[int, float], whose: str) -> Chart:
    sizes = [size for size in curve.size_blocks.tolist() if size > 0]
    every = max(1, len(sizes) // 200)
    shown = [*sizes[::every], sizes[-1]]
    return Chart(
        title="Prefix-cache hits of an LRU cache",
        x_title="blocks of 512 tokens",
        y_title="blocks that hit",
        series=(
            Series(
                name="ours",
                x=tuple(float(size) for size in shown),
                y=tuple(curve.block_ratio(size) for size in shown),
            ),
            Series(
                name=whose,
                x=tuple(float(size) for size in printed),
                y=tuple(printed.values()),
                paper=True,
            ),
        ),
        log_x=True,
        shares=True,
    )


def _skipped(name: str, source: str, says: str, file: str) -> Claim:
    return Claim(
        name=name,
        paper=PAPER,
        source=source,
        says=says,
        how="The released file through one LRU cache.",
        skipped=f"{file} is not in the folder of --traces; {_TO_GET}."
        if file == CONVERSATION
        else f"{file} (github.com/kvcache-ai/Mooncake, FAST25-release/traces) is not in the "
        "folder of --traces.",
    )
