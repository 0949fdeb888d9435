"""The servers to choose from: every combination of the values given in comma lists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import isfinite, prod
from typing import Any

from ...calibration.gpus import load_gpu
from ...calibration.kv_dtypes import kv_dtype
from .spec import ServerSpec

MOST_SPECS = 1_000
NAMES = {"tensor_parallel_size": "TP"}
"""Flags with a shorter name in titles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A server with some values open.

    Raises:
        ValueError: more combinations than anybody waits for.
    """

    base: ServerSpec
    """With the first value of each axis."""
    axes: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    """Hardware or flag with its values, in the order of the command line."""
    prices: tuple[tuple[str, float], ...] = ()
    """USD per GPU and hour by GPU, as named on the axis; the others have the catalogue's."""

    def __post_init__(self) -> None:
        size = prod(len(values) for _, values in self.axes)
        if size > MOST_SPECS:
            raise ValueError(
                f"{' x '.join(name for name, _ in self.axes)} make {size} servers: at most "
                f"{MOST_SPECS} are compared."
            )

    @property
    def flags(self) -> tuple[str, ...]:
        """The axes that are flags of the engine rather than GPUs."""
        return tuple(name for name, _ in self.axes if name not in ("gpu", "tensor_parallel_size"))

    def specs(self) -> Iterator[tuple[str, ServerSpec]]:
        """Titles and servers; the last axis moves fastest."""
        names = [name for name, _ in self.axes]
        for values in product(*(values for _, values in self.axes)):
            changes = dict(zip(names, values, strict=True))
            gpu = changes.get("gpu", self.base.hardware["gpu"])
            spec = self.base.changed(**changes, price=dict(self.prices).get(gpu))
            yield titled(str(gpu), changes), spec


def titled(gpu: str, values: Mapping[str, Any]) -> str:
    """``h200, TP 2, block_size 32``."""
    return ", ".join([gpu, *(worded(name, v) for name, v in values.items() if name != "gpu")])


def worded(name: str, value: object) -> str:
    """``block_size 32``, ``no enable_prefix_caching``."""
    if isinstance(value, bool):
        return name if value else f"no {name}"
    return (
        f"{NAMES.get(name, name)} {value:g}"
        if isinstance(value, float)
        else (f"{NAMES.get(name, name)} {value}")
    )


def grid_of(hardware: Mapping[str, Any], flags: Mapping[str, Any]) -> Grid:
    """Sort a command's values: a tuple is an axis, anything else holds for every server.

    Args:
        hardware: arguments of :func:`~kvsim.sim.load.load_hardware`; the price is None, a text or
            several: ``2.5`` for the only GPU, ``h200=4.0`` for one of them.
        flags: flags of ``kvsim simulate``.

    Raises:
        ValueError: an unknown GPU or KV dtype, one named twice, a price for no GPU or for several.
    """
    hardware = dict(hardware)
    price = hardware.pop("price", None)
    prices = () if price is None else price if isinstance(price, tuple) else (str(price),)
    axes = {n: v for n, v in {**hardware, **flags}.items() if isinstance(v, tuple)}
    _check_sizes(axes)
    gpus = axes.get("gpu", (hardware["gpu"],))
    names = [load_gpu(gpu).name for gpu in gpus]
    if len(set(names)) < len(names):
        raise ValueError(f"gpu(={','.join(gpus)!r}) must name each GPU once.")
    dtypes = axes.get("kv_cache_dtype", (flags.get("kv_cache_dtype", "auto"),))
    for dtype in dtypes:
        kv_dtype(dtype)
    priced = prices_of(prices, dict(zip(names, gpus, strict=True)))
    first = {name: values[0] for name, values in axes.items()}
    base = ServerSpec(
        hardware={k: first.get(k, v) for k, v in hardware.items()} | {"price": priced.get(gpus[0])},
        flags={k: first.get(k, v) for k, v in flags.items()},
    )
    return Grid(base=base, axes=tuple(axes.items()), prices=tuple(priced.items()))


def _check_sizes(axes: Mapping[str, tuple[Any, ...]]) -> None:
    """A size that no server can have is the user's slip, not a server that loses."""
    for name, values in axes.items():
        for value in values:
            if isinstance(value, int | float) and not isinstance(value, bool) and not value > 0:
                raise ValueError(f"{name}(={value}) must be > 0.")


def prices_of(texts: Sequence[str], gpus: Mapping[str, str]) -> dict[str, float]:
    """USD per GPU and hour, by GPU as the user names it.

    Args:
        texts: ``2.5``, ``h200=4.0`` or several in a comma list.
        gpus: name in the catalogue -> as the user names it.

    Raises:
        ValueError: no number, a GPU that is not compared, two prices for one.
    """
    found: dict[str, float] = {}
    for part in (part.strip() for text in texts for part in text.split(",")):
        gpu, equals, price = part.rpartition("=")
        if not equals and len(gpus) > 1:
            name = next(iter(gpus.values()))
            raise ValueError(f"price(={part!r}) must name its GPU: {name}={part}.")
        known = gpus.get(load_gpu(gpu).name) if equals else next(iter(gpus.values()))
        if known is None:
            raise ValueError(
                f"price(={part!r}) must be of a GPU that is compared: {', '.join(gpus.values())}."
            )
        if known in found:
            raise ValueError(f"price(={part!r}) must be the only one of {known}.")
        found[known] = _usd(part, price)
    return found


def _usd(part: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not (value >= 0 and isfinite(value)):
        raise ValueError(f"price(={part!r}) must be USD per GPU and hour, >= 0.")
    return value
