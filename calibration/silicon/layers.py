"""Which operators a model's layers run on one GPU of a replica, from the card's tables.

Shapes follow from the specification: matrix products as in ``products``, attention from heads and
dimensions, experts from the routed ones.
"""

from __future__ import annotations

from collections.abc import Callable

from ..estimate import Estimate
from ..gpus import GPUSpec
from ..model_spec import KVLayers, ModelSpec
from ..operators import ALL_REDUCE, Attention, Operator, Operators, RecurrentLayers
from . import elementwise
from .comm import AllReduce
from .decode import DecodeTable
from .gemm import Gemm
from .heads import Heads
from .latent import Latent, LatentMixed
from .mixed import JointAttention, SeparateAttention
from .moe import Experts, Moe
from .prefill import PrefillLaw
from .products import VALUE_HEAD_DIM, MatrixProduct, bits_of, head_product, layer_products
from .recurrent import Recurrent
from .shapes import expert_layers, num_mixers
from .systems import SYSTEMS
from .tables import TableMissing

WIDE_KV = ("bfloat16", "float16", "float32", "bf16", "fp16", "half", "float")
FP32_HEAD_BYTES = 4 * VALUE_HEAD_DIM * VALUE_HEAD_DIM
"""So much state stands for a head in other recurrences."""


def operators(
    model: ModelSpec, gpu: GPUSpec, *, kv_cache_dtype: str, tensor_parallel_size: int
) -> Operators:
    """The operators of a model on one GPU of its replica.

    Raises:
        TableMissing: the card has no table of an operator that the model needs.
    """
    size = tensor_parallel_size
    if any(group.tokens_per_state > 1 or group.shared_kv for group in model.layers):
        raise TableMissing(f"no measured kernels of the compressed attention of {model.name}.")
    by_tokens = [_operator(gpu, product) for product in layer_products(model, size)]
    by_tokens += _experts(model, gpu, size)
    by_tokens.append(_elementwise(model, gpu, size))
    if size > 1:
        by_tokens.append(_all_reduce(model, gpu, size))
    kinds = [group for group in model.layers if group.kind != "recurrent"]
    states = [group for group in model.layers if group.kind == "recurrent"]
    return Operators(
        by_tokens=tuple(by_tokens),
        by_rows=(_operator(gpu, head_product(model, size)), _sampling(model, gpu)),
        attention=tuple(_attention(model, gpu, kind, kv_cache_dtype, size) for kind in kinds),
        recurrent=tuple(_recurrent(gpu, group, size) for group in states),
        uses_longest=not SYSTEMS[gpu.name].balances_sequences,
    )


def _times(one: Callable[[int], Estimate], count: int) -> Callable[[int], Estimate]:
    return lambda tokens: one(tokens).times(count)


def _operator(gpu: GPUSpec, product: MatrixProduct) -> Operator:
    gemm, count = Gemm(gpu, product.bits), product.layers
    of = gemm.of(round(product.n), round(product.k))
    return Operator(
        label=product.label,
        source=gemm.source,
        ns=_times(of, count),
        time=lambda rows: count * of.ns(rows),
        derived=gemm.derived,
        flops_per_s=gemm.flops_per_s,
        launches=count,
    )


def _elementwise(model: ModelSpec, gpu: GPUSpec, size: int) -> Operator:
    kernels = elementwise.kernels(model, size)
    return Operator(
        label="norms, rotary, KV write, activation",
        source=elementwise.SOURCE,
        ns=lambda tokens: elementwise.layers_ns(gpu, kernels, tokens),
        on=lambda other: _elementwise(model, other, size),
    )


def _sampling(model: ModelSpec, gpu: GPUSpec) -> Operator:
    return Operator(
        label="sampling",
        source=elementwise.SOURCE,
        ns=lambda rows: elementwise.sampling_ns(gpu, model.vocab_size, rows),
        on=lambda other: _sampling(model, other),
    )


def _all_reduce(model: ModelSpec, gpu: GPUSpec, size: int) -> Operator:
    table = AllReduce(gpu, size)
    return Operator(
        label=ALL_REDUCE,
        source=table.source,
        ns=lambda tokens: table(tokens * model.hidden_size).times(num_mixers(model)),
        derived=table.derived,
    )


def _experts(model: ModelSpec, gpu: GPUSpec, size: int) -> list[Operator]:
    if not model.num_experts:
        return []
    layers = expert_layers(model)
    one = model.hidden_size * model.expert_intermediate_size * model.num_experts
    matrices = max(2, min(3, round(model.parameters_of("experts") / (layers * one))))
    experts = Experts(
        hidden_size=model.hidden_size,
        intermediate_size=model.expert_intermediate_size,
        experts_per_token=model.experts_per_token,
        num_experts=model.num_experts,
        bits=bits_of(model, "experts"),
        tensor_parallel_size=size,
        matrices=matrices,
    )
    moe = Moe(gpu, experts)
    ns = _times(moe, layers)
    return [
        Operator(
            label="routed experts",
            source=moe.source,
            ns=ns,
            derived=moe.derived,
            flops_per_s=moe.flops_per_s,
            padded=False,
        )
    ]


def _recurrent(gpu: GPUSpec, group: KVLayers, size: int) -> RecurrentLayers:
    state = group.state_bytes / size
    measured = group.delta_rule_heads
    heads = measured // size if measured else round(state / FP32_HEAD_BYTES)
    table = Recurrent(gpu, state_bytes=state, value_heads=max(1, heads))
    return RecurrentLayers(
        count=group.num_layers,
        decode=table.decode,
        chunk=table.chunk,
        source=table.source,
        derived=table.derived or not measured,  # Mamba-2, Kimi: by the size of the state alone
    )


def _attention(
    model: ModelSpec, gpu: GPUSpec, group: KVLayers, kv_cache_dtype: str, size: int
) -> Attention:
    dtype = "bfloat16" if kv_cache_dtype in WIDE_KV else "fp8"
    query = max(1, model.num_heads // size)
    if group.kind == "mla":
        return _latent(gpu, group, dtype, query)
    heads = Heads(
        query=query,
        kv=group.heads_per_gpu(size),
        dim=group.head_dim,
        kv_dtype=dtype,
        window=group.window_tokens or 0,
        dim_v=group.head_dim_v if group.head_dim_v != group.head_dim else 0,
    )
    law = PrefillLaw(gpu, heads)
    decode = DecodeTable(gpu, heads, tile_ns_per_key=law.tile_ns_per_key)
    system = SYSTEMS[gpu.name]
    return Attention(
        label=f"attention, window {heads.window}" if heads.window else "attention",
        count=group.num_layers,
        decode=decode,
        mixed=JointAttention(law, decode, own_tiles=not system.packs_query_heads)
        if system.attention != "separate"
        else SeparateAttention(law, decode),
        window=heads.window,
        decode_source=decode.source,
        mixed_source=law.source,
        derived=decode.derived or law.derived,
    )


def _latent(gpu: GPUSpec, group: KVLayers, kv_dtype: str, num_heads: int) -> Attention:
    table = Latent(gpu, num_heads=num_heads, kv_dtype=kv_dtype)
    return Attention(
        label="latent attention",
        count=group.num_layers,
        decode=table,
        mixed=LatentMixed(table),
        decode_source=table.source,
        mixed_source=table.source,
        derived=table.derived or bool(group.index_head_dim),  # sparse: counted as full
    )
