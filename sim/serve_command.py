"""The ``vllm serve`` line that starts a server as it was simulated; transformers' own flags."""

from __future__ import annotations

from shlex import quote

from .deployment import Deployment
from .schedulers import TRANSFORMERS
from .server import Server


def serve_command(server: Server) -> str:
    """Model and every flag that differs from vLLM's default; a remark where vLLM cannot do it."""
    flags = server.deployment
    words = [
        f"vllm serve {quote(server.model.hub_id or server.model.name)}",
        f"--block-size {flags.block_size}",
        f"--gpu-memory-utilization {flags.gpu_memory_utilization:g}",
        f"--max-model-len {flags.max_model_len}",
        f"--max-num-seqs {flags.max_num_seqs}",
        f"--max-num-batched-tokens {flags.max_num_batched_tokens}",
        *_values(server),
        *_switches(server),
    ]
    return _remark(server) + " ".join(words)


def _remark(server: Server) -> str:
    """What vLLM does not have: then the line is a comment, which starts nothing."""
    flags = server.deployment
    if flags.scheduler in TRANSFORMERS:
        config = continuous_batching(flags, server.num_gpu_blocks - 1)
        return f"# vLLM has no {flags.scheduler} scheduler: {config}; the nearest: "
    if flags.scheduler == "vllm_v0":
        return "# vLLM has no vllm_v0 scheduler (the default of 0.2 to 0.5); the nearest: "
    if flags.scheduler != "vllm":
        return f"# vLLM has no {flags.scheduler} scheduler; the nearest: "
    if flags.scheduling_policy not in ("fcfs", "priority"):
        return f"# vLLM has no {flags.scheduling_policy} policy; the nearest: "
    if flags.enable_prefix_caching and flags.prefix_cache == "radix":
        return "# vLLM caches hashed blocks, not a radix tree; the nearest: "
    if flags.preemption_mode != "recompute":
        return f"# vLLM's V1 engine has no preemption by {flags.preemption_mode}; the nearest: "
    if flags.pinned_prefix_tokens:
        return "# vLLM pins no prefix; the nearest: "
    if len(flags.tiers) > 1:
        return "# for the second tier add --kv-transfer-config (spec_name TieringOffloadingSpec): "
    return ""


def continuous_batching(flags: Deployment, num_blocks: int) -> str:
    """How transformers names the same flags."""
    first = flags.scheduler.removeprefix("transformers").removeprefix("_")
    host = flags.swap_space if flags.preemption_mode != "recompute" else 0
    values = {
        "page_size": flags.block_size,
        "num_blocks": num_blocks,
        "max_batch_tokens": flags.max_num_batched_tokens,
        "max_requests_per_batch": flags.max_num_seqs,
        "max_blocks_per_request": -(-flags.max_model_len // flags.block_size),
        "allow_block_sharing": flags.enable_prefix_caching,
        "use_async_batching": False,
        "scheduler_type": first or "fifo",
        "safety_margin": flags.watermark,
        "cpu_offload_space": host,
    }
    given = ", ".join(f"{name}={value!r}" for name, value in values.items())
    return f"ContinuousBatchingConfig({given})"


def _values(server: Server) -> list[str]:
    """Flags with a value, where it is not the default."""
    flags = server.deployment
    values = {
        "--quantization": (server.model.quantization, None),
        "--tensor-parallel-size": (flags.tensor_parallel_size, 1),
        "--pipeline-parallel-size": (flags.pipeline_parallel_size, 1),
        "--kv-cache-dtype": (flags.kv_cache_dtype, "auto"),
        "--num-gpu-blocks-override": (server.num_gpu_blocks_override, None),
        "--kv-cache-memory-bytes": (server.kv_cache_memory_bytes, None),
        "--max-num-active-seqs": (flags.max_num_active_seqs, None),
        "--long-prefill-token-threshold": (flags.long_prefill_token_threshold, 0),
        "--prefill-schedule-interval": (flags.prefill_schedule_interval, 1),
        "--scheduling-policy": (flags.scheduling_policy, "fcfs"),
        "--watermark": (flags.watermark, 0.0),
        "--kv-offloading-size": (flags.offloaded_gib, 0.0),
    }
    return [f"{name} {value}" for name, (value, default) in values.items() if value != default]


def _switches(server: Server) -> list[str]:
    """What is switched on or off."""
    flags = server.deployment
    kinds = {layers.kind for layers in server.model.layers}
    hybrid, chunked = bool(flags.kv_groups), "chunked_local" in kinds
    switches = {
        "--enforce-eager": flags.enforce_eager,
        "--no-enable-chunked-prefill": not flags.enable_chunked_prefill,
        "--no-scheduler-reserve-full-isl": not flags.scheduler_reserve_full_isl,
        "--disable-hybrid-kv-cache-manager": "sliding_window" in kinds and not hybrid,
        "--no-disable-hybrid-kv-cache-manager": hybrid and chunked,
        "--no-enable-prefix-caching": not flags.enable_prefix_caching,
        "--no-async-scheduling": not flags.async_scheduling,
    }
    return [name for name, used in switches.items() if used]
