"""The options of ``kvsim plan`` that ask what to deploy: objective, target, lists of values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from . import options
from .choices import choices
from .groups import merged

_DECISION = "What to deploy"


def _option(text: str, *names: str) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=_DECISION)


def decision_options(
    slo_ttft: Annotated[str | None, _option("Limit of TTFT: 2s, 500ms.")] = None,
    slo_tpot: Annotated[str | None, _option("Limit of the time per output token: 50ms.")] = None,
    slo_e2e: Annotated[str | None, _option("Limit of the whole latency: 30s.")] = None,
    quantile: Annotated[
        float | None, _option("Share of the requests that must keep every limit (0.95).")
    ] = None,
    target_rate: Annotated[
        float | None,
        _option("Requests per second to be carried (a trace's own, where it has times)."),
    ] = None,
    max_gpus: Annotated[int | None, _option("Most GPUs of all replicas together.")] = None,
    what_if: Annotated[
        list[str] | None,
        _option(
            "A change to weigh against the chosen server: kv_cache_dtype=fp8, memory+20%, "
            "host_tier=256GiB, gpu=h200; several times."
        ),
    ] = None,
    confidence_runs: Annotated[
        int | None,
        _option("Traces that might have come instead, for the intervals (20); 0: no intervals."),
    ] = None,
    tune: Annotated[
        bool, _option("Search the flags of the best server one after another.", "--tune")
    ] = False,
) -> dict[str, Any]:
    """The objective, the target, and what is to be known of the answer."""
    values = dict(locals())
    return values | {"what_if": tuple(what_if or ())}


hardware_choices: Callable[..., dict[str, Any]] = choices(
    options.hardware_options, gpu=str, price=(str, "By GPU: a100=1.8,h200=4.")
)
"""The GPU and the model; several GPUs are compared, and may have a price each."""
flag_choices: Callable[..., dict[str, Any]] = merged(
    choices(
        options.memory_options,
        block_size=int,
        gpu_memory_utilization=float,
        kv_cache_dtype=str,
        tensor_parallel_size=int,
        max_model_len=int,
        max_num_seqs=int,
        max_num_batched_tokens=int,
    ),
    choices(options.engine_options, enable_prefix_caching=bool),
    options.sharing_options,
    options.tier_options,
)
"""How the server is set up; flags with several values are compared."""
