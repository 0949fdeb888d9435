"""One layer's attention: decodes, chunks, both; paged, latent or contiguous.

A call launches what a layer launches. The work list is a step's, the same for all layers, so it is
made before. Sets of operands are block tables into one pool of blocks, whose ids are shuffled, as a
pool's are after a while; rows of a table are a multiple of 16 entries long and end in -1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ....kernels.latent_decode import latent_decode, plan_latent_for
from ....kernels.launch import Launch, latent_launch
from ....kernels.operands import Variant
from ....kernels.paged_decode import (
    contiguous_decode,
    decode_launch_for,
    head_groups,
    paged_decode,
    plan_decode_for,
)
from ....kernels.paged_mixed import paged_attention
from ....kernels.paged_prefill import paged_prefill, plan_prefill_for, prefill_launch_for
from ....kernels.slots import slots_of
from ....kernels.split import MIN_CHUNK_TOKENS, target_items
from ...profile.loads import DTYPE_BYTES
from ..batches import lengths_of
from ..bench import Bench, rotating
from ..card import Work

TABLE_ENTRIES = 16
"""A row of a block table is a multiple of so many: one compiled kernel for all lengths."""
QUANTISED = ("fp8_e4m3", "fp8_e5m2", "int8")
STORED_SCALE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Paged:
    """Keys and values in blocks, and as many block tables as rotate."""

    keys: torch.Tensor
    """``[num_blocks, block_size, kv_heads, head_dim]``; latent: ``[.., .., head_dim]``."""
    values: torch.Tensor
    tables: tuple[torch.Tensor, ...]


def prepare(x: Mapping[str, Any], bench: Bench) -> Work:
    """The operands of one attention point, by its kind."""
    if "seq_lens" in x and "chunks" in x:
        return _mixed(x, bench)
    if "chunks" in x:
        return _prefill(x, bench)
    return {"paged": _paged, "latent": _latent, "contiguous": _contiguous}[x["kind"]](x, bench)


def paged_kv(x: Mapping[str, Any], bench: Bench, lengths: Sequence[int]) -> Paged:
    """Blocks for sequences of these lengths, in as many sets as go past the L2."""
    block_size, latent = x["block_size"], x["kind"] == "latent"
    per_seq = [-(-length // block_size) for length in lengths]
    row = x["head_dim"] if latent else x["kv_heads"] * x["head_dim"]
    sides = 1 if latent else 2
    block_bytes = sides * block_size * row * DTYPE_BYTES[x["kv_dtype"]]
    window = x.get("sliding_window", 0)
    read = [min(length, window or length) for length in lengths]
    num_sets = bench.num_sets(sum(-(-length // block_size) for length in read) * block_bytes)
    num_blocks = max(1, sum(per_seq) * num_sets)
    pool = bench.pool(sides * num_blocks * block_size * row, x["kv_dtype"])
    heads = (x["head_dim"],) if latent else (x["kv_heads"], x["head_dim"])
    stored = pool.view(sides, num_blocks, block_size, *heads)
    ids = bench.permutation(num_blocks).to(torch.int32)
    tables = [_table(part, per_seq, bench) for part in ids.view(num_sets, -1)]
    return Paged(keys=stored[0], values=stored[-1], tables=tuple(tables))


def variant_of(x: Mapping[str, Any], bench: Bench) -> Variant:
    """The variant: a window, and KV scales where the cache is quantised."""
    scale: float | torch.Tensor = 1.0
    if x["kv_dtype"] in QUANTISED:
        scale = torch.full((x["kv_heads"],), STORED_SCALE, device=bench.device)
    return Variant(sliding_window=x.get("sliding_window", 0), k_scale=scale, v_scale=scale)


def _table(ids: torch.Tensor, per_seq: Sequence[int], bench: Bench) -> torch.Tensor:
    """``[num_seqs, max_blocks]``: each sequence's share of the ids, then -1."""
    counts = torch.tensor(per_seq, device=bench.device)
    widest = -(-max(1, *per_seq, 1) // TABLE_ENTRIES) * TABLE_ENTRIES
    table = torch.full((len(per_seq), widest), -1, dtype=torch.int32, device=bench.device)
    table[torch.arange(widest, device=bench.device) < counts[:, None]] = ids
    return table


def _paged(x: Mapping[str, Any], bench: Bench) -> Work:
    lengths = lengths_of(x["seq_lens"])
    kv, variant = paged_kv(x, bench, lengths), variant_of(x, bench)
    query, seq_lens = _queries(x, bench, len(lengths)), bench.ints(lengths)
    out, launch = torch.empty_like(query), decode_launch_for(query, kv.keys)
    work = plan_decode_for(
        query, kv.keys, seq_lens, sliding_window=variant.sliding_window, launch=launch
    )

    def call(table: torch.Tensor) -> object:
        return paged_decode(
            query, kv.keys, kv.values, table, seq_lens,
            variant=variant, work=work, launch=launch, out=out,
        )  # fmt: skip

    return _work(call, kv.tables, {**x, **_decode_launched(x, launch, bench)})


def _contiguous(x: Mapping[str, Any], bench: Bench) -> Work:
    lengths = lengths_of(x["seq_lens"])
    keys, values = contiguous_kv(x, bench, len(lengths), max(lengths))
    query, seq_lens = _queries(x, bench, len(lengths)), bench.ints(lengths)
    out, variant = torch.empty_like(query), variant_of(x, bench)
    launch = decode_launch_for(query, keys[0], contiguous=True)
    work = plan_decode_for(
        query, keys[0], seq_lens, sliding_window=variant.sliding_window, launch=launch
    )

    def call(kv: tuple[torch.Tensor, torch.Tensor]) -> object:
        return contiguous_decode(
            query, *kv, seq_lens, variant=variant, work=work, launch=launch, out=out
        )

    operands = list(zip(keys, values, strict=True))
    return _work(call, operands, {**x, **_decode_launched(x, launch, bench)})


def contiguous_kv(
    x: Mapping[str, Any], bench: Bench, num_seqs: int, max_len: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """``[num_sets, num_seqs, max_len, kv_heads, head_dim]``, keys and values."""
    shape = (num_seqs, max_len, x["kv_heads"], x["head_dim"])
    numel = num_seqs * max_len * x["kv_heads"] * x["head_dim"]
    num_sets = bench.num_sets(2 * numel * DTYPE_BYTES[x["kv_dtype"]])
    keys, values = bench.pool(2 * num_sets * numel, x["kv_dtype"]).view(2, num_sets, *shape)
    return keys, values


def _latent(x: Mapping[str, Any], bench: Bench) -> Work:
    lengths = lengths_of(x["seq_lens"])
    kv = paged_kv(x, bench, lengths)
    query, seq_lens = _queries(x, bench, len(lengths)), bench.ints(lengths)
    launch = latent_launch(heads=x["heads"], value_bytes=query.element_size())
    fixed: dict[str, Any] = {"scale": x["head_dim"] ** -0.5, "launch": launch}
    fixed["work"] = plan_latent_for(query, seq_lens, launch=launch)
    out = latent_decode(query, kv.keys, kv.tables[0], seq_lens, **fixed)

    def call(table: torch.Tensor) -> object:
        return latent_decode(query, kv.keys, table, seq_lens, out=out, **fixed)

    return _work(call, kv.tables, {**x, **_decode_launched(x, launch, bench)})


def _prefill(x: Mapping[str, Any], bench: Bench) -> Work:
    new, totals = _chunk_lengths(x)
    kv, variant = paged_kv(x, bench, totals), variant_of(x, bench)
    query, seq_lens = _queries(x, bench, sum(new)), bench.ints(totals)
    out, launch = torch.empty_like(query), prefill_launch_for(query, kv.keys)
    starts = bench.ints(_starts(new))
    work = plan_prefill_for(query, kv.keys, starts, launch=launch)

    def call(table: torch.Tensor) -> object:
        return paged_prefill(
            query, kv.keys, kv.values, table, starts, seq_lens,
            variant=variant, work=work, launch=launch, out=out,
        )  # fmt: skip

    return _work(call, kv.tables, {**x, **_prefill_launched(x, launch, bench)})


def _mixed(x: Mapping[str, Any], bench: Bench) -> Work:
    decodes = lengths_of(x["seq_lens"])
    new, totals = _chunk_lengths(x)
    lengths, first = [*decodes, *totals], len(decodes)
    kv, variant = paged_kv(x, bench, lengths), variant_of(x, bench)
    query, seq_lens = _queries(x, bench, first + sum(new)), bench.ints(lengths)
    starts = bench.ints(_starts([*[1] * first, *new]))
    decode, chunks = decode_launch_for(query, kv.keys), prefill_launch_for(query, kv.keys)
    plans: dict[str, Any] = {
        "decode_work": plan_decode_for(
            query, kv.keys, seq_lens[:first], sliding_window=variant.sliding_window
        ),
        "prefill_work": plan_prefill_for(query[first:], kv.keys, starts[first:] - first),
    }

    def call(table: torch.Tensor) -> object:
        return paged_attention(
            query, kv.keys, kv.values, table, starts, seq_lens,
            num_decodes=first, variant=variant, **plans,
        )  # fmt: skip

    found = {**x, **_decode_launched(x, decode, bench)}
    found |= {f"prefill_{k}": v for k, v in _prefill_launched(x, chunks, bench).items()}
    return _work(call, kv.tables, found)


def _decode_launched(x: Mapping[str, Any], launch: Launch, bench: Bench) -> dict[str, int]:
    """How the decode kernel cuts its work here."""
    slots = slots_of(bench.device, launch)
    groups = head_groups(heads=x["heads"], kv_heads=x["kv_heads"], launch=launch)
    return {
        "slots": slots,
        "tile_tokens": launch.tile_tokens,
        "min_chunk_tokens": MIN_CHUNK_TOKENS,
        "target_items": target_items(slots, groups),
    }


def _prefill_launched(x: Mapping[str, Any], launch: Launch, bench: Bench) -> dict[str, int]:
    """How the prefill kernel cuts its work here."""
    return {
        "query_tokens": launch.rows // (x["heads"] // x["kv_heads"]),
        "tile_tokens": launch.tile_tokens,
        "slots": slots_of(bench.device, launch),
    }


def _work(call: Callable[[Any], object], operands: Sequence[Any], x: Mapping[str, Any]) -> Work:
    return Work(call=rotating(call, operands), x=x, num_sets=len(operands))


def _queries(x: Mapping[str, Any], bench: Bench, tokens: int) -> torch.Tensor:
    return bench.normal(tokens, x["heads"], x["head_dim"], dtype=x["dtype"])


def _chunk_lengths(x: Mapping[str, Any]) -> tuple[list[int], list[int]]:
    """New tokens of each chunk, and all of its tokens."""
    return [new for new, _ in x["chunks"]], [new + past for new, past in x["chunks"]]


def _starts(lengths: Sequence[int]) -> list[int]:
    starts = [0]
    for length in lengths:
        starts.append(starts[-1] + length)
    return starts
