"""The toy engine on a CPU: steps of a known length, NaN in every slot that nobody has written."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch

from kvsim.calibration.engine.clock import StepClock
from kvsim.calibration.engine.history import History
from kvsim.calibration.engine.loop import Loop, Served
from kvsim.calibration.engine.records import Run, Scheduled
from kvsim.calibration.engine.runner import EngineSize, Runner
from kvsim.calibration.engine.shape import TOY, LlamaShape
from kvsim.calibration.engine.steps import Row, Steps, Work
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
    blocks_in_common: bool
    """Whether two sequences of one step had a block in common."""
    shown: list[Row]
    """All rows, as the engine was handed them."""

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

    def wrong(self, trace: Trace) -> list[int]:
        """Sequences whose answer is another one, of those that have it and had not to guess it."""
        found, expected, sequence = self.outputs(), self.expected(trace), 0
        finished = {one.request for one in self.run.requests if one.status == "finished"}
        wrong = []
        for row, count in enumerate(self.num_sequences):
            several = range(sequence, sequence + count)
            if row in finished and not self.history.num_forced:
                wrong += [one for one in several if found[one] != expected[one]]
            sequence += count
        return wrong

    def rows(self) -> list[Scheduled]:
        """Of all steps."""
        return [row for step in self.run.steps for row in step.rows]

    def _answer(self, prompt: list[int], count: int, sample: int) -> list[int]:
        if isinstance(self.runner, SumsRunner):
            return sums_runner.answer(prompt, count, sample)
        return answer(self.runner.shape, self.runner.weights, prompt, count, sample=sample)


class _Watched:
    """Steps that are looked at on their way to the engine."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self.blocks_in_common = False
        self.rows: list[Row] = []

    def schedule(self, now_ns: float) -> Work | None:
        """The next step."""
        work = self._steps.schedule(now_ns)
        rows = [] if work is None else work.rows
        self.rows += rows
        for a, b in combinations(rows, 2):
            self.blocks_in_common |= bool(set(a.table) & set(b.table))
        return work

    def __getattr__(self, name: str) -> Any:
        return getattr(self._steps, name)


def run_toy(
    trace: Trace,
    *,
    num_gpu_blocks: int,
    num_host_blocks: int = 0,
    shape: LlamaShape = TOY,
    model: bool = True,
    graphs: bool = False,
    sink: Any = None,
    **flags: Any,
) -> Toy:
    """Serve a trace with the toy, or without a ``model`` by sums (see ``sums_runner``).

    With ``graphs`` steps of decodes are filled up to a bucket and run on the buffers of its graph,
    eagerly, as a CPU has no graphs.
    """
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
        if graphs:
            runner.capture(lambda step: step)
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
    watched = _Watched(parts.stepper)
    served = Loop(
        steps=watched,
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
        blocks_in_common=watched.blocks_in_common,
        shown=watched.rows,
    )
