"""transformers' continuous batching itself, on a CPU with a tiny random model, step by step.

Every step is the library's own: its scheduler, cache and offloading decide, its tensors are
prepared, its requests updated. The model runs where a case asks for it; else a token that depends
on all tokens before it takes the place of the model's, so that equal requests stay equal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from unittest import mock

import numpy as np
import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM
from transformers.generation.configuration_utils import ContinuousBatchingConfig
from transformers.generation.continuous_batching import initialization, offloading_manager

from kvsim.calibration.affine import AffineCost
from kvsim.sim.deployment import Deployment
from kvsim.sim.replica import StepRecord
from kvsim.sim.schedulers.transformers import TransformersScheduler
from kvsim.sim.simulation import simulate
from support.workloads import Columns

VOCABULARY = 64
_GIB = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is served, and how."""

    prompts: list[list[int]]
    outputs: list[int]
    arrivals: list[int] = field(default_factory=list)
    """Step at which each request arrives; by default all at once."""
    page_size: int = 4
    num_blocks: int = 64
    max_batch_tokens: int = 64
    max_requests: int = 64
    sharing: bool = False
    offload_blocks: int = 0
    prefill_first: bool = False
    safety_margin: float | None = None
    max_blocks_per_request: int = 0
    """0: no decode fast path, as everywhere but on a GPU; else steps go without the model."""
    with_model: bool = False

    @property
    def arrival_steps(self) -> list[int]:
        return self.arrivals or [0] * len(self.prompts)

    @property
    def fast_path_tokens(self) -> int:
        return self.max_blocks_per_request * self.page_size


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One step, as either of the two took it."""

    number: int
    given: list[tuple[int, int, int]]
    """Request, query tokens, KV tokens that it reads, in order."""
    kv_read: int
    fast_path: bool
    free: int
    cached: int
    waiting: int
    running: int
    offloaded: dict[int, bool]
    """Requests that gave way; whether to host memory."""


@cache
def tiny_model() -> LlamaForCausalLM:
    """Two layers, random weights: 512 bytes of KV in four tokens, so that a sector is a block."""
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        vocab_size=VOCABULARY,
        max_position_embeddings=4096,
    )
    model = LlamaForCausalLM(config).eval()
    model.set_attn_implementation("sdpa")
    return model


def unpinned(empty: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """A machine without a GPU has no pinned memory, and the library asks for it."""

    def unpinned_empty(*size: Any, pin_memory: bool = False, **more: Any) -> torch.Tensor:
        return empty(*size, **more)

    return unpinned_empty


class Real:
    """A batch processor that is stepped by hand."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.model = tiny_model()
        block_bytes = 128 * case.page_size
        with mock.patch.object(initialization, "ensure_decode_fast_path_is_available"):
            self.manager = self.model.init_continuous_batching(
                generation_config=GenerationConfig(do_sample=False, eos_token_id=-1),
                continuous_batching_config=ContinuousBatchingConfig(
                    page_size=case.page_size,
                    num_blocks=case.num_blocks,
                    max_batch_tokens=case.max_batch_tokens,
                    max_requests_per_batch=case.max_requests,
                    max_blocks_per_request=case.max_blocks_per_request,
                    allow_block_sharing=case.sharing,
                    scheduler_type="prefill_first" if case.prefill_first else "fifo",
                    safety_margin=case.safety_margin,
                    cpu_offload_space=(case.offload_blocks * block_bytes + 1) / _GIB
                    if case.offload_blocks
                    else 0.0,
                ),
            )
        with mock.patch.object(offloading_manager.torch, "empty", unpinned(torch.empty)):
            self.processor = self.manager._create_batch_processor()
        cache = self.processor.cache
        assert cache.num_sectors == cache.num_blocks == case.num_blocks, "a sector is a block"
        assert cache.max_decode_fast_path_length == case.fast_path_tokens, "as asked for"
        self.tokens: dict[int, list[int]] = {}
        self._offloaded: dict[int, bool] = {}
        self._fast_path = False
        self._kv_read = 0
        self._watch()

    def run(self, most: int = 2000) -> list[Seen]:
        """All requests to their end."""
        case, seen = self.case, []
        coming = sorted(range(len(case.prompts)), key=lambda row: case.arrival_steps[row])
        number = 0
        while coming or self.processor.has_pending_requests():
            if not self.processor.has_pending_requests():
                number = max(number, case.arrival_steps[coming[0]])
            while coming and case.arrival_steps[coming[0]] <= number:
                row = coming.pop(0)
                self.manager.add_request(
                    case.prompts[row], request_id=str(row), max_new_tokens=case.outputs[row]
                )
                self.processor._update_tp_group_state()
            self._offloaded = {}
            if self.processor.prepare_next_batch():
                seen.append(self._seen(number))
                self._generate()
                self.processor.update_batch()
            number += 1
            assert number < most, "the library does not come to an end"
        self._collect()
        return seen

    def _watch(self) -> None:
        """Look over the shoulder of the scheduler and of the offloading."""
        processor = self.processor
        schedule, offload = (
            processor.scheduler.schedule_batch,
            processor.offloading_manager.offload_requests,
        )

        def schedule_batch(*budgets: int) -> Any:
            answer = schedule(*budgets)
            _, self._fast_path, _, self._kv_read = answer
            return answer

        def offload_requests() -> bool:
            active = dict(processor.scheduler.active_requests)
            done = offload()
            for name, state in active.items():
                if name not in processor.scheduler.active_requests:
                    self._offloaded[int(name)] = state.is_cpu_offloaded
            return done

        processor.scheduler.schedule_batch = schedule_batch
        processor.offloading_manager.offload_requests = offload_requests

    def _seen(self, number: int) -> Seen:
        cache, scheduler = self.processor.cache, self.processor.scheduler
        allocator = next(iter(cache.cache_allocators.values()))
        batch = self.processor.inputs_and_outputs.requests_in_batch
        return Seen(
            number=number,
            given=[
                (
                    int(one.state.request_id),
                    one.query_length,
                    one.state.position_offset - one.query_length,
                )
                for one in batch
            ],
            kv_read=self._kv_read,
            fast_path=self._fast_path,
            free=cache.pool.num_free_sectors + cache.pool.count_free_blocks(allocator.index),
            cached=len(allocator.ledger.cached_blocks),
            waiting=len(scheduler.waiting_requests),
            running=len(scheduler.active_requests),
            offloaded=self._offloaded,
        )

    def _generate(self) -> None:
        if self.case.with_model:
            self.processor._generation_step(self.model)
            return
        io = self.processor.inputs_and_outputs
        states = [one.state for one in io.requests_in_batch if one.has_new_token]
        for place, state in enumerate(states):
            tokens = state.initial_tokens + state.generated_tokens
            io.output_ids[0, place] = (31 * sum(tokens) + len(tokens)) % VOCABULARY

    def _collect(self) -> None:
        queue = self.manager.output_router.output_queue
        while not queue.empty():
            output = queue.get()
            assert output.error is None, output.error
            self.tokens[int(output.request_id)] = list(output.generated_tokens)


