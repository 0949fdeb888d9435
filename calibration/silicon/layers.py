"""Which operators a model's layers run on one GPU of a replica, from the card's tables.

Shapes follow from the specification: attention projections from heads and dimensions, MLP matrices
from its parameters (two or three of ``hidden * intermediate``), experts from the routed ones.
"""

from __future__ import annotations

from collections.abc import Callable

from ..estimate import Estimate
from ..gpus import GPUSpec
from ..model_spec import KVLayers, ModelSpec
from ..operators import Attention, Operator, Operators, RecurrentLayers
from . import elementwise
from .comm import AllReduce
from .decode import DecodeTable
from .gemm import Gemm
from .heads import Heads
from .latent import Latent, LatentMixed
from .mixed import JointAttention, SeparateAttention
from .moe import Experts, Moe
from .prefill import PrefillLaw
from .recurrent import Recurrent
from .shapes import dense_layers, expert_layers, num_mixers
from .systems import SYSTEMS
from .tables import TableMissing

WIDE_KV = ("bfloat16", "float16", "float32", "bf16", "fp16", "half", "float")
LEFT_OUT = 0.01
"""Of the attention's parameters: so few are biases and norms."""
VALUE_HEAD_DIM = 128
"""Of a gated delta rule; its state has as many keys a head."""
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
    by_tokens = [*_products(model, gpu, size), *_experts(model, gpu, size)]
    by_tokens.append(_elementwise(model, gpu, size))
    if size > 1:
        by_tokens.append(_all_reduce(model, gpu, size))
    kinds = [group for group in model.layers if group.kind != "recurrent"]
    states = [group for group in model.layers if group.kind == "recurrent"]
    return Operators(
        by_tokens=tuple(by_tokens),
        by_rows=(_head(model, gpu, size), _sampling(model, gpu)),
        attention=tuple(_attention(model, gpu, kind, kv_cache_dtype, size) for kind in kinds),
        recurrent=tuple(_recurrent(gpu, group, size) for group in states),
        uses_longest=not SYSTEMS[gpu.name].balances_sequences,
    )


def _times(one: Callable[[int], Estimate], count: int) -> Callable[[int], Estimate]:
    return lambda tokens: one(tokens).times(count)


def _product(label: str, n: float, k: float, count: int, gemm: Gemm) -> Operator:
    """``n`` outputs from ``k`` inputs in so many layers."""
    product = gemm.of(round(n), round(k))
    return Operator(
        label=label,
        source=gemm.source,
        ns=_times(product, count),
        time=lambda rows: count * product.ns(rows),
        derived=gemm.derived,
        flops_per_s=gemm.flops_per_s,
    )


def _elementwise(model: ModelSpec, gpu: GPUSpec, size: int) -> Operator:
    kernels = elementwise.kernels(model, size)
    return Operator(
        label="norms, rotary, KV write, activation",
        source=elementwise.SOURCE,
        ns=lambda tokens: elementwise.layers_ns(gpu, kernels, tokens),
    )


def _sampling(model: ModelSpec, gpu: GPUSpec) -> Operator:
    return Operator(
        label="sampling",
        source=elementwise.SOURCE,
        ns=lambda rows: elementwise.sampling_ns(gpu, model.vocab_size, rows),
    )


def _all_reduce(model: ModelSpec, gpu: GPUSpec, size: int) -> Operator:
    table = AllReduce(gpu, size)
    return Operator(
        label="all-reduce",
        source=table.source,
        ns=lambda tokens: table(tokens * model.hidden_size).times(num_mixers(model)),
        derived=table.derived,
    )


def _products(model: ModelSpec, gpu: GPUSpec, size: int) -> list[Operator]:
    made = _attention_products(model, gpu, size)
    h = model.hidden_size
    layers, gated = dense_layers(model)
    if layers:
        width = model.intermediate_size // size
        made += _mlp(Gemm(gpu, _bits(model, "mlp")), h, width, layers, gated, "")
    shared, layers = model.shared_expert_intermediate_size, expert_layers(model)
    if shared and model.parameters_of("shared_experts"):
        matrices = model.parameters_of("shared_experts") / (layers * h * shared)
        gemm = Gemm(gpu, _bits(model, "shared_experts"))
        gated = round(matrices) >= 3
        made += _mlp(gemm, h, -(-shared // size), layers, gated, "shared expert ")
    if model.num_experts:
        made.append(_product("router", model.num_experts, h, layers, Gemm(gpu, 16.0)))
    return made


def _mlp(
    gemm: Gemm, hidden: int, width: int, layers: int, gated: bool, prefix: str
) -> list[Operator]:
    up = ("gate and up", 2 * width) if gated else ("up", width)
    return [
        _product(f"{prefix}{up[0]} projection", up[1], hidden, layers, gemm),
        _product(f"{prefix}down projection", hidden, width, layers, gemm),
    ]


def _attention_products(model: ModelSpec, gpu: GPUSpec, size: int) -> list[Operator]:
    """Query, key and value in one product, output in another; what is left by its parameters."""
    h, gemm, made = model.hidden_size, Gemm(gpu, _bits(model, "attention")), []
    groups = [group for group in model.weights if group.role == "attention"]
    left = sum(g.num_parameters / min(size, g.max_shards or size) for g in groups)
    whole, rest = left, 0
    for group in model.layers:
        if group.kind in ("recurrent", "mla"):
            rest += group.num_layers
            continue
        query, inner = (model.num_heads * dim / size for dim in (group.head_dim, _value_dim(group)))
        pair = group.head_dim + _value_dim(group)
        wide = query + group.heads_per_gpu(size) * pair
        made.append(_product("qkv projection", wide, h, group.num_layers, gemm))
        made.append(_product("output projection", h, inner, group.num_layers, gemm))
        left -= group.num_layers * h * (wide + inner)
    if left > LEFT_OUT * whole:
        layers = rest or model.num_layers
        outputs = min(model.num_heads * VALUE_HEAD_DIM / size, left / layers / h / 2)
        inputs = max(left / layers / h - outputs, 1.0)
        made.append(_product("other attention projections", inputs, h, layers, gemm))
        made.append(_product("output projection", h, outputs, layers, gemm))
    return made


def _value_dim(group: KVLayers) -> int:
    return group.head_dim_v or group.head_dim


def _head(model: ModelSpec, gpu: GPUSpec, size: int) -> Operator:
    role = "embedding" if model.tied_embeddings else "lm_head"
    gemm = Gemm(gpu, _bits(model, role))
    return _product("LM head", -(-model.vocab_size // size), model.hidden_size, 1, gemm)


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
        bits=_bits(model, "experts"),
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


def _bits(model: ModelSpec, role: str) -> float:
    """Of the role's matrices; the small parts kept wide do not count."""
    groups = [group for group in model.weights if group.role == role]
    if not groups:
        return 16.0
    return max(groups, key=lambda group: group.num_parameters).bits_per_parameter
