"""What a device is: how many programs of a kernel it holds at once, and its generation."""

from __future__ import annotations

from functools import cache

import torch

from .launch import HOPPER, Launch

CPU_SLOTS = 8
"""Under the interpreter there is one program at a time; a few items show the splitting."""


def slots_of(device: torch.device, launch: Launch) -> int:
    """Multiprocessors times what one holds; a small number on a CPU."""
    if device.type != "cuda":
        return CPU_SLOTS
    num_sms, shared_bytes = _multiprocessors(device.index or 0)
    return num_sms * launch.resident(shared_bytes)


@cache
def compute_capability(device: torch.device) -> int:
    """80, 89, 90 ...; a CPU counts as the newest that the kernels are tuned for."""
    if device.type != "cuda":
        return HOPPER
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


@cache
def _multiprocessors(index: int) -> tuple[int, int]:
    """Their number, and the shared memory of one."""
    device = torch.cuda.get_device_properties(index)
    return int(device.multi_processor_count), int(device.shared_memory_per_multiprocessor)
