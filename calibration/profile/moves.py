"""Moves of blocks from a profile's lines: links of the families ``pcie`` and ``block_copy``.

    line                          what it gives
    block_copy                    copy-on-write; a pair is one tensor's part of a block
    pcie d2h pinned blockwise     swapping out, one transfer each; h2d for swapping in
    pcie d2h pinned gathered      the same, gathered by a kernel into one transfer
    pcie h2d pinned               loading in one piece

A transfer of the profile is K and V of one layer in a block of 16 tokens. Its own time is taken for
K or V alone as well: below some tens of kilobytes it is the call that costs, not the bytes.
"""

from __future__ import annotations

from ..engine_defaults import BLOCK_SIZE
from ..models import load_model
from ..step_cost import NS_PER_S
from ..ways import Way
from .values import LineFit, Profile

LINK = "pcie {} pinned"
DIRECTIONS = {"swapping_out": "d2h", "swapping_in": "h2d"}
HOW = {"per_layer": "blockwise", "gathered": "gathered"}


def measured_ways(profile: Profile, method: str) -> dict[str, Way]:
    """The ways of :class:`~..moves.BlockMoves` that the profile has lines of."""
    lines = {line.name: line for line in profile.lines}
    found: dict[str, Way] = {}
    source = f"{_word(profile)} (profile {profile.id})"
    for name, direction in DIRECTIONS.items():
        line = lines.get(f"{LINK.format(direction)} {HOW[method]}")
        if line is not None and method == "per_layer":
            found[name] = _way(line, source)
        elif line is not None and (block_bytes := _measured_block_bytes(profile.model)):
            found[name] = _gathered(line, source, block_bytes)
    if "block_copy" in lines:
        line = lines["block_copy"]
        found["copying"] = Way(
            call_ns=NS_PER_S * line.t0_s,
            segment_ns=NS_PER_S * line.unit_s,
            bytes_per_s=line.bytes_per_s / 2,
            source=source,
        )
    if (whole := lines.get(LINK.format("h2d"))) is not None:
        found["loading"] = _way(whole, source)
    return found


def _word(profile: Profile) -> str:
    return "derived" if profile.provenance == "derived" else "measured"


def _way(line: LineFit, source: str) -> Way:
    return Way(
        call_ns=NS_PER_S * line.t0_s,
        segment_ns=NS_PER_S * line.unit_s,
        bytes_per_s=line.bytes_per_s,
        source=source,
    )


def _gathered(line: LineFit, source: str, block_bytes: int) -> Way:
    """A kernel's time for a block is that of its bytes: it joins the link's own."""
    each_s = 1 / line.bytes_per_s + line.unit_s / block_bytes
    return Way(call_ns=NS_PER_S * line.t0_s, bytes_per_s=1 / each_s, source=source)


def _measured_block_bytes(name: str) -> int:
    """K and V of one layer in a block of the model that was measured; 0 for an unknown one."""
    try:
        model = load_model(name)
    except ValueError:
        return 0
    layer = next(group for group in model.layers if group.kind != "recurrent")
    return BLOCK_SIZE * layer.state_bytes_per_token(model.resolve_kv_dtype("auto"))
