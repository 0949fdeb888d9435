"""From names, as a command gives them, to a fleet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..load import load_server
from ..servable import Arrivals
from ..server import Server
from .autoscaling import Autoscaling
from .spec import Change, Fleet, KVTransfer, Pool


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Pools as text: ``GPU:REPLICAS``, ``REPLICAS`` (of the command's GPU) or ``GPU`` (one)."""

    replicas: int | None = None
    pools: Sequence[str] = ()
    prefill: Sequence[str] = ()
    decode: Sequence[str] = ()


def replicated(server: Server, num_replicas: int, *, router: str = "round_robin") -> Fleet:
    """So many of one server behind a router.

    Raises:
        ValueError: no replica, or an unknown router.
    """
    pool = Pool(name=server.gpu.name, server=server, num_replicas=num_replicas)
    return Fleet(pools=(pool,), router=router)


def load_fleet(
    trace: Arrivals,
    *,
    hardware: Mapping[str, Any],
    flags: Mapping[str, Any],
    wanted: Wanted,
    router: str = "round_robin",
    max_ongoing_requests: int | None = None,
    kv_transfer: KVTransfer | None = None,
    autoscaling: Autoscaling | None = None,
    changes: Iterable[str] = (),
) -> Fleet:
    """The fleet that serves a trace; every pool has the same flags.

    Args:
        trace: what it will serve.
        hardware: as for :func:`~kvsim.sim.load.load_server`; its GPU where a pool names none.
        flags: as for :func:`~kvsim.sim.load.load_server`.
        wanted: which pools.
        router: a name of ``routers.ROUTERS``.
        max_ongoing_requests: as of :class:`Fleet`.
        kv_transfer: the link between prefill and decode pools.
        autoscaling: of every pool.
        changes: ``SECONDS:+N`` or ``SECONDS:POOL:-N``.

    Raises:
        ValueError: as ``load_server`` and :class:`Fleet`, or text that cannot be read.
    """
    parts = _parts(wanted, str(hardware["gpu"]))
    gpus = {gpu for _, gpu, _, _ in parts}
    if hardware.get("price") is not None and len(gpus) > 1:
        raise ValueError(
            f"price(={hardware['price']:g}) must not be given for several GPUs: "
            f"{', '.join(sorted(gpus))}."
        )
    servers = _servers(trace, gpus, hardware, flags)
    if kv_transfer is not None and not (wanted.prefill or wanted.decode):
        raise ValueError("kv_transfer_bandwidth and kv_transfer_latency need prefill and decode.")
    pools = tuple(
        Pool(name=name, server=servers[gpu], num_replicas=n, role=role, autoscaling=autoscaling)
        for name, gpu, n, role in parts
    )
    return Fleet(
        pools=pools,
        router=router,
        max_ongoing_requests=max_ongoing_requests,
        kv_transfer=kv_transfer or KVTransfer(),
        changes=tuple(_change(text, pools) for text in changes),
    )


def _servers(
    trace: Arrivals, gpus: Iterable[str], hardware: Mapping[str, Any], flags: Mapping[str, Any]
) -> dict[str, Server]:
    """A server per GPU; they all allow what the smallest one holds."""

    def each(flags: Mapping[str, Any]) -> dict[str, Server]:
        return {
            gpu: load_server(trace, hardware={**hardware, "gpu": gpu}, flags=flags) for gpu in gpus
        }

    servers = each(flags)
    longest = {server.deployment.max_model_len for server in servers.values()}
    return servers if len(longest) == 1 else each({**flags, "max_model_len": min(longest)})


def _parts(wanted: Wanted, gpu: str) -> list[tuple[str, str, int, str]]:
    """Of each pool its name, GPU, number of replicas and role."""
    split = {"prefill": wanted.prefill, "decode": wanted.decode}
    if any(split.values()):
        if wanted.pools or wanted.replicas is not None:
            given = "pools" if wanted.pools else "replicas"
            raise ValueError(f"{given} must not be given beside prefill and decode.")
        for role, texts in split.items():
            if not texts:
                other = "decode" if role == "prefill" else "prefill"
                raise ValueError(f"{other}(={','.join(split[other])!r}) needs {role}, too.")
        found = [(role, *_pool(text, gpu, role)) for role, texts in split.items() for text in texts]
        several = {role: len(texts) > 1 for role, texts in split.items()}
        return [(f"{r}-{g}" if several[r] else r, g, n, r) for r, g, n in found]
    if wanted.pools:
        if wanted.replicas is not None:
            raise ValueError(f"replicas(={wanted.replicas}) must not be given beside pools.")
        return [
            (g, g, n, "unified") for g, n in (_pool(text, gpu, "pools") for text in wanted.pools)
        ]
    return [(gpu, gpu, 1 if wanted.replicas is None else wanted.replicas, "unified")]


def _pool(text: str, gpu: str, field: str) -> tuple[str, int]:
    name, _, number = text.rpartition(":")
    if not name and not number.isdigit():
        name, number = number, "1"
    if not number.isdigit():
        raise ValueError(f"{field}(={text!r}) must be GPU:REPLICAS, as in a100:2.")
    return name or gpu, int(number)


def _change(text: str, pools: Sequence[Pool]) -> Change:
    parts = text.split(":")
    if len(parts) == 2 and len(pools) == 1:
        parts.insert(1, pools[0].name)
    try:
        at, pool, replicas = parts
        return Change(at_s=float(at), pool=pool, replicas=int(replicas))
    except (TypeError, ValueError) as error:
        if str(error).startswith(("scale(", "pool(")):
            raise
        form = "SECONDS:+N or SECONDS:-N" if len(pools) == 1 else "SECONDS:POOL:+N"
        raise ValueError(f"scale(={text!r}) must be {form}, as in 60:+1.") from None
