"""One engine step with its cost: the terms, the band, what binds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .costs import step_cost
from .engine_defaults import batch_defaults
from .gpus import GPUSpec
from .model_spec import ModelSpec
from .room import room_notes
from .stages import stages_of
from .step_cost import NS_PER_S, Band, Batch, StepCost
from .terms import Term


@dataclass(frozen=True, slots=True, kw_only=True)
class CostedStep:
    """A batch on a server, and what its source says of it."""

    model: ModelSpec
    gpu: GPUSpec
    tensor_parallel_size: int
    pipeline_parallel_size: int
    batch: Batch
    source: str
    origin: str
    """The source with what it was taken from."""
    taken_from: str
    """That alone; empty where the source is all there is to say."""
    why: str
    """Why it is no better one, as a clause; empty where it was asked for."""
    step_s: float
    band: Band
    terms: tuple[Term, ...]
    """Largest first; they sum to the step."""
    notes: tuple[str, ...]

    @property
    def tokens_per_s(self) -> float | None:
        """Output tokens of all requests; None for a step that prefills."""
        return None if self.batch.chunks else self.batch.num_decodes / self.step_s

    @property
    def bound_s(self) -> dict[str, float]:
        """Seconds by what binds the terms, the largest first."""
        sums: dict[str, float] = {}
        for term in self.terms:
            sums[term.bound] = sums.get(term.bound, 0.0) + term.ns / NS_PER_S
        return dict(sorted(sums.items(), key=lambda item: -item[1]))


def cost_a_step(
    model: ModelSpec, gpu: GPUSpec, batch: Batch, flags: Mapping[str, Any]
) -> CostedStep:
    """Ask the source that ``flags["step_cost"]`` names; the other flags are the server's.

    Raises:
        ValueError: an unknown source, or one that has nothing for this model on this GPU.
    """
    server = {name: value for name, value in flags.items() if name != "step_cost"}
    _check(server)
    stages = server.get("pipeline_parallel_size", 1)
    stages_of(model, stages)
    cost = step_cost(flags["step_cost"], model=model, gpu=gpu, **server)
    return CostedStep(
        model=model,
        gpu=gpu,
        tensor_parallel_size=server["tensor_parallel_size"],
        pipeline_parallel_size=stages,
        batch=batch,
        source=cost.source,
        origin=cost.origin,
        taken_from=getattr(cost, "taken_from", ""),
        why=getattr(cost, "why", ""),
        step_s=cost.step_s(batch),
        band=cost.band_of(batch),
        terms=_shown(cost, batch),
        notes=(
            *cost.caveats,
            *_notes(model, batch, server["max_num_seqs"] or batch_defaults(gpu)[1]),
            *room_notes(
                model,
                gpu,
                batch,
                kv_cache_dtype=server["kv_cache_dtype"],
                tensor_parallel_size=server["tensor_parallel_size"],
                pipeline_parallel_size=stages,
            ),
        ),
    )


def _check(server: Mapping[str, Any]) -> None:
    for name in ("tensor_parallel_size", "max_num_seqs", "max_num_batched_tokens", "block_size"):
        value = server.get(name)
        if value is not None and value <= 0:
            raise ValueError(f"{name}(={value}) must be > 0.")


def _shown(cost: StepCost, batch: Batch) -> tuple[Term, ...]:
    """Without what takes no time at all, such as a source's empty recurrent layers."""
    terms = cost.terms(batch)
    return tuple(term for term in terms if term.ns) or terms


def _notes(model: ModelSpec, batch: Batch, seats: int) -> tuple[str, ...]:
    """What no server with these flags would run."""
    notes, sequences = [], batch.num_decodes + len(batch.chunks)
    if (doubt := model.architecture_note) is not None:
        notes.append(f"{model.name}: {doubt}.")
    longest = max([batch.longest_context_tokens, *(new + past for new, past in batch.chunks)])
    if sequences > seats:
        notes.append(f"{sequences} requests pass max_num_seqs(={seats}) of this server.")
    if longest > model.max_position_embeddings:
        notes.append(
            f"{longest} tokens pass the model's own length of {model.max_position_embeddings}."
        )
    return tuple(notes)
