"""Which profile is for this server: one that kvsim ships, or a file that the user names.

A profile holds for the GPU it was measured on and for the kernels it was measured with. A shipped
one is named ``<gpu>.json`` or ``<gpu>.<anything>.json``; of several the last by name is taken.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..gpus import GPUSpec
from ..operator_cost import OperatorCost
from .cost import measured_cost
from .store import read_profile
from .unfit import Unfit
from .values import Profile

BUNDLED = Path(__file__).parent / "bundled"
SHOWN_DIGITS = 12
"""Of a hash."""


def cost_of_file(
    path: str, *, gpu: GPUSpec, allow_synthetic: bool = False, **flags: Any
) -> OperatorCost:
    """The cost from a profile in a file.

    Args:
        path: of the JSON file.
        gpu: must be the one that was measured.
        allow_synthetic: whether an invented card will do: in tests.
        flags: those of ``measured_cost``.

    Raises:
        ValueError: the file cannot be read, or is for another GPU, other kernels, another model.
    """
    name = f"profile(={path})"
    profile = read_profile(path)
    check(profile, gpu, name=name, allow_synthetic=allow_synthetic)
    return measured_cost(profile, gpu=gpu, name=name, **flags)


def bundled_cost(*, gpu: GPUSpec, **flags: Any) -> OperatorCost | None:
    """The cost from the profile that kvsim ships for this GPU; None where it ships none.

    Raises:
        Unfit: it was measured with other kernels, or not in every shape of the model.
        ValueError: a flag out of range.
    """
    path = bundled_profile(gpu)
    if path is None:
        return None
    name = f"the profile {path.stem} that kvsim ships"
    profile = read_profile(path)
    check(profile, gpu, name=name)
    return measured_cost(profile, gpu=gpu, name=name, exact=True, **flags)


def bundled_profile(gpu: GPUSpec) -> Path | None:
    """The file."""
    found = sorted(path for path in BUNDLED.glob("*.json") if _gpu_of(path) == gpu.name)
    return found[-1] if found else None


def bundled_gpus() -> frozenset[str]:
    """Names of the GPUs that kvsim ships a profile of."""
    return frozenset(_gpu_of(path) for path in BUNDLED.glob("*.json"))


def check(profile: Profile, gpu: GPUSpec, *, name: str, allow_synthetic: bool = False) -> None:
    """Whether the profile holds for this GPU and these kernels.

    Raises:
        Unfit: it does not.
    """
    hardware = profile.hardware
    if hardware.gpu and hardware.gpu != gpu.name:
        raise Unfit(f"{name} was measured on {hardware.name}: --gpu {gpu.name} needs another.")
    if profile.provenance == "synthetic" and not allow_synthetic:
        raise Unfit(f"{name} is synthetic: invented for tests, it says nothing of a card.")
    if profile.provenance == "imported":
        return  # other kernels than ours
    from ...kernels.version import kernel_hash

    theirs, ours = profile.software.get("kernel_hash", "none"), kernel_hash()
    if theirs != ours:
        raise Unfit(
            f"{name} was measured with other kernels ({_short(theirs)}) than these "
            f"({_short(ours)}): measure it again with kvsim calibrate."
        )


def _gpu_of(path: Path) -> str:
    return path.name.split(".")[0]


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:SHOWN_DIGITS]
