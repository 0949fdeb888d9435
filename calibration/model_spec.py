"""What a model is to a memory planner and to a clock: its KV layers and its weights.

Bytes per token and layer: ``heads * (head_dim + head_dim_v) * dtype`` for attention,
``(kv_lora_rank + rope_dim) * dtype`` for an MLA latent (one copy on every GPU), nothing for a
recurrent layer, which holds a fixed state per sequence instead. Under tensor parallelism each GPU
holds ``max(1, num_kv_heads // tensor_parallel_size)`` heads.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .kv_dtypes import kv_dtype

KV_KINDS = ("full", "sliding_window", "chunked_local", "mla", "recurrent")
WEIGHT_ROLES = (
    "embedding",
    "lm_head",
    "attention",
    "mlp",
    "experts",
    "shared_experts",
    "router",
    "norms",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KVLayers:
    """Layers that keep the same kind of state, of the same shape."""

    kind: str
    num_layers: int
    num_kv_heads: int = 1
    head_dim: int = 0
    """Of a key; in an MLA layer of the up-projected key (nope + rope), used for FLOPs only."""
    head_dim_v: int = 0
    window_tokens: int | None = None
    """Tokens a position sees: the sliding window, or the chunk of chunked-local attention."""
    kv_lora_rank: int = 0
    rope_dim: int = 0
    index_head_dim: int = 0
    """Sparse-attention indexer: one key per token beside the KV (0: none)."""
    index_key_bits: int = 8
    """FP8 keys have an fp32 scale per 128 values; 16-bit keys have none."""
    shared_kv: bool = False
    """K and V are one stored vector."""
    fp8_token_bytes: int = 0
    """Of one stored vector where the FP8 kernel has a layout of its own (0: by the dtype)."""
    tokens_per_state: int = 1
    """Tokens that one stored vector stands for (compressed attention)."""
    state_bytes: int = 0
    """Recurrent state of one sequence in one layer, all heads, before tensor parallelism."""
    delta_rule_heads: int = 0
    """Value heads of a gated delta rule, 128 x 128 each (0: another recurrence, as Mamba-2)."""

    def __post_init__(self) -> None:
        if self.kind not in KV_KINDS:
            raise ValueError(f"kind(={self.kind!r}) must be one of {', '.join(KV_KINDS)}.")
        if self.num_layers <= 0:
            raise ValueError(f"num_layers(={self.num_layers}) must be > 0.")
        windowed = self.kind in ("sliding_window", "chunked_local")
        if windowed != bool(self.window_tokens):
            raise ValueError(
                f"window_tokens(={self.window_tokens}) must be set exactly for a window layer "
                f"(kind(={self.kind!r}))."
            )

    def heads_per_gpu(self, tensor_parallel_size: int = 1) -> int:
        """KV heads on one GPU: divided, then replicated."""
        return max(1, self.num_kv_heads // tensor_parallel_size)

    def state_bytes_per_token(
        self, kv_cache_dtype: str = "auto", tensor_parallel_size: int = 1
    ) -> int:
        """Bytes of one stored vector pair in one layer of one GPU (0 for recurrent layers)."""
        dtype = kv_dtype(kv_cache_dtype)
        if self.kind == "recurrent":
            return 0
        if self.fp8_token_bytes and kv_cache_dtype.startswith("fp8"):
            return self.fp8_token_bytes
        if self.kind == "mla":
            elements = self.kv_lora_rank + self.rope_dim
            return dtype.latent_token_bytes or dtype.vector_bytes(elements)
        stored = dtype.vector_bytes(self.head_dim)
        if not self.shared_kv:
            stored += dtype.vector_bytes(self.head_dim_v)
        return self.heads_per_gpu(tensor_parallel_size) * stored

    @property
    def index_bytes_per_token(self) -> int:
        """Bytes of the indexer's key in one layer: FP8 values, one fp32 scale per 128 of them."""
        scales = 4 * (self.index_head_dim // 128) if self.index_key_bits == 8 else 0
        return self.index_head_dim * self.index_key_bits // 8 + scales


def index_bytes_per_token(layers: Iterable[KVLayers]) -> int:
    """Bytes of one token's indexer keys over these layers, the same on every GPU."""
    return sum(g.num_layers * g.index_bytes_per_token // g.tokens_per_state for g in layers)


def bytes_per_token(
    layers: Iterable[KVLayers], kv_cache_dtype: str, tensor_parallel_size: int
) -> int:
    """KV bytes of one token over these layers, on one GPU."""
    return sum(
        group.num_layers
        * group.state_bytes_per_token(kv_cache_dtype, tensor_parallel_size)
        // group.tokens_per_state
        for group in layers
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightGroup:
    """Parameters of one role, over all layers."""

    role: str
    num_parameters: int
    bits_per_parameter: float = 16.0
    max_shards: int | None = None
    """Tensor parallelism splits them over at most so many GPUs (1: replicated; None: no limit)."""

    def __post_init__(self) -> None:
        if self.role not in WEIGHT_ROLES:
            raise ValueError(f"role(={self.role!r}) must be one of {', '.join(WEIGHT_ROLES)}.")

    @property
    def weight_bytes(self) -> int:
        """Bytes over all GPUs, each shard once."""
        return round(self.num_parameters * self.bits_per_parameter / 8)

    def bytes_per_gpu(self, tensor_parallel_size: int = 1) -> int:
        """Bytes on one GPU."""
        shards = min(tensor_parallel_size, self.max_shards or tensor_parallel_size)
        return -(-self.weight_bytes // shards)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A decoder's shapes. Of towers beside it only the size is known."""

    name: str
    source: str
    layers: tuple[KVLayers, ...]
    """In the order in which the model first uses each kind."""
    weights: tuple[WeightGroup, ...]
    num_layers: int
    hidden_size: int
    num_heads: int
    vocab_size: int
    intermediate_size: int
    """Of the dense MLP (0 where every layer is a mixture of experts)."""
    max_position_embeddings: int
    tied_embeddings: bool = False
    dtype_bytes: int = 2
    """Of activations and of unquantised weights."""
    checkpoint_kv_dtype: str = "bfloat16"
    """What ``kv_cache_dtype=auto`` means: a checkpoint may ask for FP8."""
    num_experts: int = 0
    experts_per_token: int = 0
    expert_intermediate_size: int = 0
    shared_expert_intermediate_size: int = 0
    multimodal: bool = False
    """Served inside a wrapper with encoders: its embedding is not compiled with its layers."""
    tower_parameters: int = 0
    """Of a vision tower, in 16 bits: memory, but no part of a step."""
    hub_id: str | None = None
    """Where Hugging Face has its weights; None for a model read from a file."""
    quantization: str | None = None
    """What the user asked its weights to be stored as, beyond what the checkpoint has."""
    draft_method: str | None = None
    """``eagle`` or ``eagle3``: a head that drafts for another model, no model of its own."""
    target_hidden_size: int = 0
    """Of a draft head: the width of the hidden states that it reads (0: a model of its own)."""
    mtp_layers: tuple[KVLayers, ...] = ()
    """Multi-token-prediction layers, loaded only to speculate."""
    mtp_weights: tuple[WeightGroup, ...] = ()
    unknown_architecture: str | None = None
    """What its configuration calls itself where its rules are not known."""

    @property
    def architecture_note(self) -> str | None:
        """A clause for whoever reads figures of a model that was read by its fields alone."""
        if self.unknown_architecture is None:
            return None
        return f"{self.unknown_architecture} is not known; read as a plain decoder"

    @property
    def num_parameters(self) -> int:
        """All parameters; a tied LM head is counted once, with the embedding."""
        return sum(group.num_parameters for group in self.weights)

    @property
    def num_active_parameters(self) -> int:
        """Parameters that one token passes through, the embedding table included."""
        idle = 1.0 - self.expert_share
        return self.num_parameters - round(self.parameters_of("experts") * idle)

    @property
    def expert_share(self) -> float:
        """Share of the routed experts that one token uses (1 for a dense model)."""
        return self.experts_per_token / self.num_experts if self.num_experts else 1.0

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights, embedding and LM head included, quantised where they are."""
        return sum(group.weight_bytes for group in self.weights)

    def parameters_of(self, *roles: str) -> int:
        """Parameters of these roles."""
        return sum(group.num_parameters for group in self.weights if group.role in roles)

    def bytes_of(self, *roles: str, tensor_parallel_size: int = 1) -> int:
        """Weight bytes of these roles on one GPU."""
        groups = (group for group in self.weights if group.role in roles)
        return sum(group.bytes_per_gpu(tensor_parallel_size) for group in groups)

    def weight_bytes_per_gpu(self, tensor_parallel_size: int = 1) -> int:
        """Weight bytes on one GPU: matrices split, small things replicated."""
        return self.bytes_of(*WEIGHT_ROLES, tensor_parallel_size=tensor_parallel_size)

    def resident_bytes_per_gpu(self, tensor_parallel_size: int = 1) -> int:
        """Weight bytes on one GPU, the vision tower's included."""
        tower = -(-self.tower_parameters * self.dtype_bytes // tensor_parallel_size)
        return self.weight_bytes_per_gpu(tensor_parallel_size) + tower

    def resolve_kv_dtype(self, kv_cache_dtype: str) -> str:
        """``auto`` becomes the checkpoint's dtype.

        Raises:
            ValueError: unknown dtype.
        """
        kv_dtype(kv_cache_dtype)
        return self.checkpoint_kv_dtype if kv_cache_dtype == "auto" else kv_cache_dtype

    def kv_bytes_per_token(
        self, kv_cache_dtype: str = "auto", tensor_parallel_size: int = 1
    ) -> int:
        """KV bytes of one token over all KV-holding layers, on one GPU.

        Window layers count in full (as long as the token is inside the window); recurrent state
        and the indexer of sparse attention are not counted.

        Raises:
            ValueError: unknown dtype.
        """
        dtype = self.resolve_kv_dtype(kv_cache_dtype)
        return bytes_per_token(self.layers, dtype, tensor_parallel_size)

    def check_tensor_parallel(self, tensor_parallel_size: int) -> None:
        """Whether the heads divide.

        Raises:
            ValueError: the size is not positive, does not divide the attention heads, or neither
                divides the KV heads nor copies each of them equally often.
        """
        size = tensor_parallel_size
        if size <= 0:
            raise ValueError(f"tensor_parallel_size(={tensor_parallel_size}) must be > 0.")
        if self.num_heads % tensor_parallel_size:
            raise ValueError(
                f"tensor_parallel_size(={tensor_parallel_size}) must divide the "
                f"{self.num_heads} attention heads of {self.name}."
            )
        for heads in {g.num_kv_heads for g in self.layers if g.kind not in ("mla", "recurrent")}:
            if heads % size and size % heads:
                raise ValueError(
                    f"tensor_parallel_size(={size}) must divide the {heads} KV heads of "
                    f"{self.name}, or be a multiple of them."
                )
