"""Which layers each stage of a pipeline holds.

    layers of a stage = num_layers // P, and one more on as many stages as layers are left over,
                        counted back from the last but one

The embedding is on the first stage, final norm and LM head on the last; a tied embedding is on
both. Source: vLLM ``distributed/utils.py get_pp_indices`` and its models.

A :class:`ModelSpec` counts the layers of each kind and does not order them: every kind (window and
full attention, experts and dense MLPs) is divided like all layers together, rounded up. Where the
kinds alternate that is what the engine gets, to a layer; where a few layers at the start differ
(the dense ones of DeepSeek-V3), a later stage has some percent more weights than is counted here.
"""

from __future__ import annotations

from dataclasses import dataclass

from .model_spec import WEIGHT_ROLES, ModelSpec

ENDS = ("embedding", "lm_head")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The layers on one GPU of a pipeline (on each GPU of its tensor-parallel group)."""

    index: int
    num_stages: int
    num_layers: int
    total_layers: int

    @property
    def is_first(self) -> bool:
        """It embeds the tokens."""
        return self.index == 0

    @property
    def is_last(self) -> bool:
        """It has the LM head and samples."""
        return self.index == self.num_stages - 1

    def part(self, amount: int) -> int:
        """Of layers of one kind, or of their bytes: this stage's share, rounded up."""
        return -(-amount * self.num_layers // self.total_layers)

    def __str__(self) -> str:
        ends = [" the embedding"] * self.is_first + [" the LM head"] * self.is_last
        beside = f" and{' and'.join(ends)}" if ends else ""
        what = f"{self.num_layers} of {self.total_layers} layers{beside}"
        return f"stage {self.index + 1} of {self.num_stages} ({what})"


def stages_of(model: ModelSpec, pipeline_parallel_size: int) -> tuple[Stage, ...]:
    """The stages as the engine cuts them, first to last.

    Raises:
        ValueError: the size is not positive, or larger than the number of layers.
    """
    size, layers = pipeline_parallel_size, model.num_layers
    if size <= 0:
        raise ValueError(f"pipeline_parallel_size(={size}) must be > 0.")
    if size > layers:
        raise ValueError(
            f"pipeline_parallel_size(={size}) must be <= the {layers} layers of {model.name}."
        )
    each, left = divmod(layers, size)
    longer = range(size - 1 - left, size - 1)
    return tuple(
        Stage(index=i, num_stages=size, num_layers=each + (i in longer), total_layers=layers)
        for i in range(size)
    )


def stage_weight_bytes(model: ModelSpec, stage: Stage, tensor_parallel_size: int = 1) -> int:
    """Weight bytes of a stage on one GPU."""
    size = tensor_parallel_size
    layers = [role for role in WEIGHT_ROLES if role not in ENDS]
    total = stage.part(model.bytes_of(*layers, tensor_parallel_size=size))
    if stage.is_first:
        total += model.resident_bytes_per_gpu(size) - model.weight_bytes_per_gpu(size)  # towers
    if stage.is_first or (stage.is_last and model.tied_embeddings):
        total += model.bytes_of("embedding", tensor_parallel_size=size)
    if stage.is_last:
        total += model.bytes_of("lm_head", tensor_parallel_size=size)
    return total
