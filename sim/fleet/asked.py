"""From the options of ``kvsim fleet`` to a fleet: units, defaults, what does not go together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..servable import Arrivals
from .autoscaling import METRICS, Autoscaling
from .load import Wanted, load_fleet
from .spec import Fleet, KVTransfer

_TARGETS = {option: metric for metric, option in METRICS.items()}
_SCALING = {
    "min_replicas": "min_replicas",
    "scale_interval": "interval_s",
    "scale_out_delay": "scale_out_delay_s",
    "scale_cooldown": "cooldown_s",
}


def fleet_of(
    trace: Arrivals,
    *,
    hardware: Mapping[str, Any],
    flags: Mapping[str, Any],
    shape: Mapping[str, Any],
    scaling: Mapping[str, Any],
) -> Fleet:
    """The fleet that the options describe.

    Args:
        trace: what it will serve.
        hardware: as for :func:`~kvsim.sim.load.load_server`.
        flags: as for :func:`~kvsim.sim.load.load_server`.
        shape: ``replicas``, ``pools``, ``prefill``, ``decode``, ``router``,
            ``max_ongoing_requests``, ``kv_transfer_bandwidth`` (GB/s), ``kv_transfer_latency``
            (microseconds), ``scale``; what is missing or None has its default.
        scaling: ``max_replicas``, ``min_replicas``, ``target_ongoing_requests``,
            ``target_kv_usage``, ``scale_interval``, ``scale_out_delay``, ``scale_cooldown``.

    Raises:
        ValueError: options that do not go together, or as :func:`load_fleet`.
    """
    lists = {name: _listed(shape.get(name)) for name in ("pools", "prefill", "decode")}
    return load_fleet(
        trace,
        hardware=hardware,
        flags=flags,
        wanted=Wanted(replicas=shape.get("replicas"), **lists),
        router=shape.get("router") or "round_robin",
        max_ongoing_requests=shape.get("max_ongoing_requests"),
        kv_transfer=_link(shape),
        autoscaling=autoscaling_of(scaling),
        changes=shape.get("scale") or (),
    )


def autoscaling_of(given: Mapping[str, Any]) -> Autoscaling | None:
    """The autoscaler of these options; None without any.

    Raises:
        ValueError: no ``max_replicas`` or no target beside the others, or two targets.
    """
    values = {name: value for name, value in given.items() if value is not None}
    if not values:
        return None
    targets = [name for name in _TARGETS if name in values]
    if "max_replicas" not in values:
        name = next(iter(values))
        raise ValueError(f"{name}(={values[name]:g}) needs max_replicas.")
    if len(targets) != 1:
        raise ValueError(
            f"max_replicas(={values['max_replicas']}) needs one of target_ongoing_requests and "
            "target_kv_usage."
        )
    more = {field: values[name] for name, field in _SCALING.items() if name in values}
    return Autoscaling(
        metric=_TARGETS[targets[0]],
        target=values[targets[0]],
        max_replicas=values["max_replicas"],
        **more,
    )


def _listed(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",")) if text else ()


def _link(shape: Mapping[str, Any]) -> KVTransfer | None:
    bandwidth, latency = shape.get("kv_transfer_bandwidth"), shape.get("kv_transfer_latency")
    if bandwidth is None and latency is None:
        return None
    usual = KVTransfer()
    return KVTransfer(
        bytes_per_s=usual.bytes_per_s if bandwidth is None else bandwidth * 1e9,
        latency_s=usual.latency_s if latency is None else latency / 1e6,
    )
