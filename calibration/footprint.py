"""Memory of an engine beside weights and KV pool, from the shapes of its profiling run.

With T = ``max_num_batched_tokens``, S = min(``max_num_seqs``, T), V the vocabulary, h the hidden
size, I the intermediate size, k experts per token, b bytes per activation and t the tensor-parallel
size, the activation peak is the largest of three moments, which do not overlap:

    forward   T b (4 h + the widest of 3 I / t and q, k, v, output of all heads / t)
    sampler   S V x (bytes per logit of that engine) + T b h + 2 S b h
    compile   V b h + 2 T b h: the compiler times a kernel on a random copy of the embedding
              (one GPU, no wrapper with encoders, a cold compile cache)

and the cuBLAS workspace, and T b 2 h where a wrapper keeps encoder outputs. Bytes per logit, read
in the sampler's source: logits in 16 bits (2) and fp32 (4), filtered copy (4), probabilities (4);
before 0.17 the sort made it 38 (logits 6, sorted values and indices with the sort's own buffers 24,
softmax and sum 8), inferred from logs. What stays allocated: T k (max(I', h) + max(2 I', h)) b in
expert layers (I' = expert width / t; none with MXFP4 experts), S V x 4.25 bytes of sampler state in
model runner V2, kernels and library workspaces. NCCL and the CUDA context are there before the
engine takes its first reading and are not in the budget; workspaces of the fused all-reduce are.

CUDA graphs, as the engine estimates them: runner V1 0.2 GiB + 190 KiB per layer and graph, runner
V2 374 KiB (Ampere, Ada) or 537 KiB per layer and whole-step graph; twice that in MLA layers.
Sources: vLLM 0.19.0 and 0.33.0; constants settled on the logs of ``tests/calibration/startups``.
Of a pipeline, a stage has the graphs of its own layers, the first one the embedding, and only the
last one samples.
"""

from __future__ import annotations

from .engine_defaults import MAX_CAPTURE_TOKENS, capture_sizes
from .gpus import GIB
from .model_spec import KVLayers, ModelSpec
from .server_flags import ServerFlags

KIB, MIB = 1 << 10, 1 << 20
SMALL_GENERATIONS = ("volta", "turing", "ampere", "ada")
FUSING_GENERATIONS = ("hopper", "blackwell")
"""Hopper and data-centre Blackwell: the cards whose all-reduce is fused with the norm."""
HIDDEN_COPIES = 4
"""Alive in the widest layer: both residuals, the attention's output, the normed input."""
CUBLAS_BYTES = {False: 8 * MIB, True: 32 * MIB}
"""The framework's default workspace; the larger one from Hopper on."""
MXFP4_BITS = 4.5
V1_GRAPH_POOL_BYTES = GIB // 5
V1_GRAPH_BYTES_PER_LAYER = 190 * KIB
V2_GRAPH_BYTES_PER_LAYER = {False: 374 * KIB, True: 537 * KIB}
MLA_GRAPH_FACTOR = 2
ALL_REDUCE_BYTES = {1: 0, 2: round(1.82 * GIB), 4: round(1.92 * GIB)}
"""Logged by 0.19 on H100; 2 and >= 4 GPUs."""
NCCL_BYTES = {1: 0, 2: 342 * MIB, 4: 392 * MIB}
"""Engines without fusion: aiconfigurator-core system files (0.11 on H100 logs 0.41 GiB)."""


def activation_peak_bytes(server: ServerFlags) -> int:
    """Bytes that the profiling run adds at its peak, on one GPU."""
    peak = max(steady_peak_bytes(server), compile_bytes(server))
    return peak + (0 if _workspace_is_runtime(server) else expert_workspace_bytes(server))


def steady_peak_bytes(server: ServerFlags) -> int:
    """The peak of a start with a warm compile cache."""
    model, tokens = server.model, server.max_num_batched_tokens
    forward = forward_bytes(model, tokens, server.tensor_parallel_size)
    if not server.engine.keeps_expert_workspace:
        forward += _expert_buffers(server)
    encoder = 2 * tokens * model.hidden_size * model.dtype_bytes if model.multimodal else 0
    sampler = sampler_bytes(server) if server.stage.is_last else 0
    return max(forward, sampler) + encoder + CUBLAS_BYTES[is_wide(server)]


def sampler_bytes(server: ServerFlags) -> int:
    """Bytes of the sampler's moment: every seat gets a row of logits."""
    model, size = server.model, server.tensor_parallel_size
    logits = _seats(server) * model.vocab_size
    gathered = 2 if size == 1 else 4 + 2 / size  # shard, gathered, made contiguous
    per_logit = max(server.engine.sampler_bytes_per_logit, gathered)
    rows = server.engine.sampler_rows * model.vocab_size * 4
    hidden = model.hidden_size * model.dtype_bytes
    return (
        round(logits * per_logit)
        + rows
        + (server.max_num_batched_tokens + 2 * _seats(server)) * hidden
    )


