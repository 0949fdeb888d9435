"""Jenga (Zhang et al., 2025): layers that keep different tokens give back what they do not need."""

from __future__ import annotations

from ...calibration.gpus import load_gpu
from ...calibration.memory import plan_memory
from ...calibration.memory_budget import MemoryBudget
from ...calibration.models import load_model
from .claim import Chart, Claim, Series, near
from .setup import Setting

PAPER = "Jenga"
SCOUT, SCOUT_GPUS = "llama-4-scout", 8
FULL_ATTENTION = "llama-3.1-8b"
PRINTED_TOKENS = {"every layer keeps all": 3.7e6, "layers apart": 14.7e6}
_LONGEST = 1 << 27


def ratio(setting: Setting) -> Claim:
    """Longest context with and without."""
    apart, all_alike = (_longest(SCOUT, "h200", SCOUT_GPUS, hybrid) for hybrid in (True, False))
    gate = [_longest(FULL_ATTENTION, "h100-sxm", 1, hybrid) for hybrid in (True, False)]
    return Claim(
        name="jenga-ratio",
        paper=PAPER,
        source="Zhang et al., Jenga, 2025, evaluation (Llama-4-Scout; the Llama-3.1 row)",
        says="On 8 x H200 the longest context of Llama-4-Scout grows from 3.7 M to 14.7 M tokens, "
        "3.97 times (12 of 48 layers keep every token); a model of full attention alone gains "
        "nothing.",
        how="The memory planner, with the layers' groups kept apart and not; the longest request "
        "that the pool holds. Only ratios: the paper's weights and reserves are not stated.",
        checks=(
            near(
                f"{SCOUT}: longest context, layers apart / not",
                3.97,
                apart / all_alike,
                rel=0.01,
                unit="x",
            ),
            near(f"{FULL_ATTENTION}: the same", 1.0, gate[0] / gate[1], unit="x", printed="1.00x"),
        ),
        charts=(
            Chart(
                title=f"Longest context of {SCOUT} on {SCOUT_GPUS} x H200",
                y_title="million tokens",
                labels=tuple(PRINTED_TOKENS),
                series=(
                    Series(name="ours", y=(all_alike / 1e6, apart / 1e6)),
                    Series(
                        name="paper",
                        y=tuple(tokens / 1e6 for tokens in PRINTED_TOKENS.values()),
                        paper=True,
                    ),
                ),
            ),
        ),
    )


def _longest(model: str, gpu: str, num_gpus: int, hybrid: bool) -> int:
    """Tokens of the longest request that the pool holds, whatever the model was made for."""
    budget = plan_memory(
        model=load_model(model),
        gpu=load_gpu(gpu),
        tensor_parallel_size=num_gpus,
        hybrid_kv_cache=hybrid,
        max_model_len=load_model(model).max_position_embeddings // 64,
    )
    low, high = 1, _LONGEST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _holds(budget, middle) else (low, middle)
    return low


def _holds(budget: MemoryBudget, tokens: int) -> bool:
    return budget.steady_blocks_of(tokens) <= budget.usable_blocks
