"""The cheapest change that lifts what binds the chosen plan.

Of the changes that raise the rate in all of their interval, the one that costs least more an hour,
and of those the one that raises it most. Flags cost nothing. More GPU memory of the same card, or
host memory, has no price here: such a change is named only where no priced one lifts the rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from ...calibration.gpus import GPUSpec, known_gpus
from ..deployment import Deployment
from .changes import Change, change_of
from .option import Option
from .what_if import WhatIf

KV_MEMORY = "KV memory"
_SEATS, _BUDGET = "max_num_seqs", "max_num_batched_tokens"


def suggested(chosen: Option) -> tuple[Change, ...]:
    """What is worth trying against what binds the chosen; of an unknown bound, all of it."""
    flags, bound = chosen.server.deployment, chosen.search.bound_by.lower()
    tries = {
        "kv memory": [*_fp8_cache(flags), *_more_pool(flags), *_more_gpus(chosen), "memory+20%"],
        "max_num_seqs": [f"{_SEATS}={2 * flags.max_num_seqs}"],
        "max_num_batched_tokens": [f"{_BUDGET}={2 * flags.max_num_batched_tokens}"],
        "compute": [*_fp8_weights(chosen), *_more_gpus(chosen)],
        "bandwidth": [*_fp8_weights(chosen), *_fp8_cache(flags), *_more_gpus(chosen)],
    }
    tries["token budget"] = tries["max_num_batched_tokens"]
    every = [text for texts in tries.values() for text in texts]
    texts = next((texts for kind, texts in tries.items() if kind in bound), every)
    texts = [*texts, *_other_gpu(chosen, bound)]
    return tuple(map(change_of, dict.fromkeys(texts)))


def advice(chosen: Option, what_ifs: Sequence[WhatIf]) -> str:
    """Names the cheapest change that lifts the binding constraint, in one sentence."""
    bound = chosen.search.bound_by or "what binds"
    lifting = [one for one in what_ifs if one.lifts and one.change.is_ours]
    if not lifting:
        return f"No change tried lifts {bound}."
    best = min(lifting, key=_rank)
    found = best.rate_per_s
    assert found is not None, "it lifts"
    before = found.value - found.delta.value
    gain = f"{100 * found.delta.value / before:+.0f} %"
    ends = f"{100 * found.delta.low / before:+.0f} to {100 * found.delta.high / before:+.0f} %"
    also = "; the answers change with it" if best.change.changes_answers else ""
    return (
        f"The cheapest change that lifts {bound} is {best.title}: {gain} ({ends}) requests a "
        f"second, {_price_words(best)}{also}."
    )


def _rank(one: WhatIf) -> tuple[bool, float, float]:
    found = one.rate_per_s
    assert found is not None, "it lifts"
    return not one.change.is_priced, _extra_usd_per_hour(one), -found.delta.value


def _extra_usd_per_hour(one: WhatIf) -> float:
    """What it costs more; nothing where neither has a price and the GPUs stay."""
    if one.usd_per_hour is not None:
        return one.usd_per_hour.delta.value
    sized = {"gpu", "tensor_parallel_size", "pipeline_parallel_size"}
    return inf if sized & one.change.settings.keys() else 0.0


def _price_words(one: WhatIf) -> str:
    more = _extra_usd_per_hour(one)
    if not one.change.is_priced:
        return "at a price that is not known here"
    if more == inf:
        return "on hardware without a known price"
    if more == 0:
        return "at no cost"
    return f"${abs(more):,.2f} an hour {'more' if more > 0 else 'less'}"


def _fp8_cache(flags: Deployment) -> list[str]:
    return [] if flags.kv_cache_dtype.startswith("fp8") else ["kv_cache_dtype=fp8"]


def _more_pool(flags: Deployment) -> list[str]:
    return [] if flags.gpu_memory_utilization >= 0.95 else ["gpu_memory_utilization=0.95"]


def _fp8_weights(chosen: Option) -> list[str]:
    quantized = chosen.spec.hardware.get("quantization") or chosen.server.model.quantization
    return [] if quantized else ["quantization=fp8"]


def _more_gpus(chosen: Option) -> list[str]:
    return [f"tensor_parallel_size={2 * chosen.server.deployment.tensor_parallel_size}"]


def _other_gpu(chosen: Option, bound: str) -> list[str]:
    """The cheapest known GPU with more of what binds."""
    own = chosen.server.gpu

    def has(gpu: GPUSpec) -> float:
        if "compute" in bound:
            return gpu.flops_of("bf16") or 0.0
        if "bandwidth" in bound:
            return gpu.memory_bandwidth_bytes_per_s
        return gpu.total_memory_bytes

    more = [
        (gpu.price_usd_per_hour, gpu.name)
        for gpu in known_gpus()
        if gpu.price_usd_per_hour is not None and has(gpu) > 1.1 * has(own)
    ]
    return [f"gpu={min(more)[1]}"] if more else []
