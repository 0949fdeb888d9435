"""A start-up log beside the prediction for the same server, line by line, and what it teaches.

The overhead learned is ``requested - predicted weights - logged KV pool``: given back as
``non_kv_memory_bytes`` it makes the predicted pool agree with the log. What the user gives wins
over what the log says (a note names both), and that over the engine's defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from .device_names import devices_of_size
from .engines import LATEST, engine_of_release
from .gpus import GIB, GPUSpec, load_gpu
from .log_checks import check_pool, given_against_log, nothing_learned, release_note
from .memory import MemoryBudget, plan_memory
from .model_spec import ModelSpec
from .models import load_model
from .quantized import quantized
from .startup_log import StartupLog

PINS = ("num_gpu_blocks_override", "kv_cache_memory_bytes")
OTHER_CARD = 0.01
FULL_BITS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedLine:
    """One quantity, predicted and logged."""

    name: str
    predicted: int
    logged: int | None
    """None where the log does not say."""
    in_bytes: bool = True

    @property
    def difference(self) -> float | None:
        """Predicted over logged, less one."""
        return self.predicted / self.logged - 1 if self.logged and self.logged > 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogComparison:
    """Every line, and the memory beside weights and pool that the log implies."""

    path: str
    model: str
    gpu: str
    engine: str
    flags: dict[str, Any]
    """As planned: the user's, else the log's."""
    lines: tuple[ComparedLine, ...]
    non_kv_memory_bytes: int | None
    """None where the log does not say enough."""
    notes: tuple[str, ...]

    @property
    def learned_flags(self) -> str | None:
        """The option to paste."""
        learned = self.non_kv_memory_bytes
        return None if learned is None else f"--non-kv-memory {learned / GIB:.3f}"

    def to_json(self) -> dict[str, Any]:
        """Plain values; ``difference`` is a share."""
        return {
            "log": self.path,
            "model": self.model,
            "gpu": self.gpu,
            "engine": self.engine,
            "flags": self.flags,
            "lines": {
                line.name: {
                    "predicted": line.predicted,
                    "logged": line.logged,
                    "difference": line.difference,
                }
                for line in self.lines
            },
            "non_kv_memory_bytes": self.non_kv_memory_bytes,
            "learned": self.learned_flags,
            "notes": list(self.notes),
        }


def compare_log(
    log: StartupLog,
    *,
    gpu: str | None = None,
    model: str | None = None,
    quantization: str | None = None,
    flags: Mapping[str, Any] | None = None,
) -> LogComparison:
    """Plan the log's server and set both beside each other.

    Raises:
        ValueError: card or model neither given nor known from the log, a flag out of its range, or
            a logged pool that no start-up can have had.
    """
    spec, card = quantized(_model(log, model), quantization), _card(log, gpu)
    given = dict(flags or {})
    planned = {"engine": _engine(log), **log.flags, **given}
    notes = given_against_log(log, gpu=gpu, model=model, flags=given)
    notes += [*_card_notes(log, card, gpu), *_notes(log, spec, planned)]
    if "engine" not in given and (note := release_note(log.release)) is not None:
        notes.append(note)
    total = log.amounts.get("total")
    if total is not None:
        card = replace(card, total_memory_bytes=total)
    budget = _budget(spec, card, planned)
    pool = _logged_pool(log, budget)
    check_pool(log, pool, card)
    pinned = any(planned.get(name) is not None for name in PINS)
    learned = None
    if pool is not None and not pinned:
        requested = log.amounts.get("requested", budget.requested_bytes)
        weights = budget.lines[0].bytes
        learned = requested - weights - pool
        if learned <= 0:
            learned = None
            notes.append(nothing_learned(requested, weights, pool))
    if pinned:
        notes.append("The pool was pinned by a flag: the log tells nothing about the overhead.")
    return LogComparison(
        path=log.path,
        model=spec.name,
        gpu=card.name,
        engine=str(planned["engine"]),
        flags=planned,
        lines=_lines(log, budget, pool, pinned=pinned),
        non_kv_memory_bytes=learned,
        notes=tuple(notes),
    )


def _engine(log: StartupLog) -> str:
    """The version of the log; the newest where it names none."""
    try:
        return LATEST if log.release is None else engine_of_release(log.release).name
    except ValueError:
        return LATEST


def _model(log: StartupLog, given: str | None) -> ModelSpec:
    if given is not None:
        return load_model(given)
    if log.model is None:
        raise ValueError(f"{log.path} names no model: give --model.")
    try:
        return load_model(log.model)
    except ValueError:
        raise ValueError(
            f"{log.path} serves {log.model!r}, which the catalogue does not hold: give --model "
            "with a name of `kvsim models` or with its config.json."
        ) from None


def _card(log: StartupLog, given: str | None) -> GPUSpec:
    """The card given, else named, else the first of its size where all of that size are alike."""
    name = given or log.gpu
    if name is not None:
        return load_gpu(name)
    names = _of_size(log)
    if len({load_gpu(name).generation for name in names}) == 1:
        return load_gpu(names[0])
    which = f" (memory fits {', '.join(names)})" if names else ""
    raise ValueError(f"{log.path} names no GPU that kvsim knows{which}: give --gpu.")


def _of_size(log: StartupLog) -> tuple[str, ...]:
    total = log.amounts.get("total")
    return () if total is None else devices_of_size(total)


def _card_notes(log: StartupLog, card: GPUSpec, given: str | None) -> list[str]:
    total, expected = log.amounts.get("total"), card.total_memory_bytes
    if given is None and log.gpu is None:
        return [f"The log does not name its GPU; {card.name} is taken, which has its memory."]
    if total is not None and abs(total / expected - 1) > OTHER_CARD:
        return [
            f"The log's card has {total / GIB:.2f} GiB, {card.name} {expected / GIB:.2f} GiB: the "
            "log's figure is taken."
        ]
    return []


def _notes(log: StartupLog, model: ModelSpec, flags: Mapping[str, Any]) -> list[str]:
    notes = []
    full = all(group.bits_per_parameter >= FULL_BITS for group in model.weights)
    if log.quantization is not None and full:
        notes.append(
            f"The log says quantization={log.quantization}, {model.name} is in 16 bits: give "
            "--quantization, or --model with the quantised config.json."
        )
    silent = [n for n in ("max_num_seqs", "max_num_batched_tokens") if n not in flags]
    if silent:
        notes.append(f"The log does not say {' and '.join(silent)}; the engine's default is taken.")
    return notes


def _budget(model: ModelSpec, gpu: GPUSpec, flags: dict[str, Any]) -> MemoryBudget:
    """A length that the predicted pool does not hold is left out: the real one did hold it."""
    try:
        return plan_memory(model=model, gpu=gpu, **flags)
    except ValueError:
        if flags.get("max_model_len") is None:
            raise
        return plan_memory(model=model, gpu=gpu, **{**flags, "max_model_len": None})


def _logged_pool(log: StartupLog, budget: MemoryBudget) -> int | None:
    """Bytes of the KV pool, from blocks or tokens where it is not logged as such."""
    if "kv_cache" in log.amounts:
        return log.amounts["kv_cache"]
    if log.num_gpu_blocks is not None:
        return log.num_gpu_blocks * budget.block_bytes
    if log.kv_tokens is not None:
        return round(log.kv_tokens * budget.kv_cache_bytes / budget.kv_cache_tokens)
    return None


def _implied_overhead(
    log: StartupLog, budget: MemoryBudget, pool: int | None, *, pinned: bool
) -> int | None:
    """Requested less weights less pool, the first two predicted where the log is silent."""
    if pool is None or pinned:
        return None
    requested = log.amounts.get("requested", budget.requested_bytes)
    return requested - log.amounts.get("weights", budget.lines[0].bytes) - pool


def _lines(
    log: StartupLog, budget: MemoryBudget, pool: int | None, *, pinned: bool
) -> tuple[ComparedLine, ...]:
    """In the order of the budget; the pool's tokens and blocks last."""
    said, sizes = log.amounts, {line.name: line.bytes for line in budget.lines}
    requested, weights = said.get("requested"), said.get("weights")
    lines = [
        ComparedLine(name="requested", predicted=budget.requested_bytes, logged=requested),
        ComparedLine(name="weights", predicted=sizes["weights"], logged=weights),
    ]
    if "runtime" in sizes:
        parts = {
            "activation_peak": (sizes["activation_peak"], said.get("activation_peak")),
            "runtime": (sizes["runtime"] + sizes["nccl"], log.runtime_bytes),
            "cuda_graphs": (sizes["cuda_graphs"], log.graph_bytes),
        }
        lines += [ComparedLine(name=n, predicted=p, logged=v) for n, (p, v) in parts.items()]
    rest = budget.requested_bytes - sizes["weights"] - budget.kv_cache_bytes
    lines += [
        ComparedLine(
            name="non_kv",
            predicted=rest,
            logged=_implied_overhead(log, budget, pool, pinned=pinned),
        ),
        ComparedLine(name="kv_cache", predicted=budget.kv_cache_bytes, logged=pool),
        ComparedLine(
            name="kv_tokens",
            predicted=budget.kv_cache_tokens,
            logged=log.kv_tokens,
            in_bytes=False,
        ),
        ComparedLine(
            name="num_gpu_blocks",
            predicted=budget.num_gpu_blocks,
            logged=log.num_gpu_blocks,
            in_bytes=False,
        ),
    ]
    return tuple(lines)
