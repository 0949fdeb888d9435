"""Memory of an engine beside weights and KV pool, from the shapes of its profiling run.

Activation peak, the larger of two moments of the dummy run (they do not overlap):

    forward   tokens * dtype * (2 h + widest of: qkv + attention output, gate and up + product,
              expert inputs and outputs)
    sampler   max_num_seqs * vocabulary * 28 bytes: 16-bit logits (2), fp32 logits (4), sorted
              values (4) and indices (8), softmax (4), cumulative sum (4), masks and result (2)

CUDA graphs: every captured size is recorded twice (whole steps and pieces around attention), each
recording keeps some memory per layer. Runtime: what CUDA modules, cuBLAS workspaces and the
allocator keep outside the framework's counters; NCCL buffers by the server's GPUs. Of a pipeline,
a stage has the graphs of its own layers, and only the last one samples. The CUDA
context itself is outside the budget: the engine reads the free memory after creating it.
"""

from __future__ import annotations

from .engine_defaults import capture_sizes
from .model_spec import KVLayers, ModelSpec
from .server_flags import ServerFlags

MIB = 1 << 20
SAMPLER_BYTES_PER_LOGIT = 28
GRAPH_BYTES_PER_LAYER = 224 * 1024
"""Assumed: 51 sizes x 2 recordings x 32 layers then keep 0.70 GiB; servers log 0.4 to 1.1."""
GRAPH_RECORDINGS = 2
RUNTIME_BYTES = 184 * MIB
"""Assumed, the middle of what server logs show on one GPU: 0.01 to 0.35 GiB."""
RUNTIME_RANGE_BYTES = (10 * MIB, (358 + 394) * MIB)
"""The high end with the 394 MiB workspace that the FlashInfer backend keeps."""
NCCL_BYTES = {1: 0, 2: 342 * MIB, 4: 392 * MIB}
"""aiconfigurator-core system files: 0, 342 and 392 MiB on 1, 2 and >= 4 GPUs."""


def activation_peak_bytes(server: ServerFlags) -> int:
    """Bytes of the larger moment of the profiling run, on one GPU."""
    model, tokens = server.model, server.max_num_batched_tokens
    forward = forward_bytes(model, tokens, server.tensor_parallel_size)
    if not server.stage.is_last:
        return forward
    rows = min(server.max_num_seqs, tokens)
    hidden = tokens * model.hidden_size * model.dtype_bytes
    return max(forward, rows * model.vocab_size * SAMPLER_BYTES_PER_LOGIT + hidden)


def forward_bytes(model: ModelSpec, tokens: int, tensor_parallel_size: int = 1) -> int:
    """Bytes of the widest layer of one forward pass."""
    widths = [_attention_width(model, group, tensor_parallel_size) for group in model.layers]
    widths += [3 * model.intermediate_size // tensor_parallel_size, _expert_width(model)]
    return tokens * model.dtype_bytes * (2 * model.hidden_size + max(widths))


def _attention_width(model: ModelSpec, group: KVLayers, tensor_parallel_size: int) -> int:
    """Elements of q, k, v and the output of one token (a latent is projected up for all heads)."""
    if group.kind == "recurrent":
        return 4 * model.hidden_size
    kv_heads = model.num_heads if group.kind == "mla" else group.num_kv_heads
    heads = model.num_heads + kv_heads
    return heads * (group.head_dim + group.head_dim_v) // tensor_parallel_size


def _expert_width(model: ModelSpec) -> int:
    """Elements of one token: gate and up, product and output for each of its experts."""
    return model.experts_per_token * (3 * model.expert_intermediate_size + model.hidden_size)


def graph_bytes(server: ServerFlags) -> int:
    """Bytes of all captured CUDA graphs."""
    if server.enforce_eager:
        return 0
    sizes = capture_sizes(server.max_num_seqs, server.max_num_batched_tokens)
    return len(sizes) * GRAPH_RECORDINGS * server.stage.num_layers * GRAPH_BYTES_PER_LAYER


def nccl_bytes(num_gpus: int) -> int:
    """Bytes of the communicators' buffers on one of so many GPUs."""
    return NCCL_BYTES.get(num_gpus, NCCL_BYTES[4])
