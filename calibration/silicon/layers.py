"""Which operators a model's layers run on one GPU of a replica.

Shapes follow from the specification: attention projections from heads and dimensions, MLP matrices
from its parameters (two or three of ``hidden * intermediate``), experts from the routed ones.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..gpus import GPUSpec
from ..model_spec import KVLayers, ModelSpec
from . import latent
from .comm import AllReduce
from .decode import DecodeTable
from .gemm import Gemm
from .heads import Heads
from .latent import Latent
from .moe import Experts, Moe
from .prefill import PrefillLaw
from .recurrent import Recurrent

WIDE_KV = ("bfloat16", "float16", "float32", "bf16", "fp16", "half", "float")
VALUE_HEAD_DIM = 128
"""Of a gated delta rule; its state has as many keys a head."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """One linear layer's matrix product on one GPU: ``n`` outputs from ``k`` inputs."""

    label: str
    n: int
    k: int
    count: int
    """Layers that have it."""
    gemm: Gemm


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Layers of one kind, with what is known of their kernels."""

    label: str
    count: int
    decode: DecodeTable | Latent
    prefill: PrefillLaw | Latent
    window: int
    """Tokens; 0 without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operators:
    """Everything that one step launches on one GPU."""

    products: tuple[Product, ...]
    head: Product
    attention: tuple[Attention, ...]
    experts: tuple[tuple[int, Moe], ...]
    """Number of layers, and one layer's routed experts."""
    recurrent: tuple[tuple[int, Recurrent], ...]
    all_reduce: AllReduce | None


def operators(
    model: ModelSpec, gpu: GPUSpec, *, kv_cache_dtype: str, tensor_parallel_size: int
) -> Operators:
    """The operators of a model on one GPU of its replica.

    Raises:
        TableMissing: the card has no table of an operator that the model needs.
    """
    size = tensor_parallel_size
    attention, recurrent = [], []
    for group in model.layers:
        if group.kind == "recurrent":
            recurrent.append((group.num_layers, _recurrent(gpu, group, size)))
        else:
            attention.append(_attention(model, gpu, group, kv_cache_dtype, size))
    return Operators(
        products=tuple(_products(model, gpu, size)),
        head=_head(model, gpu, size),
        attention=tuple(attention),
        experts=_experts(model, gpu, size),
        recurrent=tuple(recurrent),
        all_reduce=AllReduce(gpu, size) if size > 1 else None,
    )


