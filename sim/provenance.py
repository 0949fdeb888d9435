"""Where a result's numbers come from: digests of every input, sources of every figure."""

from __future__ import annotations

import hashlib
import json

from .. import __version__
from .server import Server
from .summary import plain


def digest(value: object) -> str:
    """SHA-256 of a value's canonical JSON."""
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def sources(server: Server) -> dict[str, object]:
    """Timing source and band, memory lines with their sources, model and GPU sources."""
    band = server.cost.band
    return {
        "version": __version__,
        "timing": server.cost.source,
        "timing_band": {"low": band.low, "high": band.high, "source": band.source},
        "model": {"name": server.model.name, "source": server.model.source},
        "gpu": server.gpu.name,
        "num_gpu_blocks": server.num_gpu_blocks,
        "memory": {line.name: line.source for line in server.budget.lines},
    }


def digests(server: Server, *, trace_digest: str, **settings: object) -> dict[str, str]:
    """Digests of the trace, the flags, the clock, and the memory; ``settings`` join the flags."""
    return {
        "trace": trace_digest,
        "deployment": digest({**server.deployment.to_json(), **settings}),
        "cost": digest(server.cost.describe()),
        "budget": digest(server.budget.to_json()),
    }
