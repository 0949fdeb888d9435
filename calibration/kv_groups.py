"""Layers of a KV cache and how the engine puts them into groups (see ``kv_blocks``).

Compressed attention (DeepSeek-V4) is packed instead of padded, an approximation of the engine's
second path: all latents are one group, each layer with its own page; the windows, in blocks that
are as many times shorter as the least compression, are cut into groups no larger than that one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from .model_spec import KVLayers
from .stages import Stage

WINDOW_KINDS = ("sliding_window", "chunked_local")
FULL_KINDS = ("full", "mla")
STATE_ALIGNMENT_TOKENS = 16
PACKED_STATES = 2
"""Of the most compressed layers in one block: DeepSeek-V4 runs with blocks of 256 tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCache:
    """Equal layers of a cache, in bytes."""

    kind: str
    num_layers: int
    block_size: int
    page_bytes: int
    """Of one block in one layer."""
    window_tokens: int | None = None
    num_states: int = 1
    """States of one sequence in a recurrent layer: speculation keeps one per draft beside."""
    packed: bool = False
    """A layer of a model with compressed attention."""

    @property
    def type_key(self) -> tuple[str, int | None]:
        """Layers with equal keys may share a group even where their pages differ."""
        return ("full" if self.kind in FULL_KINDS else self.kind, self.window_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class KVGroup:
    """Layers with one block table."""

    kind: str
    num_layers: int
    block_size: int
    page_bytes: int
    """Of one block over all layers of the group."""
    window_tokens: int | None = None
    num_states: int = 1

    def on_stage(self, stage: Stage) -> KVGroup:
        """The group as one stage of a pipeline holds it: its tables are the same everywhere."""
        held = stage.part(self.num_layers)
        size = -(-self.page_bytes * held // self.num_layers)
        return replace(self, num_layers=held, page_bytes=size)

    def blocks_of(self, tokens: int, max_in_flight_tokens: int) -> int:
        """Blocks of one request at its largest; a window group also holds what is in flight."""
        if self.kind == "recurrent":
            return self.num_states
        if self.window_tokens is None:
            return -(-tokens // self.block_size)
        if self.kind == "chunked_local":
            return -(-min(self.window_tokens + max_in_flight_tokens, tokens) // self.block_size)
        held = min(self.window_tokens - 1 + max_in_flight_tokens, tokens)
        return -(-held // self.block_size) + 1

    def steady_blocks_of(self, tokens: int) -> int:
        """Blocks of one request that decodes, at its largest: the window, and a block that it has
        half left. (The engine runs a step ahead, so that it gives a block back a token later.)
        """
        if self.kind == "recurrent":
            return 1
        held = -(-tokens // self.block_size)
        if self.window_tokens is None:
            return held
        return min(held, -(-self.window_tokens // self.block_size) + 1)


def layer_caches(
    layers: Iterable[KVLayers],
    *,
    block_size: int,
    kv_cache_dtype: str = "auto",
    tensor_parallel_size: int = 1,
    num_states: int = 1,
) -> tuple[LayerCache, ...]:
    """Pages of a model's layers on one GPU; recurrent states stretch the attention blocks.

    A block of a model with recurrent layers is so long that one attention page holds one state, as
    the engine chooses it; the states are padded to that page.
    """
    layers = tuple(layers)
    state = max((_state_page(group, tensor_parallel_size) for group in layers), default=0)
    attention = [g for g in layers if g.kind != "recurrent"]
    if state and attention:
        token = max(
            g.state_bytes_per_token(kv_cache_dtype, tensor_parallel_size) for g in attention
        )
        needed = -(-state // (STATE_ALIGNMENT_TOKENS * token)) * STATE_ALIGNMENT_TOKENS
        block_size = max(block_size, needed)
    ratios = [g.tokens_per_state for g in attention if g.tokens_per_state > 1]
    if ratios:
        block_size = max(block_size, PACKED_STATES * max(ratios))
    found: list[LayerCache] = []
    for group in layers:
        shorter = min(ratios) if ratios and group.kind in WINDOW_KINDS else 1
        found += _caches(group, block_size // shorter, kv_cache_dtype, tensor_parallel_size)
    if ratios:
        return tuple(replace(cache, packed=True) for cache in found)
    return tuple(
        replace(cache, num_states=num_states) if cache.kind == "recurrent" else cache
        for cache in found
    )


def _state_page(group: KVLayers, tensor_parallel_size: int) -> int:
    return -(-group.state_bytes // tensor_parallel_size)


def _caches(
    group: KVLayers, block_size: int, kv_cache_dtype: str, tensor_parallel_size: int
) -> list[LayerCache]:
    states = -(-block_size // group.tokens_per_state)
    if group.kind == "recurrent":
        page = _state_page(group, tensor_parallel_size)
    else:
        page = states * group.state_bytes_per_token(kv_cache_dtype, tensor_parallel_size)
    cache = LayerCache(
        kind=group.kind,
        num_layers=group.num_layers,
        block_size=block_size,
        page_bytes=page,
        window_tokens=group.window_tokens,
    )
    if not group.index_head_dim:
        return [cache]
    return [cache, replace(cache, page_bytes=states * group.index_bytes_per_token)]


def group_layers(
    layers: Sequence[LayerCache], *, hybrid_kv_cache: bool = True
) -> tuple[KVGroup, ...]:
    """The engine's groups, in the order in which each kind first appears."""
    if not hybrid_kv_cache:
        layers = [_as_full(layer) for layer in layers]
    layers = _merged(layers)
    if any(layer.packed for layer in layers):
        return _packed(layers)
    if len({(layer.type_key, layer.block_size) for layer in layers}) == 1:
        return (_one_group(layers),)
    equal = _merged(_equal_pages(layers))
    sizes = [layer.num_layers for layer in equal]
    size = max(sizes) if max(sizes) < 1.5 * min(sizes) else min(sizes)
    return tuple(group for layer in equal for group in _split(layer, size))


def _packed(layers: Sequence[LayerCache]) -> tuple[KVGroup, ...]:
    latents = _one_group([layer for layer in layers if layer.kind in FULL_KINDS])
    groups = [latents]
    for layer in layers:
        if layer.kind not in FULL_KINDS:
            groups += _split(layer, max(1, latents.page_bytes // layer.page_bytes))
    return tuple(groups)


def _as_full(layer: LayerCache) -> LayerCache:
    """Without the hybrid manager a window layer keeps everything."""
    if layer.kind in WINDOW_KINDS:
        return replace(layer, kind="full", window_tokens=None)
    return layer


def _merged(layers: Iterable[LayerCache]) -> list[LayerCache]:
    """Equal layers counted together, in order of first appearance."""
    counts: dict[LayerCache, int] = {}
    for layer in layers:
        key = replace(layer, num_layers=0)
        counts[key] = counts.get(key, 0) + layer.num_layers
    return [replace(layer, num_layers=count) for layer, count in counts.items()]


def _one_group(layers: Sequence[LayerCache]) -> KVGroup:
    first = layers[0]
    return KVGroup(
        kind=first.kind,
        num_layers=sum(layer.num_layers for layer in layers),
        block_size=first.block_size,
        page_bytes=sum(layer.num_layers * layer.page_bytes for layer in layers),
        window_tokens=first.window_tokens,
        num_states=first.num_states,
    )


def _equal_pages(layers: Sequence[LayerCache]) -> list[LayerCache]:
    largest = max(layer.page_bytes for layer in layers)
    return [_stretched(layer, largest) for layer in layers]


def _stretched(layer: LayerCache, page_bytes: int) -> LayerCache:
    """A longer block where the page divides, padding where not."""
    ratio, rest = divmod(page_bytes, layer.page_bytes)
    longer = 1 if rest or layer.kind == "recurrent" else ratio
    return replace(layer, block_size=layer.block_size * longer, page_bytes=page_bytes)


def _split(layer: LayerCache, size: int) -> list[KVGroup]:
    """Layer i goes to group i mod number, so that the first groups are the longer ones."""
    number = -(-layer.num_layers // size)
    base, longer = divmod(layer.num_layers, number)
    return [
        KVGroup(
            kind=layer.kind,
            num_layers=base + (i < longer),
            block_size=layer.block_size,
            page_bytes=layer.page_bytes * (base + (i < longer)),
            window_tokens=layer.window_tokens,
            num_states=layer.num_states,
        )
        for i in range(number)
    ]
