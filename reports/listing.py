"""What kvsim knows by name, as plain values and as a table: GPUs, models, public traces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.table import Table

from .sheet import Sheet
from .tables import sheet_table

if TYPE_CHECKING:
    from ..calibration.gpus import GPUSpec
    from ..calibration.models import ModelSpec
    from ..traces.catalogue import PublicTrace


def gpus_json(gpus: Sequence[GPUSpec]) -> list[dict[str, object]]:
    """One object per GPU, units in the keys."""
    return [
        {**asdict(gpu), "flops_per_s": dict(gpu.flops_per_s), "sources": dict(gpu.sources)}
        for gpu in gpus
    ]


def models_json(models: Sequence[ModelSpec]) -> list[dict[str, object]]:
    """One object per model: what decides its memory."""
    return [
        {
            "name": model.name,
            "hub_id": model.hub_id,
            "source": model.source,
            "num_parameters": model.num_parameters,
            "weight_bytes": model.weight_bytes,
            "kv_bytes_per_token": model.kv_bytes_per_token(),
            "num_layers": model.num_layers,
            "max_position_embeddings": model.max_position_embeddings,
            "kv_layers": _layers_by_kind(model),
        }
        for model in models
    ]


def _layers_by_kind(model: ModelSpec) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for layers in model.layers:
        counts[layers.kind] += layers.num_layers
    return dict(counts)


def traces_json(catalogue: Mapping[str, PublicTrace]) -> dict[str, dict[str, object]]:
    """One object per public trace."""
    return {
        name: {**asdict(trace), "url": trace.url, "file_name": trace.file_name}
        for name, trace in sorted(catalogue.items())
    }


def traces_table(catalogue: Mapping[str, PublicTrace]) -> Table:
    """The public traces that can be fetched by name."""
    rows = [
        (name, trace.trace_format, f"{trace.size_bytes / 1e6:.1f} MB", trace.licence)
        for name, trace in sorted(catalogue.items())
    ]
    return sheet_table(
        Sheet(
            title="Public traces",
            columns=("name", "format", "size", "licence"),
            rows=tuple(rows),
            text_columns=(0, 1, 3),
        )
    )
