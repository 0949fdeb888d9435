"""Catalogue names of the GPUs that a log names: ``NVIDIA_H100_80GB_HBM3`` is ``h100-sxm``."""

from __future__ import annotations

import re

from .gpu_catalogue import GPUS
from .gpus import GIB

DEVICES = (
    (r"A100[ -]SXM\d?[ -]40GB", "a100-40gb"),
    (r"A100[ -]SXM\d?[ -]80GB", "a100"),
    (r"A100(?: 80GB PCIe|[ -]PCIE[ -]80GB)", "a100-pcie"),
    (r"A10G\b", "a10g"),
    (r"A30\b", "a30"),
    (r"A40\b", "a40"),
    (r"RTX A6000", "rtx-a6000"),
    (r"RTX 3090", "rtx-3090"),
    (r"RTX 4090", "rtx-4090"),
    (r"RTX 5090", "rtx-5090"),
    (r"RTX 6000 Ada", "rtx-6000-ada"),
    (r"RTX PRO 6000", "rtx-pro-6000"),
    (r"L40S\b", "l40s"),
    (r"L4\b", "l4"),
    (r"H100 NVL", "h100-nvl"),
    (r"H100 PCIe", "h100-pcie"),
    (r"H100\b", "h100-sxm"),
    (r"H800\b", "h800"),
    (r"H200\b", "h200"),
    (r"H20\b", "h20"),
    (r"GB200\b", "gb200"),
    (r"GB300\b", "gb300"),
    (r"B200\b", "b200"),
    (r"B300\b", "b300"),
    (r"MI300X\b", "mi300x"),
    (r"MI325X\b", "mi325x"),
)
MAKERS = re.compile(r"(?:NVIDIA|GeForce|AMD|Instinct|device_name=)[^\n]{0,80}", re.I)
SAME_BYTES = GIB // 50


def device_of(text: str) -> str | None:
    """The first GPU that a text names with its maker, or None."""
    for match in MAKERS.finditer(text):
        words = match.group(0).replace("_", " ")
        for pattern, name in DEVICES:
            if re.search(rf"\b{pattern}", words, re.I):
                return name
    return None


def devices_of_size(total_bytes: int) -> tuple[str, ...]:
    """Catalogue names whose memory, as the framework sees it, is this one to 0.02 GiB."""
    near = (g for g in GPUS.values() if abs(g.total_memory_bytes - total_bytes) < SAME_BYTES)
    return tuple(gpu.name for gpu in near)
