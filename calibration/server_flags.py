"""The engine's flags that decide its memory, with the engine's defaults filled in and checked."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .engines import EngineVersion
from .gpus import GPUSpec
from .model_spec import KVLayers, ModelSpec, bytes_per_token, index_bytes_per_token
from .speculative import Speculation
from .stages import Stage, stages_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFlags:
    """A server as the memory planner sees it; flags have vLLM's names.

    Raises:
        ValueError: a flag out of its range, or a tensor-parallel size that the heads do not allow.
    """

    model: ModelSpec
    gpu: GPUSpec
    engine: EngineVersion
    block_size: int
    gpu_memory_utilization: float
    kv_cache_dtype: str
    tensor_parallel_size: int
    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int | None
    num_gpu_blocks_override: int | None
    kv_cache_memory_bytes: int | None
    non_kv_memory_bytes: int | None
    """Everything beside weights and pool, where the user knows it."""
    enforce_eager: bool
    hybrid_kv_cache: bool
    async_scheduling: bool
    speculation: Speculation | None = None
    pipeline_parallel_size: int = 1
    stage_index: int = 0
    """Whose GPU is planned."""

    def __post_init__(self) -> None:
        if self.model.draft_method is not None:
            raise ValueError(
                f"model(={self.model.name!r}) is a draft head ({self.model.draft_method}): it "
                "goes into --speculative-config."
            )
        self.model.check_tensor_parallel(self.tensor_parallel_size)
        if self.speculation is not None:
            self.speculation.check_tensor_parallel(self.tensor_parallel_size)
        stages_of(self.model, self.pipeline_parallel_size)
        if self.speculation is not None and self.pipeline_parallel_size > 1:
            raise ValueError(
                f"pipeline_parallel_size(={self.pipeline_parallel_size}) with a speculative_config "
                "is not planned: on which stage the drafter lies is not known."
            )
        for name in ("block_size", "max_num_seqs", "max_num_batched_tokens"):
            _check_positive(name, getattr(self, name))
        for name in ("max_model_len", "num_gpu_blocks_override", "kv_cache_memory_bytes"):
            value = getattr(self, name)
            if value is not None:
                _check_positive(name, value)
        if self.non_kv_memory_bytes is not None and self.non_kv_memory_bytes < 0:
            raise ValueError(f"non_kv_memory_bytes(={self.non_kv_memory_bytes}) must be >= 0.")
        if not 0 < self.gpu_memory_utilization <= 1:
            raise ValueError(
                f"gpu_memory_utilization(={self.gpu_memory_utilization}) must be in (0, 1]."
            )
        limit = self.max_model_len or self.model.max_position_embeddings
        drafts = self.speculation.num_speculative_tokens if self.speculation else 0
        if drafts >= limit:
            raise ValueError(
                f"num_speculative_tokens(={drafts}) must be < max_model_len(={limit})."
            )
        if self.block_size > limit:
            raise ValueError(f"block_size(={self.block_size}) must be <= max_model_len(={limit}).")

    @property
    def kv_layers(self) -> tuple[KVLayers, ...]:
        """The model's layers and its drafter's."""
        if self.speculation is None:
            return self.model.layers
        return self.model.layers + self.speculation.layers_beside(self.tensor_parallel_size)

    @property
    def kv_bytes_per_token(self) -> int:
        """KV bytes of one token on one GPU, the drafter's included."""
        return bytes_per_token(self._held, self.kv_cache_dtype, self.tensor_parallel_size)

    @property
    def index_bytes_per_token(self) -> int:
        """Bytes of one token's indexer keys on one GPU, beside its KV."""
        return index_bytes_per_token(self._held)

    @property
    def _held(self) -> tuple[KVLayers, ...]:
        """The layers of the stage that is planned."""
        return tuple(replace(g, num_layers=self.stage.part(g.num_layers)) for g in self.kv_layers)

    @property
    def stage(self) -> Stage:
        """The stage that is planned: the whole model without a pipeline."""
        return stages_of(self.model, self.pipeline_parallel_size)[self.stage_index]

    @property
    def num_gpus(self) -> int:
        """Of one server."""
        return self.tensor_parallel_size * self.pipeline_parallel_size

    @property
    def max_in_flight_tokens(self) -> int:
        """Tokens scheduled and not yet processed.

        A batch in every stage, and one more under asynchronous scheduling.
        """
        return self.max_num_batched_tokens * (self.pipeline_parallel_size + self.async_scheduling)


def _check_positive(name: str, value: int) -> None:
    if value <= 0:
        raise ValueError(f"{name}(={value}) must be > 0.")
