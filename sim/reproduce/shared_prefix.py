"""A prefix that all requests share: PagedAttention paper, Fig. 16 (Kwon et al., SOSP 2023)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from ...traces import Trace
from ...traces.lengths import Lengths
from ...traces.workload import Workload
from .claim import Chart, Claim, Series, near, within
from .pagedattention import PAPER, SOURCE
from .rates import RATIO_ROOM
from .replays import Sustained, sustained
from .setup import LATENCY_LEVEL_S, LLAMA_13B, Setting, server_of

FIG_16 = {80: 1.67, 341: 3.58}
"""Tokens of the shared prefix (one and five examples): vLLM's rate over Orca (Oracle)'s."""
NO_LENGTHS = (
    "The paper prints no lengths of the sentences, and with a short prefix the gain hangs on them: "
    "those assumed let vLLM batch four times as many requests as the buddy allocator's pieces of "
    "256 slots; our steps of such batches are those of a later software stack."
)

# WMT16 English to German: no lengths are printed. Assumed: sentences of 22 words, LLaMA's tokenizer
# at 1.35 tokens a word of English and 1.8 of German, and a spread of 0.6 as sentences have.
WMT16 = Workload(
    name="wmt16-en-de",
    prompt=Lengths(kind="gamma", mean_tokens=30.0, cv=0.6),
    output=Lengths(kind="gamma", mean_tokens=40.0, cv=0.6),
    source=f"assumed; {SOURCE}, section 6.4 names the data set only",
)


def fig_16(setting: Setting) -> Claim:
    """A prefix that all requests share."""
    found = {prefix: _translation(prefix, setting) for prefix in FIG_16}
    gains = {
        prefix: both["vLLM"].rate_per_s / both["Orca (Oracle)"].rate_per_s
        for prefix, both in found.items()
    }
    return Claim(
        name="pagedattention-fig-16",
        paper=PAPER,
        source=f"{SOURCE}, Fig. 16 and section 6.4",
        says="Translation with a shared prefix: vLLM sustains 1.67 times the rate of Orca (Oracle) "
        "with one example (80 tokens) and 3.58 times with five (341 tokens).",
        how="LLaMA-13B on the 40 GB A100, the prefix pinned; sentences of WMT16 have assumed "
        "lengths (30 tokens in, 40 out on average).",
        checks=(
            *(
                near(
                    f"prefix of {prefix} tokens: vLLM / Orca (Oracle)",
                    printed,
                    gains[prefix],
                    rel=RATIO_ROOM,
                    unit="x",
                    known=NO_LENGTHS if prefix == 80 else "",
                )
                for prefix, printed in FIG_16.items()
            ),
            within(
                "gain with 341 over gain with 80",
                1.0,
                float("inf"),
                gains[341] / gains[80],
                unit="x",
                printed="larger",
                shape=True,
            ),
        ),
        charts=tuple(_curves(prefix, both) for prefix, both in found.items()),
    )


def _translation(prefix: int, setting: Setting) -> dict[str, Sustained]:
    search = partial(
        sustained,
        workload=WMT16,
        machine=LLAMA_13B,
        setting=setting,
        dressed=partial(_behind, prefix),
    )
    return {
        "vLLM": search(server_of(LLAMA_13B, "vLLM", pinned_prefix_tokens=prefix)),
        "Orca (Oracle)": search(server_of(LLAMA_13B, "Orca (Oracle)")),
    }


def _behind(prefix: int, trace: Trace) -> Trace:
    """Every prompt with the shared tokens before it."""
    return replace(trace, prompt_tokens=trace.prompt_tokens + prefix)


def _curves(prefix: int, found: dict[str, Sustained]) -> Chart:
    return Chart(
        title=f"{prefix} tokens of prefix",
        x_title="requests/s",
        y_title="normalised latency, s/token",
        series=tuple(
            Series(
                name=f"{system}: {one.rate_per_s:.3g}/s",
                x=tuple(run.rate_per_s for run in one.runs),
                y=tuple(run.normalised_latency_s for run in one.runs),
            )
            for system, one in found.items()
        ),
        log_x=True,
        y_max=2 * LATENCY_LEVEL_S,
        level=LATENCY_LEVEL_S,
    )
