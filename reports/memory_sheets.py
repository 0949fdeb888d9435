"""The tables of what fits, as data: the memory budget, the GPUs, the models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from . import words
from .sheet import Sheet

if TYPE_CHECKING:
    from ..calibration.gpus import GPUSpec
    from ..calibration.memory import MemoryBudget, MemoryLine
    from ..calibration.models import ModelSpec

LINE_TITLES = {
    "weights": "weights",
    "draft_weights": "drafter's weights",
    "activation_peak": "activation peak",
    "runtime": "runtime",
    "nccl": "NCCL buffers",
    "cuda_graphs": "CUDA graphs",
    "non_kv": "non-KV memory",
    "kv_cache": "KV pool",
    "outside": "not requested",
}


def budget_sheet(budget: MemoryBudget) -> Sheet:
    """Line by line: size, share of the GPU, what it may be in truth, source; then the total."""
    total = budget.total_bytes
    rows = [
        (
            LINE_TITLES.get(line.name, line.name),
            words.gib(line.bytes),
            words.share(line.bytes / total),
            _range(line),
            line.source,
        )
        for line in budget.lines
    ]
    whole = ("total", words.gib(total), words.share(1.0), "", "what the framework sees")
    return Sheet(
        title="Memory of one GPU",
        columns=("line", "size", "share", "range, GiB", "source"),
        rows=(*rows, whole),
        text_columns=(0, 4),
        total_row=True,
    )


def _range(line: MemoryLine) -> str:
    if line.low_bytes == line.high_bytes:
        return ""
    return f"{line.low_bytes / words.GIB:,.2f}-{line.high_bytes / words.GIB:,.2f}"


def pool_facts(budget: MemoryBudget) -> dict[str, str]:
    """What the KV pool holds, name to printed value."""
    keys = budget.index_bytes_per_token
    beside = f" and {words.count(keys)} B of indexer keys" if keys else ""
    return {
        "KV bytes per token": f"{words.count(budget.kv_bytes_per_token)} B{beside}",
        "block": f"{words.tokens(budget.block_size)}, {words.size(budget.block_bytes)}",
        "num_gpu_blocks": f"{words.count(budget.num_gpu_blocks)} (one of them the null block)",
        "KV tokens": words.count(budget.kv_cache_tokens),
        f"requests of {words.tokens(budget.max_model_len)}": f"{budget.max_concurrency:,.2f}",
    }


def gpus_sheet(gpus: Sequence[GPUSpec]) -> Sheet:
    """A row per GPU; FLOP/s are dense."""
    return Sheet(
        title="GPUs",
        columns=("name", "card", "GiB", "GB/s", "bf16 TFLOP/s", "fp8 TFLOP/s", "USD/h", "price of"),
        rows=tuple(_gpu_row(gpu) for gpu in gpus),
        text_columns=(0, 1, 7),
    )


def _gpu_row(gpu: GPUSpec) -> tuple[str, ...]:
    price = gpu.price_usd_per_hour
    source = ", ".join(part for part in (gpu.price_date, gpu.price_source) if part)
    return (
        gpu.name,
        gpu.title,
        f"{gpu.total_memory_bytes / words.GIB:.2f}",
        words.count(gpu.memory_bandwidth_bytes_per_s / 1e9),
        _tera(gpu.flops_of("bf16")),
        _tera(gpu.flops_of("fp8")),
        words.NONE if price is None else f"{price:.2f}",
        words.NONE if price is None else source,
    )


def _tera(flops_per_s: float | None) -> str:
    return words.NONE if flops_per_s is None else words.number(flops_per_s / 1e12)


def models_sheet(models: Sequence[ModelSpec]) -> Sheet:
    """A row per model, in the checkpoint's own dtypes."""
    return Sheet(
        title="Models",
        columns=(
            "name",
            "1e9 params",
            "weights",
            "layers",
            "KV kinds",
            "KV B/token",
            "length",
        ),
        rows=tuple(_model_row(model) for model in models),
        text_columns=(0, 4),
    )


def _model_row(model: ModelSpec) -> tuple[str, ...]:
    return (
        model.name,
        words.number(model.num_parameters / 1e9),
        words.gib(model.weight_bytes),
        str(model.num_layers),
        ", ".join(dict.fromkeys(layers.kind for layers in model.layers)),
        words.count(model.kv_bytes_per_token()),
        words.count(model.max_position_embeddings),
    )
