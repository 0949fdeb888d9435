"""From names and flags, as a command or a suite gives them, to hardware and a server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..calibration.costs import DEFAULT as DEFAULT_COST
from ..calibration.engines import LATEST
from ..calibration.gpus import GPUSpec, load_gpu
from ..calibration.models import ModelSpec, load_model
from ..calibration.quantized import quantized
from .offloading import FLAGS as OFFLOADING_FLAGS
from .offloading import Offloading
from .servable import Arrivals
from .server import Server, resolve

FLAG_DEFAULTS: dict[str, Any] = {
    "max_model_len": None,
    "step_cost": DEFAULT_COST,
    "profile": None,
    "num_gpu_blocks_override": None,
    "kv_cache_memory_bytes": None,
    "non_kv_memory_bytes": None,
    "engine": LATEST,
    "hybrid_kv_cache": None,
}
"""Flags that are not fields of a deployment."""


def load_hardware(
    *,
    gpu: str,
    model: str,
    quantization: str | None = None,
    price: float | None = None,
    memory_factor: float = 1.0,
) -> tuple[ModelSpec, GPUSpec]:
    """The model and the GPU of these names or files.

    Args:
        gpu: a name of ``kvsim gpus``, or a JSON file.
        model: a name of ``kvsim models``, or a Hugging Face ``config.json``.
        quantization: format of the linear weights, of a 16-bit model.
        price: USD per GPU and hour.
        memory_factor: so many times the card's memory, at its price: a what-if.

    Raises:
        ValueError: an unknown name, or a file that cannot be read.
    """
    card = load_gpu(gpu, price_usd_per_hour=price)
    if memory_factor != 1.0:
        card = replace(card, total_memory_bytes=round(memory_factor * card.total_memory_bytes))
    return quantized(load_model(model), quantization), card


def load_server(
    trace: Arrivals, *, hardware: Mapping[str, Any], flags: Mapping[str, Any]
) -> Server:
    """The server that serves a trace.

    Args:
        trace: what it will serve.
        hardware: arguments of :func:`load_hardware`.
        flags: fields of ``Deployment`` and the other flags of ``kvsim simulate``, by name.

    Raises:
        ValueError: as :func:`load_hardware` and :func:`~kvsim.sim.server.resolve`.
    """
    model, gpu = load_hardware(**hardware)
    given = {**FLAG_DEFAULTS, **flags}
    own = {name: given.pop(name) for name in FLAG_DEFAULTS}
    offloading = Offloading.of_flags(
        {flag: given.pop(flag, None) for flag in OFFLOADING_FLAGS.values()}
    )
    spec = own.pop("step_cost")
    return resolve(
        model=model,
        gpu=gpu,
        trace=trace,
        flags=given,
        step_cost_spec=spec,
        offloading=offloading,
        **own,
    )
