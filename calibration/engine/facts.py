"""What a run is run on, for the head of its log."""

from __future__ import annotations

import os
import platform
from typing import Any

import torch
import triton

from ... import __version__
from ...kernels.version import kernel_hash
from ..measure.clocks import nvml_facts


def hardware(device: torch.device) -> dict[str, Any]:
    """The card, or the CPU under the interpreter."""
    host = {"machine": platform.machine(), "num_cpus": os.cpu_count()}
    if device.type != "cuda":
        return {"name": "cpu", **host}
    properties = torch.cuda.get_device_properties(device)
    _, total = torch.cuda.mem_get_info(device)
    uuid = getattr(properties, "uuid", None)
    facts = nvml_facts(f"GPU-{uuid}" if uuid else None)
    return {
        "name": properties.name,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "num_sms": properties.multi_processor_count,
        "total_memory_bytes": total,
        "driver": facts.get("driver"),
        **host,
    }


def software() -> dict[str, str]:
    """Versions, and that of the kernels."""
    return {
        "cuda": str(torch.version.cuda),
        "torch": str(torch.__version__),
        "triton": triton.__version__,
        "python": platform.python_version(),
        "kvsim": __version__,
        "kernel_hash": kernel_hash(),
    }