def compile_bytes(server: ServerFlags) -> int:
    """Bytes of the compiler's benchmark, 0 where the embedding is not compiled."""
    if server.enforce_eager or not server.engine.benchmarks_embedding:
        return 0
    hidden = server.model.hidden_size * server.model.dtype_bytes
    copy = embedding_copy_bytes(server)
    return copy and copy + 2 * server.max_num_batched_tokens * hidden


def embedding_copy_bytes(server: ServerFlags) -> int:
    """Bytes of one embedding table, where the compiler benchmarks it."""
    model = server.model
    if server.num_gpus > 1 or model.multimodal:
        return 0
    return model.vocab_size * model.hidden_size * model.dtype_bytes


def forward_bytes(model: ModelSpec, tokens: int, tensor_parallel_size: int = 1) -> int:
    """Bytes of the widest layer of one forward pass, expert buffers apart."""
    shared = model.intermediate_size or model.shared_expert_intermediate_size
    widths = [_attention_width(model, group, tensor_parallel_size) for group in model.layers]
    widest = max(3 * shared // tensor_parallel_size, *widths)
    return tokens * model.dtype_bytes * (HIDDEN_COPIES * model.hidden_size + widest)


def _attention_width(model: ModelSpec, group: KVLayers, tensor_parallel_size: int) -> int:
    """Elements of q, k, v and the output of one token (a latent is projected up for all heads)."""
    if group.kind == "recurrent":
        return 4 * model.hidden_size
    kv_heads = model.num_heads if group.kind == "mla" else group.num_kv_heads
    heads = model.num_heads + kv_heads
    return heads * (group.head_dim + group.head_dim_v) // tensor_parallel_size


def expert_workspace_bytes(server: ServerFlags) -> int:
    """Bytes of the expert layers' buffers that stay allocated."""
    return _expert_buffers(server) if server.engine.keeps_expert_workspace else 0


def _expert_buffers(server: ServerFlags) -> int:
    model = server.model
    experts = [group for group in model.weights if group.role == "experts"]
    if not model.experts_per_token or all(g.bits_per_parameter < MXFP4_BITS for g in experts):
        return 0
    width, hidden = model.expert_intermediate_size // server.tensor_parallel_size, model.hidden_size
    elements = max(width, hidden) + max(2 * width, hidden)
    return server.max_num_batched_tokens * model.experts_per_token * elements * model.dtype_bytes


def runtime_bytes(server: ServerFlags) -> int:
    """Bytes that stay beside weights and pool: kernels, the sampler's state, expert buffers."""
    workspace = expert_workspace_bytes(server) if _workspace_is_runtime(server) else 0
    return kernel_bytes(server) + sampler_state_bytes(server) + workspace


def kernel_bytes(server: ServerFlags) -> int:
    """Bytes of CUDA modules and library workspaces."""
    engine = server.engine
    return engine.wide_kernel_bytes if is_wide(server) else engine.kernel_bytes


def sampler_state_bytes(server: ServerFlags) -> int:
    """Bytes of the counters that model runner V2 keeps per seat and word."""
    seats = server.max_num_seqs * server.model.vocab_size
    return round(seats * server.engine.sampler_state_bytes_per_logit)


def _workspace_is_runtime(server: ServerFlags) -> bool:
    """Runner V2 logs what stays with the weights, runner V1 with the peak."""
    return server.engine.model_runner > 1


def graph_bytes(server: ServerFlags) -> int:
    """Bytes of all captured CUDA graphs, as the engine estimates them."""
    if server.enforce_eager:
        return 0
    model, engine = server.model, server.engine
    large = engine.largest_graph_tokens if server.gpu.generation == "blackwell" else 0
    sizes = capture_sizes(
        server.max_num_seqs,
        server.max_num_batched_tokens,
        largest_tokens=large or MAX_CAPTURE_TOKENS,
    )
    whole_steps = sum(size <= server.max_num_seqs for size in sizes)
    layers = server.stage.part(
        sum(g.num_layers * (MLA_GRAPH_FACTOR if g.kind == "mla" else 1) for g in model.layers)
    )
    if engine.model_runner == 1:
        graphs = len(sizes) + whole_steps
        return V1_GRAPH_POOL_BYTES + graphs * layers * V1_GRAPH_BYTES_PER_LAYER
    return whole_steps * layers * V2_GRAPH_BYTES_PER_LAYER[is_wide(server)]


def collective_bytes(server: ServerFlags) -> int:
    """Bytes of the communication buffers that the engine counts."""
    size = server.tensor_parallel_size
    if not server.engine.fuses_all_reduce:
        return NCCL_BYTES.get(server.num_gpus, NCCL_BYTES[4])
    fuses = server.gpu.generation in FUSING_GENERATIONS
    return ALL_REDUCE_BYTES.get(size, ALL_REDUCE_BYTES[4]) if fuses else 0


def is_wide(server: ServerFlags) -> bool:
    """Whether the card is of Hopper's generation or newer: larger workspaces, more kernels."""
    return server.gpu.generation not in SMALL_GENERATIONS


def _seats(server: ServerFlags) -> int:
    return min(server.max_num_seqs, server.max_num_batched_tokens)
