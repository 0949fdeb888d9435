"""What to deploy, as a user says it: names and vLLM's flags; None is the engine's own choice."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from ..calibration.engine_defaults import BLOCK_SIZE
from ..calibration.engines import LATEST
from ..sim.pages import page_bytes_of
from ..sim.planner.spec import ServerSpec

_HARDWARE = ("model", "gpu", "quantization", "price")
BYTES_PER_GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A model on a GPU with the flags of ``kvsim simulate``, under the same names.

    What is None is the engine's default for the card, the model and the trace, as ``vllm serve``
    would choose it. Checked when a trace is served: some defaults follow from it.
    """

    model: str = "llama-3.1-8b"
    """A name of ``kvsim models``, or the path of a Hugging Face ``config.json``."""
    gpu: str = "a100"
    """A name of ``kvsim gpus``, or the path of a JSON file."""
    quantization: str | None = None
    """Weights as fp8, int8, awq, gptq, mxfp4 or nvfp4."""
    price: float | None = None
    """USD per GPU and hour, instead of the catalogue's."""

    engine: str = LATEST
    block_size: int = BLOCK_SIZE
    """Tokens per block."""
    gpu_memory_utilization: float | None = None
    kv_cache_dtype: str = "auto"
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    max_model_len: int | None = None
    """Longest prompt + output, tokens; None = the power of two that holds the longest request."""
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    num_gpu_blocks_override: int | None = None
    kv_cache_memory_bytes: int | None = None
    non_kv_memory: float | None = None
    """GiB beside weights and pool, where it is known."""
    enforce_eager: bool = False
    hybrid_kv_cache: bool | None = None

    scheduler: str = "vllm"
    step_cost: str = "auto"
    profile: str | None = None
    """Path of a calibration profile, which then gives the step times."""
    enable_prefix_caching: bool | None = None
    prefix_cache: str = "hash"
    async_scheduling: bool | None = None
    enable_chunked_prefill: bool = True
    scheduling_policy: str = "fcfs"
    max_num_active_seqs: int | None = None
    long_prefill_token_threshold: int = 0
    prefill_schedule_interval: int = 1
    mixed_batches: bool = True
    watermark: float | None = None
    scheduler_reserve_full_isl: bool = True
    on_impossible: str = "reject"

    parallel_sampling: str | None = None
    beam_seed: int | None = None
    pinned_prefix_tokens: int = 0
    preemption_mode: str | None = None
    swap_space: float | None = None
    """GiB per GPU."""
    swap_overlap: bool = False

    kv_offloading_size: float = 0.0
    """GiB of host memory for what the prefix cache evicts."""
    kv_offloading_bandwidth: float | None = None
    kv_offloading_secondary_size: float = 0.0
    kv_offloading_secondary_bandwidth: float | None = None
    kv_offloading_secondary_latency: float = 0.0
    host_memory: float | None = None

    allocator: str = "paged"
    reservation: str = "max"
    placement: str = "buddy"
    page_size: str | None = None
    """Virtual only: ``64KiB``, ``128KiB``, ``256KiB`` or ``2MiB``."""

    @property
    def spec(self) -> ServerSpec:
        """Hardware and flags apart.

        Raises:
            ValueError: a page size that there is none of, memory below 0.
        """
        flags = asdict(self)
        hardware = {name: flags.pop(name) for name in _HARDWARE}
        page, beside = flags.pop("page_size"), flags.pop("non_kv_memory")
        if beside is not None and not 0 <= beside < float("inf"):
            raise ValueError(f"non_kv_memory(={beside}) must be >= 0 GiB.")
        flags["page_bytes"] = None if page is None else page_bytes_of(page)
        flags["non_kv_memory_bytes"] = None if beside is None else round(beside * BYTES_PER_GIB)
        return ServerSpec(hardware=hardware, flags=flags)
