"""Opens the card of this machine, or says in one sentence why there is none to measure.

The framework is imported here and nowhere before. The card's catalogue name is read from what the
driver calls it, and believed only where its memory is that of the catalogue to a tenth: a slice of
a card (MIG) bears the whole card's name.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ..device_names import device_of
from ..gpus import load_gpu

if TYPE_CHECKING:
    from .cuda_card import CudaCard

NO_GPU = "no NVIDIA GPU here: run this on the card, or use --from, --refit, or --step-cost silicon."
SAME_MEMORY = 0.1


def open_card(gpu: str | None, *, seed: int) -> CudaCard:
    """The first CUDA device.

    Raises:
        ValueError: no framework, no GPU, or a GPU that is not known by name.
    """
    _require("torch")
    import torch

    if not torch.cuda.is_available() or torch.version.cuda is None:
        raise ValueError(NO_GPU)
    _require("triton")
    from .cuda_card import CudaCard

    properties = torch.cuda.get_device_properties(0)
    name = gpu_name(properties.name, properties.total_memory, gpu)
    return CudaCard(name, seed=seed)


def gpu_name(device_name: str, total_memory_bytes: int, asked: str | None) -> str:
    """kvsim's name for a device.

    Raises:
        ValueError: not recognised and no name given, or a name that is another card's.
    """
    known = device_of(f"NVIDIA {device_name}")
    if known is not None and not _has_memory(known, total_memory_bytes):
        known = None
    if asked is None:
        if known is None:
            raise ValueError(
                f"gpu(={device_name!r}, {total_memory_bytes / (1 << 30):.1f} GiB) is not known: "
                "name it with --gpu (a name of `kvsim gpus`, or a JSON file)."
            )
        return known
    spec = load_gpu(asked)
    if known is not None and spec.name != known and not asked.endswith(".json"):
        raise ValueError(f"gpu(={asked!r}) is not this card: it is {device_name} ({known}).")
    return spec.name


def _has_memory(name: str, total_memory_bytes: int) -> bool:
    listed = load_gpu(name).total_memory_bytes
    return abs(total_memory_bytes / listed - 1) < SAME_MEMORY


def _require(module: str) -> None:
    try:
        import_module(module)
    except ImportError:
        raise ValueError(
            f"{module} is not installed, and measuring needs it: pip install 'kvsim[gpu]'."
        ) from None
