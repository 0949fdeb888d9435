"""The toy engine on a CPU: steps of a known length, NaN in every slot that nobody has written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from kvsim.calibration.engine.clock import StepClock
from kvsim.calibration.engine.history import History
from kvsim.calibration.engine.loop import Loop, Served
from kvsim.calibration.engine.records import Run
from kvsim.calibration.engine.runner import EngineSize, Runner
from kvsim.calibration.engine.shape import TOY, LlamaShape
from kvsim.calibration.engine.steps import Work
from kvsim.sim.deployment import Deployment
from kvsim.sim.groundtruth.parts import make_parts
from kvsim.traces import Trace
from support import sums_runner
from support.plain_llama import answer
from support.sums_runner import VOCAB, SumsRunner

BASE_S, PER_TOKEN_S = 0.010, 0.001


def step_ns(work: Work) -> float:
    """As the affine cost says."""
    tokens = sum(row.new_tokens for row in work.rows)
    return round(1e9 * (BASE_S + PER_TOKEN_S * tokens))


@dataclass(frozen=True, slots=True, kw_only=True)
class Toy:
    """A run that is over."""

    run: Run
    served: Served
    history: History
    runner: Runner | SumsRunner
    num_sequences: list[int]
    """Of each row."""

    def outputs(self) -> list[list[int]]:
        """What the engine answered, sequence by sequence."""
        return [self.history.outputs(one) for one in range(sum(self.num_sequences))]

    def expected(self, trace: Trace) -> list[list[int]]:
        """What a plain forward pass answers."""
        found, first = [], 0
        for row, count in enumerate(self.num_sequences):
            length = int(trace.prompt_tokens[row])
            for sample in range(count):
                prompt = self.history.tokens(first + sample, 0, length)
                tokens = int(trace.output_tokens[row])
                found.append(self._answer(prompt, tokens, sample))
            first += count
        return found

    def _answer(self, prompt: list[int], count: int, sample: int) -> list[int]:
        if isinstance(self.runner, SumsRunner):
            return sums_runner.answer(prompt, count, sample)
        return answer(self.runner.shape, self.runner.weights, prompt, count, sample=sample)


def run_toy(
    trace: Trace,
    *,
    num_gpu_blocks: int,
    num_host_blocks: int = 0,
    shape: LlamaShape = TOY,
    model: bool = True,
    sink: Any = None,
    **flags: Any,
) -> Toy:
    """Serve a trace with the toy, or without a ``model`` by sums (see ``sums_runner``)."""
    deployment = Deployment(**{"max_model_len": 64, "block_size": 4, **flags})
    parts = make_parts(
        trace,
        deployment,
        num_gpu_blocks=num_gpu_blocks,
        num_host_blocks=num_host_blocks,
        check=True,
    )
    size = EngineSize(
        num_gpu_blocks=num_gpu_blocks,
        num_host_blocks=num_host_blocks,
        block_size=deployment.block_size,
        max_model_len=deployment.max_model_len,
        max_num_seqs=deployment.max_num_seqs,
        max_num_batched_tokens=deployment.max_num_batched_tokens,
    )
    if model:
        runner = Runner(shape, size, device=torch.device("cpu"), seed=1, fill=float("nan"))
        vocab_size = shape.vocab_size
    else:
        vocab_size = VOCAB
        runner = SumsRunner(
            num_gpu_blocks=num_gpu_blocks,
            num_host_blocks=num_host_blocks,
            block_size=size.block_size,
        )
    history = History(parts.content, vocab_size=vocab_size, seed=2)
    run = Run()
    served = Loop(
        steps=parts.stepper,
        runner=runner,
        history=history,
        arrivals=parts.arrivals,
        clock=StepClock(step_ns),
        sink=sink or run,
        prompt_tokens=parts.prompt_tokens,
    ).serve()
    return Toy(
        run=run,
        served=served,
        history=history,
        runner=runner,
        num_sequences=[len(row) for row in parts.rows],
    )
