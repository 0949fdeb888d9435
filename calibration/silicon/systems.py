"""The cards that have measured tables, and what their kernels look like.

``num_sms`` is the card's count of streaming multiprocessors (datasheet). The attention kernels that
the engine picks by default differ in three ways that a table of uniform batches does not show:

    fa2       FlashAttention 2 (Ampere, Ada, RTX Blackwell). One launch for a mixed batch, in which
              each query head has tiles of its own, a decode's too; a long sequence is split only
              while the batch leaves multiprocessors idle.
    fa3       FlashAttention 3 (Hopper). One launch; the query heads of a KV head share a tile; a
              scheduler splits long sequences, so that imbalance costs little.
    separate  FlashInfer / TensorRT-LLM kernels (Blackwell). Prefills and decodes are launched
              apart; decodes are balanced as in fa3.

Tile rows are those of the kernels' sources: over a paged cache FlashAttention 2 always runs its
split kernel, with 64.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.util import find_spec

from ..gpus import GPUSpec

PACKAGE = "aiconfigurator_core"


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """One card's folder of tables and its kernels' geometry."""

    folder: str
    num_sms: int
    attention: str
    """``fa2``, ``fa3`` or ``separate``."""
    tile_rows: int
    """Query rows of an attention tile."""
    fp8: bool = True
    """Whether the card multiplies 8-bit floats; without, such weights are widened first."""

    @property
    def packs_query_heads(self) -> bool:
        """Whether the query heads of one KV head share a tile in every launch."""
        return self.attention != "fa2"

    @property
    def balances_sequences(self) -> bool:
        """Whether a long sequence is split however large the batch is."""
        return self.attention != "fa2"


SYSTEMS = {
    "a100": System(folder="a100_sxm", num_sms=108, attention="fa2", tile_rows=64, fp8=False),
    "h100-sxm": System(folder="h100_sxm", num_sms=132, attention="fa3", tile_rows=128),
    "h200": System(folder="h200_sxm", num_sms=132, attention="fa3", tile_rows=128),
    "b200": System(folder="b200_sxm", num_sms=148, attention="separate", tile_rows=128),
    "b300": System(folder="b300_sxm", num_sms=148, attention="separate", tile_rows=128),
    "gb200": System(folder="gb200", num_sms=152, attention="separate", tile_rows=128),
    "gb300": System(folder="gb300", num_sms=152, attention="separate", tile_rows=128),
    "l40s": System(folder="l40s", num_sms=142, attention="fa2", tile_rows=64),
    "rtx-pro-6000": System(
        folder="rtx_pro_6000_server", num_sms=188, attention="fa2", tile_rows=64
    ),
}


def covers(gpu: GPUSpec) -> bool:
    """Whether this card has tables and the package that ships them is installed."""
    return not why_not(gpu)


def why_not(gpu: GPUSpec) -> str:
    """What is missing for the tables of this card, as a clause; empty where nothing is."""
    if gpu.name not in SYSTEMS:
        return f"there are no measured tables of {gpu.name}"
    if find_spec(PACKAGE) is None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        return (
            f"aiconfigurator-core, which ships the measured tables, is not installed (Python "
            f"{version} on {sys.platform})"
        )
    return ""
