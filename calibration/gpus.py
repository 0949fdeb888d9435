"""GPUs by name or by file: memory as the framework sees it, bandwidth, dense FLOP/s, links, price.

Dense FLOP/s only: datasheets print the sparse figure, twice as large, beside it. ``load_gpu`` also
reads a JSON file with the field names of :class:`GPUSpec`; ``like`` names a catalogue GPU whose
values stand where the file is silent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from math import isfinite
from pathlib import Path
from typing import Any

from .json_files import read_json
from .names import look_up

GIB = 1 << 30
MOST_MEMORY_BYTES = 1e14
TEXT_FIELDS = ("name", "title", "generation", "price_date", "price_source")


@dataclass(frozen=True, slots=True, kw_only=True)
class GPUSpec:
    """One GPU.

    Raises:
        ValueError: a size or rate that is not positive.
    """

    name: str
    title: str
    generation: str
    """``ampere``, ``ada``, ``hopper``, ``blackwell``, ``blackwell_rtx``, ``cdna3`` ..."""
    total_memory_bytes: int
    """What ``torch.cuda.mem_get_info`` reports as total: less than the label says."""
    memory_bandwidth_bytes_per_s: float
    flops_per_s: tuple[tuple[str, float], ...]
    """Dense, by dtype (``bf16``, ``fp8``, ``int8``)."""
    pcie_bytes_per_s: float
    """One direction."""
    nvlink_bytes_per_s: float | None = None
    """Both directions together, all links (or Infinity Fabric); None without."""
    l2_bytes: int | None = None
    price_usd_per_hour: float | None = None
    price_date: str | None = None
    price_source: str | None = None
    sources: tuple[tuple[str, str], ...] = ()
    """Field -> where its value comes from."""

    def __post_init__(self) -> None:
        for name in ("total_memory_bytes", "memory_bandwidth_bytes_per_s", "pcie_bytes_per_s"):
            value = getattr(self, name)
            if value is None or value <= 0:
                raise ValueError(f"{name}(={value!r}) must be > 0.")
        if not self.flops_of("bf16"):
            raise ValueError(f"flops_per_s(={dict(self.flops_per_s)}) must have a bf16 figure > 0.")
        if not self.total_memory_bytes < MOST_MEMORY_BYTES:
            raise ValueError(f"total_memory_bytes(={self.total_memory_bytes:g}) is no GPU's.")
        if self.nvlink_bytes_per_s is not None and self.nvlink_bytes_per_s <= 0:
            raise ValueError(
                f"nvlink_bytes_per_s(={self.nvlink_bytes_per_s}) must be > 0, or null without."
            )
        price = self.price_usd_per_hour
        if price is not None and not 0 <= price < float("inf"):
            raise ValueError(f"price_usd_per_hour(={price}) must be >= 0.")

    def flops_of(self, dtype: str) -> float | None:
        """Dense FLOP/s in that dtype, None where the GPU has no units for it."""
        return dict(self.flops_per_s).get(dtype)


def load_gpu(name_or_json_path: str, *, price_usd_per_hour: float | None = None) -> GPUSpec:
    """A catalogue GPU (case and separators forgiven) or a JSON file; the price may be given.

    Raises:
        ValueError: unknown name (near matches are listed), unreadable file, wrong value.
    """
    from .gpu_catalogue import ALIASES, GPUS

    if name_or_json_path.endswith(".json"):
        gpu = _read_gpu(Path(name_or_json_path))
    else:
        known = {**GPUS, **{alias: GPUS[name] for alias, name in ALIASES.items()}}
        gpu = look_up(known, name_or_json_path, field="gpu")
    if price_usd_per_hour is None:
        return gpu
    return replace(
        gpu,
        price_usd_per_hour=price_usd_per_hour,
        price_date=None,
        price_source="given by the user",
    )


def known_gpus() -> list[GPUSpec]:
    """Every GPU of the catalogue, in its order."""
    from .gpu_catalogue import GPUS

    return list(GPUS.values())


def _read_gpu(path: Path) -> GPUSpec:
    from .gpu_catalogue import GPUS

    raw = read_json(path)
    like = raw.pop("like", None)
    unknown = sorted(set(raw) - {field.name for field in fields(GPUSpec)})
    if unknown:
        raise ValueError(f"{path}: {unknown[0]} is no field of a GPU.")
    base = {} if like is None else _values(look_up(GPUS, str(like), field=f"{path}: like"))
    name = str(raw.get("name", path.stem))
    title = f"{name}, like {base['title']}" if base else name
    own = {"name": name, "title": title, **{k: _own(raw, k, path) for k in raw}}
    read = {name: f"read in {path.name}" for name in sorted(raw)}
    values = {**base, **own, "sources": tuple({**dict(base.get("sources", ())), **read}.items())}
    missing = [f.name for f in fields(GPUSpec) if f.name not in values and f.default is MISSING]
    if missing:
        raise ValueError(f"{path} has no {missing[0]} (and no like to take it from).")
    try:
        return GPUSpec(**values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _values(gpu: GPUSpec) -> dict[str, Any]:
    return {field.name: getattr(gpu, field.name) for field in fields(gpu)}


def _own(raw: Mapping[str, Any], name: str, path: Path) -> Any:
    """One field of a file: text where text belongs, FLOP/s as pairs, numbers elsewhere."""
    value = raw[name]
    if name == "flops_per_s":
        if not isinstance(value, Mapping) or not all(_is_number(x) for x in value.values()):
            raise ValueError(f"{path}: flops_per_s(={value!r}) must be an object of numbers.")
        return tuple(sorted(value.items()))
    if name in TEXT_FIELDS:
        return None if value is None else str(value)
    if value is not None and not _is_number(value):
        raise ValueError(f"{path}: {name}(={value!r}) must be a number.")
    return int(value) if name in ("total_memory_bytes", "l2_bytes") and value else value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)
