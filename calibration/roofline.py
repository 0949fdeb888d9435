"""The roofline's coefficients for one model on one GPU, in nanoseconds.

    linear(n)   max(weight bytes / (eta B), 2 * active parameters * n / (eta F)) per part, and
                elementwise bytes * n / B; E (1 - (1 - k/E)^n) distinct experts are read
    head(r)     LM head read once or computed for r rows, then three passes over fp32 logits
    all-reduce  two per layer of n h 16-bit values: latency + 2 (t - 1) / t * bytes / link
    decode KV   per context token: max(bytes / (eta B), FLOPs / F) of the layers that see it
    prefill     per pair of query and visible key: 2 H (d_k + d_v) FLOPs

B is the memory bandwidth, F the dense FLOP/s of the weights' dtype, t the tensor-parallel size.
"""

from __future__ import annotations

from dataclasses import dataclass

from .efficiency import ALL_REDUCE_LATENCY_S, LINK_USE, OTHER_READ, Efficiency, efficiency_of
from .gpus import GPUSpec
from .model_spec import KVLayers, ModelSpec, WeightGroup
from .step_cost import NS_PER_S

LOGIT_BYTES = 4
LOGIT_PASSES = 3
ACTIVATION_BYTES = 2
LINEAR_PARTS = {
    "attention projections": ("attention",),
    "MLP, router, norms": ("mlp", "shared_experts", "router", "norms"),
    "routed experts": ("experts",),
}
"""Roles of the weights that run as one part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionTerm:
    """Layers that see the same context: ``ns_per_token`` each context token, up to the window."""

    ns_per_token: float
    ns_per_pair: float
    """Prefill: per query and visible key, computed."""
    window_tokens: int | None = None
    beyond_tokens: float = 0.0
    """Context that counts once a sequence is longer than the window."""
    bytes_per_token: float = 0.0
    """Read for each context token."""
    read_ns_per_token: float = 0.0
    """Of ``ns_per_token``, what reading takes: less where the FLOPs of a latent bind."""
    flops_per_token: float = 0.0
    """Decode: per context token."""
    flops_per_pair: float = 0.0

    def seen_tokens(self, decodes: int, context_tokens: int) -> float:
        """Of so many tokens of context in all, those that decodes of even length attend to."""
        within = self.window_tokens is None or context_tokens <= self.window_tokens * decodes
        return context_tokens if within else self.beyond_tokens * decodes

    def pairs_and_keys(self, new: int, past: int) -> tuple[float, float]:
        """``(pairs of query and visible key, keys read)`` of one chunk."""
        seen, keys = past + (new + 1) / 2, float(past + new)
        if self.window_tokens is not None:
            seen = min(seen, self.window_tokens)
            keys = min(keys, self.window_tokens + new)
        return new * seen, keys


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearTerm:
    """Linear layers that run as one part: bound by reading their weights or by computing."""

    label: str
    read_ns: float
    """Weights that every step reads."""
    experts_read_ns: float
    """Weights of all routed experts, of which a step reads those that its tokens chose."""
    expert_share: float
    compute_ns_per_token: float
    flops_per_token: float

    def ns(self, tokens: int) -> float:
        """A step with so many tokens."""
        return max(self.read_all_ns(tokens), self.compute_ns_per_token * tokens)

    def read_all_ns(self, tokens: int) -> float:
        """The weights that so many tokens need, once."""
        read = self.read_ns
        if self.experts_read_ns:
            read += self.experts_read_ns * (1.0 - (1.0 - self.expert_share) ** tokens)
        return read


@dataclass(frozen=True, slots=True, kw_only=True)
class Roofline:
    """A model on a GPU, ready to be asked; all times in nanoseconds."""

    model: ModelSpec
    gpu: GPUSpec
    kv_cache_dtype: str
    tensor_parallel_size: int

    @property
    def efficiency(self) -> Efficiency:
        """Of the GPU's generation."""
        return efficiency_of(self.gpu.generation)

    def linear_ns(self, tokens: int) -> float:
        """All linear layers but the LM head, and the elementwise kernels, for so many tokens."""
        total = sum(term.ns(tokens) for term in self.linear_terms())
        return total + tokens * self.elementwise_ns() + self.all_reduce_ns(tokens)

    def linear_terms(self) -> tuple[LinearTerm, ...]:
        """One term for each part that runs on its own."""
        return tuple(self._linear_term(label, roles) for label, roles in LINEAR_PARTS.items())

    def head_ns(self, rows: int) -> float:
        """LM head and sampling for so many rows of logits."""
        if rows == 0:
            return 0.0
        read, compute, logits = self.head_parts_s(rows)
        return NS_PER_S * (max(read, compute) / self.tensor_parallel_size + logits)

    def head_parts_s(self, rows: int) -> tuple[float, float, float]:
        """Reading the whole LM head, computing so many rows with it, passing over the logits."""
        role = "embedding" if self.model.tied_embeddings else "lm_head"
        parameters = self.model.vocab_size * self.model.hidden_size
        bits = max(g.bits_per_parameter for g in self.model.weights if g.role == role)
        read = parameters * bits / 8 / self._bandwidth(self.efficiency.weight_read)
        compute = 2 * parameters * rows / (self._flops(bits) * self.efficiency.gemm)
        logits = rows * self.model.vocab_size * LOGIT_BYTES * LOGIT_PASSES
        return read, compute, logits / self._bandwidth(OTHER_READ)

    def all_reduce_ns(self, tokens: int) -> float:
        """Two all-reduces per layer (none on one GPU)."""
        size = self.tensor_parallel_size
        if size == 1:
            return 0.0
        latency, link = self.link()
        payload = tokens * self.model.hidden_size * ACTIVATION_BYTES
        one = latency + 2 * (size - 1) / size * payload / link
        return NS_PER_S * 2 * self.model.num_layers * one

    def link(self) -> tuple[float, float]:
        """``(latency in s, usable bytes/s in one direction)`` between the GPUs."""
        if self.gpu.nvlink_bytes_per_s is not None:
            return ALL_REDUCE_LATENCY_S["nvlink"], self.gpu.nvlink_bytes_per_s / 2 * LINK_USE
        return ALL_REDUCE_LATENCY_S["pcie"], self.gpu.pcie_bytes_per_s * LINK_USE

    def attention_terms(self) -> tuple[AttentionTerm, ...]:
        """One term for each kind of layer with a KV cache."""
        kinds = (group for group in self.model.layers if group.kind != "recurrent")
        return tuple(self._attention_term(group) for group in kinds)

    def recurrent_ns(self) -> float:
        """One sequence: its states are read and written once a step."""
        state = sum(g.num_layers * g.state_bytes for g in self.model.layers)
        per_gpu = 2 * state / self.tensor_parallel_size
        return NS_PER_S * per_gpu / self._bandwidth(OTHER_READ)

    def floor_ns(self) -> float:
        """The least time of the attention kernels of one step."""
        return (
            NS_PER_S
            * self.efficiency.attention_floor_s
            * sum(group.num_layers for group in self.model.layers)
        )

    def _linear_term(self, label: str, roles: tuple[str, ...]) -> LinearTerm:
        groups = [group for group in self.model.weights if group.role in roles]
        per_byte = NS_PER_S / self._bandwidth(self.efficiency.weight_read)
        sizes = {True: 0.0, False: 0.0}
        for group in groups:
            sizes[group.role == "experts"] += group.bytes_per_gpu(self.tensor_parallel_size)
        compute_s = sum(
            2 * self._parameters_used(group) / self._flops(group.bits_per_parameter)
            for group in groups
        )
        per_token_s = compute_s / self.efficiency.gemm / self.tensor_parallel_size
        used = sum(self._parameters_used(group) for group in groups)
        return LinearTerm(
            label=label,
            read_ns=sizes[False] * per_byte,
            experts_read_ns=sizes[True] * per_byte,
            expert_share=self.model.expert_share,
            compute_ns_per_token=NS_PER_S * per_token_s,
            flops_per_token=2 * used / self.tensor_parallel_size,
        )

    def _parameters_used(self, group: WeightGroup) -> float:
        share = self.model.expert_share if group.role == "experts" else 1.0
        return group.num_parameters * share

    def _flops(self, bits: float) -> float:
        """Dense FLOP/s for weights of so many bits: 8-bit units where weights and GPU have them."""
        wide = self.gpu.flops_of("bf16") or 0.0
        return (self.gpu.flops_of("fp8") or wide) if 8 <= bits < 9 else wide

    def elementwise_ns(self) -> float:
        """Per token: residual and norms (8 h), rotary (q and k twice), activation (3 i)."""
        model, size = self.model, self.tensor_parallel_size
        width = model.intermediate_size or (
            model.experts_per_token * model.expert_intermediate_size
            + model.shared_expert_intermediate_size
        )
        heads = max((g.head_dim for g in model.layers), default=0) * model.num_heads
        elements = 8 * model.hidden_size + (4 * heads + 3 * width) / size
        moved = model.num_layers * elements * ACTIVATION_BYTES
        return NS_PER_S * moved / self._bandwidth(OTHER_READ)

    def _attention_term(self, group: KVLayers) -> AttentionTerm:
        stored = group.state_bytes_per_token(self.kv_cache_dtype, self.tensor_parallel_size)
        read = group.num_layers * stored / group.tokens_per_state
        heads = self.model.num_heads / self.tensor_parallel_size
        narrow = self.kv_cache_dtype not in ("bfloat16", "float16", "float32", "bf16", "fp16")
        eta = self.efficiency.kv_read_fp8 if narrow else self.efficiency.kv_read
        latent = 2 * group.kv_lora_rank + group.rope_dim if group.kind == "mla" else 0
        flops = self._flops(16.0) * self.efficiency.prefill_attention
        decode_flops = group.num_layers * 2 * heads * latent / group.tokens_per_state
        pair_flops = group.num_layers * 2 * heads * (group.head_dim + group.head_dim_v)
        window = group.window_tokens
        beyond = 0.0 if window is None else window / (2 if group.kind == "chunked_local" else 1)
        return AttentionTerm(
            ns_per_token=NS_PER_S * max(read / self._bandwidth(eta), decode_flops / flops),
            ns_per_pair=NS_PER_S * pair_flops / group.tokens_per_state / flops,
            window_tokens=window,
            beyond_tokens=beyond,
            bytes_per_token=read,
            read_ns_per_token=NS_PER_S * read / self._bandwidth(eta),
            flops_per_token=decode_flops or pair_flops / group.tokens_per_state,
            flops_per_pair=pair_flops / group.tokens_per_state,
        )

    def _bandwidth(self, efficiency: float) -> float:
        return self.gpu.memory_bandwidth_bytes_per_s * efficiency