def _products(model: ModelSpec, gpu: GPUSpec, size: int) -> list[Product]:
    made = _attention_products(model, gpu, size)
    h, bits = model.hidden_size, _bits(model, "mlp")
    dense = model.parameters_of("mlp")
    if dense and model.intermediate_size:
        whole = h * model.intermediate_size
        layers = _layers_of(dense, whole, model.num_layers)
        gemm = Gemm(gpu, bits)
        gated = round(dense / layers / whole) >= 3
        made += _mlp(gemm, h, model.intermediate_size // size, layers, gated, "")
    shared = model.shared_expert_intermediate_size
    if shared and model.parameters_of("shared_experts"):
        layers = max(1, round(model.parameters_of("shared_experts") / (3 * h * shared)))
        gemm = Gemm(gpu, _bits(model, "shared_experts"))
        made += _mlp(gemm, h, -(-shared // size), layers, True, "shared ")
    if model.num_experts:
        layers = max(1, round(model.parameters_of("router") / (h * model.num_experts)))
        made.append(_product("router", model.num_experts, h, layers, Gemm(gpu, 16.0)))
    return made


def _layers_of(parameters: int, matrix: int, num_layers: int) -> int:
    """Layers with an MLP: gated ones have three matrices, others two."""
    matrices = 2 if abs(parameters / (2 * matrix) - num_layers) < 1 else 3
    return max(1, round(parameters / (matrices * matrix)))


def _mlp(
    gemm: Gemm, hidden: int, width: int, layers: int, gated: bool, prefix: str
) -> list[Product]:
    up = ("gate and up", 2 * width) if gated else ("up", width)
    return [
        _product(f"{prefix}{up[0]} projection", up[1], hidden, layers, gemm),
        _product(f"{prefix}down projection", hidden, width, layers, gemm),
    ]


def _product(label: str, n: float, k: float, count: int, gemm: Gemm) -> Product:
    return Product(label=label, n=round(n), k=round(k), count=count, gemm=gemm)


def _attention_products(model: ModelSpec, gpu: GPUSpec, size: int) -> list[Product]:
    """Query, key and value in one product, output in another; other kinds by their parameters."""
    h, gemm, made = model.hidden_size, Gemm(gpu, _bits(model, "attention")), []
    left, rest = model.parameters_of("attention"), []
    for group in model.layers:
        if group.kind in ("recurrent", "mla"):
            rest.append(group)
            continue
        query, kv = model.num_heads * group.head_dim, group.num_kv_heads
        inner = model.num_heads * (group.head_dim_v or group.head_dim)
        pair = group.head_dim + (group.head_dim_v or group.head_dim)
        wide = query / size + group.heads_per_gpu(size) * pair
        made.append(_product("qkv projection", wide, h, group.num_layers, gemm))
        made.append(_product("output projection", h, inner / size, group.num_layers, gemm))
        left -= group.num_layers * h * (query + kv * pair + inner)
    layers = sum(group.num_layers for group in rest)
    if layers and not _whole_module(model):
        wide = max(left, 0) / layers / h / size
        inner = model.num_heads * VALUE_HEAD_DIM / size
        made.append(_product("other attention projections", max(wide - inner, 1), h, layers, gemm))
        made.append(_product("output projection", h, inner, layers, gemm))
    return made


def _whole_module(model: ModelSpec) -> bool:
    """Whether the table of MLA modules holds this model's own projections."""
    return (
        all(group.kind == "mla" for group in model.layers)
        and model.hidden_size == latent.HIDDEN_SIZE
        and all(not group.index_head_dim for group in model.layers)
    )


def _head(model: ModelSpec, gpu: GPUSpec, size: int) -> Product:
    role = "embedding" if model.tied_embeddings else "lm_head"
    gemm = Gemm(gpu, _bits(model, role))
    return _product("LM head", -(-model.vocab_size // size), model.hidden_size, 1, gemm)


def _experts(model: ModelSpec, gpu: GPUSpec, size: int) -> tuple[tuple[int, Moe], ...]:
    if not model.num_experts:
        return ()
    one = 3 * model.hidden_size * model.expert_intermediate_size * model.num_experts
    layers = max(1, round(model.parameters_of("experts") / one))
    experts = Experts(
        hidden_size=model.hidden_size,
        intermediate_size=model.expert_intermediate_size,
        experts_per_token=model.experts_per_token,
        num_experts=model.num_experts,
        bits=_bits(model, "experts"),
        tensor_parallel_size=size,
    )
    return ((layers, Moe(gpu, experts)),)


def _recurrent(gpu: GPUSpec, group: KVLayers, size: int) -> Recurrent:
    state = group.state_bytes / size
    heads = max(1, round(state / (4 * VALUE_HEAD_DIM * VALUE_HEAD_DIM)))
    return Recurrent(gpu, state_bytes=state, value_heads=heads)


def _attention(
    model: ModelSpec, gpu: GPUSpec, group: KVLayers, kv_cache_dtype: str, size: int
) -> Attention:
    dtype = "bfloat16" if kv_cache_dtype in WIDE_KV else "fp8"
    if group.kind == "mla":
        table = Latent(
            gpu,
            num_heads=max(1, model.num_heads // size),
            kv_dtype=dtype,
            fp8_weights=_bits(model, "attention") < 12,
            whole=_whole_module(model),
        )
        label = "latent attention" + (" and its projections" if table.whole else "")
        return Attention(
            label=label, count=group.num_layers, decode=table, prefill=table, window=0
        )
    heads = Heads(
        query=max(1, model.num_heads // size),
        kv=group.heads_per_gpu(size),
        dim=group.head_dim,
        kv_dtype=dtype,
        window=group.window_tokens or 0,
    )
    label = "attention" if not heads.window else f"attention, window {heads.window}"
    prefill = PrefillLaw(gpu, heads)
    return Attention(
        label=label,
        count=group.num_layers,
        decode=DecodeTable(gpu, heads, tile_ns_per_key=prefill.tile_ns_per_key),
        prefill=prefill,
        window=heads.window,
    )


def _bits(model: ModelSpec, role: str) -> float:
    """Of the role's matrices; the small parts kept wide do not count."""
    groups = [group for group in model.weights if group.role == role]
    if not groups:
        return 16.0
    return max(groups, key=lambda group: group.num_parameters).bits_per_parameter
