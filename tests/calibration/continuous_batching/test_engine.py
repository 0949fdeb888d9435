"""transformers' loop on kvsim's kernels: the same tokens as a plain forward pass, and its steps."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from unittest import mock

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.generation.continuous_batching import offloading_manager

from kvsim.calibration.continuous_batching.engine import run_continuous_batching
from kvsim.calibration.continuous_batching.records import (
    Arrival,
    BatchingLog,
    BatchingSettings,
    BatchingStep,
)
from support.real_transformers import Case, simulated, unpinned

BLOCK_BYTES = 2 * 2 * 16 * 4 * 4
"""Two layers, keys and values of one head of 16 fp32, four tokens."""


@cache
def _model() -> LlamaForCausalLM:
    torch.manual_seed(1)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        vocab_size=64,
        max_position_embeddings=256,
        initializer_range=0.2,  # logits far enough apart that the order of sums decides nothing
        attn_implementation="sdpa",
    )
    return LlamaForCausalLM(config).eval()


@torch.no_grad()
def _greedy(prompt: Sequence[int], count: int) -> list[int]:
    """The whole sequence through the model for each token: no cache, no batch, no kernel."""
    model, tokens = _model(), list(prompt)
    for _ in range(count):
        logits = model(torch.tensor([tokens]), use_cache=False).logits[0, -1]
        tokens.append(int(logits.argmax()))
    return tokens[len(prompt) :]


def _play(prompts: list[list[int]], outputs: list[int], **settings: object) -> BatchingLog:
    arrivals = [
        Arrival(arrival_s=0.0, prompt=prompt, output_tokens=count)
        for prompt, count in zip(prompts, outputs, strict=True)
    ]
    flags = {"page_size": 4, "num_blocks": 40, "max_blocks_per_request": 20, **settings}
    log = run_continuous_batching(_model(), arrivals, BatchingSettings(**flags))  # type: ignore[arg-type]
    for answer, prompt, count in zip(log.answers, prompts, outputs, strict=True):
        assert list(answer.tokens) == _greedy(prompt, count), f"request {answer.row}"
        assert len(answer.token_s) == count
        assert list(answer.token_s) == sorted(answer.token_s)
        assert answer.arrival_s < answer.token_s[0]
    return log


def _times(step: BatchingStep) -> tuple[float, ...]:
    planned = step.start_s, step.scheduled_s, step.prepared_s
    return *planned, step.launched_s, step.synced_s, step.end_s


def _prompts(*lengths: int) -> list[list[int]]:
    return [[(5 + 11 * row + 7 * at) % 64 for at in range(n)] for row, n in enumerate(lengths)]


def test_chunks_and_the_decode_fast_path() -> None:
    prompts, outputs = _prompts(5, 21, 9), [6, 3, 5]
    log = _play(prompts, outputs, max_batch_tokens=16, allow_block_sharing=False)
    fast = [step for step in log.steps if step.fast_path]
    mixed = [step for step in log.steps if not step.fast_path and step.kv_read_tokens]
    assert len(fast) >= 3
    assert mixed, "no chunk was computed beside cached tokens"
    assert all(tokens == 1 for step in fast for _, tokens, _ in step.given)
    times = [at for step in log.steps for at in _times(step)]
    assert times == sorted(times)
    case = Case(
        prompts=prompts,
        outputs=outputs,
        num_blocks=40,
        max_batch_tokens=16,
        max_blocks_per_request=20,
    )
    ours = simulated(case, {one.row: list(one.tokens) for one in log.answers})
    assert [list(step.given) for step in log.steps] == [one.given for one in ours]
    assert [step.fast_path for step in log.steps] == [one.fast_path for one in ours]
    assert [step.num_free_blocks for step in log.steps] == [one.free for one in ours]


def test_blocks_that_are_shared_swapped_and_computed_again() -> None:
    head = _prompts(8)[0]
    prompts = [[*head, 1, 2], [*head, 3], [*head, 1, 2], _prompts(0, 12)[1]]
    outputs = [6, 9, 4, 6]
    with mock.patch.object(offloading_manager.torch, "empty", unpinned(torch.empty)):
        log = _play(
            prompts,
            outputs,
            num_blocks=9,
            safety_margin=0.0,
            cpu_offload_space=(2 * BLOCK_BYTES + 1) / 2**30,
        )
    kinds = {kind for step in log.steps for _, kind in step.offloaded}
    assert kinds == {False, True}, "one was swapped, one computed again"
    assert min(step.num_free_blocks for step in log.steps) == 0


@pytest.mark.parametrize(
    ("arrivals", "settings", "sentence"),
    [
        ([], {}, "arrivals holds no requests"),
        ([1.0, 0.5], {}, "arrivals must be in order of arrival_s"),
        ([0.0], {"page_size": 0}, r"page_size\(=0\) must be > 0"),
        ([0.0], {"scheduler_type": "lifo"}, r"scheduler_type\(='lifo'\) must be"),
        ([0.0], {"safety_margin": 1.5}, r"safety_margin\(=1.5\) must be"),
    ],
)
def test_refused(arrivals: list[float], settings: dict[str, object], sentence: str) -> None:
    several = [Arrival(arrival_s=at, prompt=[1], output_tokens=1) for at in arrivals]
    flags = {"num_blocks": 4, "max_blocks_per_request": 4, **settings}
    with pytest.raises(ValueError, match=sentence):
        run_continuous_batching(_model(), several, BatchingSettings(**flags))  # type: ignore[arg-type]
