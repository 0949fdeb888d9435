"""Decodes as captured CUDA graphs, one for each bucket of batch sizes.

A step of decodes runs the graph of the next larger bucket; the rows that fill it up read and write
nothing. The lengths are read on the device (``kernels.work_list``), so one graph serves all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch

from .forward import Batch, Model, best
from .inputs import Inputs

Out = tuple[torch.Tensor, torch.Tensor]
Replay = Callable[[], Out]
"""Runs a captured step on what lies in its input buffers; gives its output buffers."""
Capture = Callable[[Replay], Replay]
"""From a step to its replay."""


class Graphs:
    """All buckets of one model, captured from the largest down.

    Args:
        model: whose steps they are.
        inputs: the buffers that they read.
        buckets: sizes, ascending.
        capture: how a step becomes a replay.
    """

    def __init__(
        self, model: Model, inputs: Inputs, buckets: Sequence[int], capture: Capture
    ) -> None:
        self.buckets = tuple(buckets)
        self._replays = {
            bucket: capture(partial(_step, model, inputs.decodes(bucket)))
            for bucket in reversed(self.buckets)
        }

    def replay(self, bucket: int) -> Out:
        """Logits and tokens of the step that lies in the input buffers."""
        return self._replays[bucket]()


def _step(model: Model, batch: Batch) -> Out:
    return best(model.logits(batch))


class CudaCapture:
    """Captures on the current device; all graphs take their memory from one pool."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, step: Replay) -> Replay:
        """Run twice on a side stream (kernels compile, libraries take their memory), then once."""
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            step()
            step()
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            out = step()

        def replay() -> Out:
            graph.replay()
            return out

        return replay