def simulated(case: Case, outputs: dict[int, list[int]], **flags: Any) -> list[Seen]:
    """The same requests under kvsim's scheduler; a step lasts a second.

    Args:
        case: what is served, and how.
        outputs: tokens that each request was answered: what its blocks contain.
        flags: other flags of the deployment.
    """
    rows = range(len(case.prompts))
    texts = [case.prompts[row] + outputs[row] for row in rows]
    prefix_row, prefix_tokens = _alike(texts)
    trace = Columns(
        arrival_s=np.array(case.arrival_steps, dtype=np.float64),
        prompt_tokens=np.array([len(prompt) for prompt in case.prompts]),
        output_tokens=np.array(case.outputs),
        prefix_row=prefix_row,
        prefix_tokens=prefix_tokens,
    )
    margin = case.safety_margin
    if margin is None:
        margin = 0.0 if case.prefill_first else 0.15
    deployment = Deployment(
        max_model_len=4096,
        scheduler="transformers_prefill_first" if case.prefill_first else "transformers",
        block_size=case.page_size,
        max_num_seqs=case.max_requests,
        max_num_batched_tokens=case.max_batch_tokens,
        watermark=margin,
        enable_prefix_caching=case.sharing,
        preemption_mode="swap" if case.offload_blocks else "recompute",
        **flags,
    )
    seen: list[Seen] = []
    with mock.patch.object(TransformersScheduler, "fast_path_tokens", case.fast_path_tokens):
        simulate(
            trace,
            deployment=deployment,
            cost=AffineCost(base_s=1.0),
            num_gpu_blocks=case.num_blocks + 1,
            num_host_blocks=case.offload_blocks or None,
            check=True,
            log_step=lambda record: seen.append(_from_record(record, case)),
        )
    return [one for one in seen if one.given]


def _from_record(record: StepRecord, case: Case) -> Seen:
    assert record.step.order is not None, "a log was asked for"
    given = [(one.index, tokens, before) for one, tokens, before in record.step.order]
    usage, size = record.moment.usage, case.page_size
    longest = case.fast_path_tokens
    return Seen(
        number=round(record.start_ns / 1e9),
        given=given,
        kv_read=sum(before for _, _, before in given),
        fast_path=all(tokens == 1 and before < longest for _, tokens, before in given),
        free=case.num_blocks - (usage.held + usage.cached) // size,
        cached=usage.cached // size,
        waiting=record.moment.num_waiting,
        running=record.moment.num_running,
        offloaded={one.index: one.swapped_tokens > 0 for one in record.step.preempted},
    )


def _alike(texts: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """For each text the earlier one with which it has most in common, and how much."""
    rows, tokens = np.full(len(texts), -1), np.zeros(len(texts), dtype=np.int64)
    for mine, text in enumerate(texts):
        for other in range(mine):
            common = 0
            for a, b in zip(text, texts[other], strict=False):
                if a != b:
                    break
                common += 1
            if common > tokens[mine]:
                rows[mine], tokens[mine] = other, common
    return rows, tokens


def assert_same_steps(case: Case) -> list[Seen]:
    """Run both; every step is the same. Returns the library's."""
    real = Real(case)
    theirs = real.run()
    ours = simulated(case, real.tokens)
    for their, our in zip(theirs, ours, strict=False):
        assert their == our, f"step {their.number}:\n  library {their}\n  kvsim   {our}"
    assert len(theirs) == len(ours), f"{len(theirs)} steps, {len(ours)} simulated"
    return theirs
