"""Where a result's numbers come from: digests of every input, sources of every figure."""

from __future__ import annotations

import hashlib
import json

from .. import __version__
from ..calibration.moves import BlockMoves
from ..traces import Trace
from .ignored import ignored
from .server import Server
from .summary import plain

MOST_SKIPPED_LISTED = 100


def digest(value: object) -> str:
    """SHA-256 of a value's canonical JSON."""
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def sources(server: Server, *, moved: bool = False) -> dict[str, object]:
    """Timing source and band, memory lines with their sources, model and GPU sources.

    ``moved`` tells whether blocks were copied or swapped, and so whether their cost matters.
    """
    band = server.cost.band
    return {
        "version": __version__,
        "timing": server.cost.source,
        "timing_from": server.cost.origin,
        "timing_band": {"low": band.low, "high": band.high, "source": band.source},
        "model": {"name": server.model.name, "source": server.model.source},
        "gpu": server.gpu.name,
        "num_gpu_blocks": server.num_gpu_blocks,
        "memory": {line.name: line.source for line in server.budget.lines},
        **(_moves(server.moves) if moved else {}),
    }


def _moves(moves: BlockMoves) -> dict[str, object]:
    bands = {"bytes": moves.band, "transfers": moves.segment_band}
    said = {name: f"{b.low:g}-{b.high:g} ({b.source})" for name, b in bands.items()}
    return {"moves": moves.origin, "moves_band": said}


def settings(server: Server, trace: Trace, *, concurrency: int | None) -> dict[str, object]:
    """The flags, and what there is to say; the trace itself is told by its digest."""
    left_out = ignored(trace, server.deployment, concurrency=concurrency)
    return {
        "engine": server.engine,
        "deployment": server.deployment.to_json(),
        "max_model_len_from": server.max_model_len_from,
        "concurrency": concurrency,
        "num_skipped_rows": len(trace.skipped),
        "skipped_rows": [str(row) for row in trace.skipped[:MOST_SKIPPED_LISTED]],
        "notes": [*trace.notes, *server.notes, *left_out],
    }


def digests(
    server: Server, *, trace_digest: str, moved: bool = False, **settings: object
) -> dict[str, str]:
    """Digests of the trace, the flags, the clock, and the memory; ``settings`` join the flags.

    With ``moved`` also of what moving blocks costs.
    """
    moves = {"moves": digest(server.moves.describe())} if moved else {}
    return {
        **moves,
        "trace": trace_digest,
        "deployment": digest({**server.deployment.to_json(), **settings}),
        "cost": digest(server.cost.describe()),
        "budget": digest(server.budget.to_json()),
    }
