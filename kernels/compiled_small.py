"""The kernels beside attention, compiled ahead of time: plan, merge, KV write, block moves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from . import block_move, kv_write, merge, work_list
from .ahead_of_time import Report, compiled_report
from .split import MERGED_AT_ONCE

NUM_WARPS, NUM_STAGES = 4, 3
MAX_SEQS = 256


class Small(NamedTuple):
    """A kernel, what it is compiled for, and the types of its arguments but 32-bit integers."""

    kernel: Any
    constants: Mapping[str, Any]
    types: Mapping[str, str]


def _write(stored: str, *, whole: bool = False, most: float = 127.0) -> Small:
    quantised = stored != "*bf16"
    scale = "*fp32" if quantised else "*bf16"
    floats = dict.fromkeys(("key", "value", "query"), "*bf16")
    caches = dict.fromkeys(("key_cache", "value_cache"), stored)
    others = {"slot_mapping": "*i64", "positions": "*i64", "cos": "*fp32", "sin": "*fp32"}
    return Small(
        kv_write._write,
        {
            "KV_PROGRAMS": 1,
            "HEADS": 8,
            "HEAD_DIM": 128,
            "LANES": 128,
            "BLOCK_SIZE": 16,
            "ROTARY": 128,
            "INTERLEAVED": False,
            "QUANTISED": quantised,
            "WHOLE": whole,
            "MOST": most,
        },
        {**floats, **caches, **others, "k_scale": scale, "v_scale": scale},
    )


SMALL: dict[str, Small] = {
    "write bf16": _write("*bf16"),
    "write fp8_e4m3": _write("*fp8e4nv", most=448.0),
    "write fp8_e5m2": _write("*fp8e5", most=57344.0),
    "write int8": _write("*i8", whole=True),
    "move": Small(
        block_move._copy,
        {"FROM_IDS": True, "TO_IDS": True, "WORDS": block_move.WORDS_PER_PROGRAM},
        dict.fromkeys(("source", "target", "source_ids", "target_ids"), "*i64"),
    ),
    "merge": Small(
        merge._merge,
        {
            "HEADS": 32,
            "HEAD_DIM": 128,
            "LANES": 128,
            "SPLITS": MERGED_AT_ONCE,
            "SINKS": True,
        },
        {
            "out": "*bf16",
            **dict.fromkeys(("partial_out", "partial_weight", "sinks"), "*fp32"),
            **dict.fromkeys(("seq_items", "seq_first_item"), "*i32"),
        },
    ),
    "plan decode": Small(
        work_list._plan_decode,
        {
            "TILE": 64,
            "MIN_TILES": 1,
            "WINDOW": 0,
            "SEQS": MAX_SEQS,
            "ITEMS": work_list.ITEMS_PER_PROGRAM,
        },
        dict.fromkeys(("item_seq", "seq_items", "seq_first_item", "seq_tiles", "seq_lens"), "*i32"),
    ),
    "plan prefill": Small(
        work_list._plan_prefill,
        {"QUERIES": 32, "SEQS": MAX_SEQS, "ITEMS": work_list.ITEMS_PER_PROGRAM},
        dict.fromkeys(("tile_seq", "tile_first", "query_start_loc"), "*i32"),
    ),
}


def small_report(compute_capability: int, name: str) -> Report:
    """One of ``SMALL``.

    Raises:
        CompilationError: the GPU knows no such dtype.
    """
    small = SMALL[name]
    names = [n for n in small.kernel.arg_names if n not in small.constants]
    return compiled_report(
        small.kernel,
        types={n: small.types.get(n, "i32") for n in names},
        constants=small.constants,
        compute_capability=compute_capability,
        num_warps=NUM_WARPS,
        num_stages=NUM_STAGES,
    )
