"""Runs a step on the device: moves blocks, prepares, launches, waits for the tokens.

The phases are called one by one so that each can be timed; between ``launch`` and ``wait`` the host
is free.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .forward import Batch, Model, best
from .graph_buckets import bucket_of, buckets_up_to
from .graphs import Capture, CudaCapture, Graphs
from .history import History
from .inputs import Inputs
from .pools import Pools
from .shape import LlamaShape
from .steps import Move, Row, Sampled
from .warming import warm_steps
from .weights import Weights, random_weights, rope_tables


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSize:
    """What the engine is built for, under vLLM's names.

    Raises:
        ValueError: a size below 1.
    """

    num_gpu_blocks: int
    num_host_blocks: int = 0
    block_size: int = 16
    max_model_len: int = 8192
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 2048
    enforce_eager: bool = False
    """No CUDA graphs; a CPU has none."""

    def __post_init__(self) -> None:
        for name in ("num_gpu_blocks", "block_size", "max_model_len", "max_num_seqs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}(={getattr(self, name)}) must be > 0.")
        if self.num_host_blocks < 0:
            raise ValueError(f"num_host_blocks(={self.num_host_blocks}) must be >= 0.")


class Runner:
    """A model with its pools on one device.

    Args:
        shape: the model.
        size: pools and limits.
        device: ``cuda`` or ``cpu`` (Triton's interpreter).
        seed: of the weights.
        weights: by default random ones.
        fill: what KV slots hold that nobody has written.
    """

    def __init__(
        self,
        shape: LlamaShape,
        size: EngineSize,
        *,
        device: torch.device,
        seed: int = 0,
        weights: Weights | None = None,
        fill: float = 0.0,
    ) -> None:
        self.shape, self.size, self.device = shape, size, device
        self.weights = weights or random_weights(shape, device, seed=seed)
        self.pools = Pools(
            shape,
            num_gpu_blocks=size.num_gpu_blocks,
            num_host_blocks=size.num_host_blocks,
            block_size=size.block_size,
            device=device,
            fill=fill,
        )
        self._inputs = Inputs(
            # a group may compute again in one step all that its samples had in the pool, and what
            # they shared of a block once for each
            max_tokens=max(size.max_num_batched_tokens, size.num_gpu_blocks * size.block_size)
            + size.max_num_seqs * size.block_size,
            max_seqs=max(size.max_num_seqs, *buckets_up_to(size.max_num_seqs)),
            # rows of a table start at multiples of 16 bytes: kernels are compiled for that
            max_blocks=-(-size.max_model_len // (4 * size.block_size)) * 4,
            block_size=size.block_size,
            device=device,
        )
        rope = rope_tables(shape, size.max_model_len, device)
        self._model = Model(shape, self.weights, self.pools, rope)
        self._graphs: Graphs | None = None
        self._batch: Batch | None = None
        self._bucket = 0
        self._ranks = 1
        self._out: tuple[torch.Tensor, torch.Tensor] | None = None
        self._events = _Events() if device.type == "cuda" else None

    @torch.inference_mode()
    def capture(self, how: Capture | None = None) -> int:
        """Capture the decodes of all buckets; how many there are.

        Args:
            how: by default as CUDA graphs, and none on a CPU.
        """
        if self.size.enforce_eager or (how is None and self.device.type != "cuda"):
            return 0
        buckets = buckets_up_to(self.size.max_num_seqs)
        self._graphs = Graphs(self._model, self._inputs, buckets, how or CudaCapture())
        return len(buckets)

    @torch.inference_mode()
    def largest_step(self) -> None:
        """As many tokens as a step may have, from as many requests: what takes most memory."""
        budget, most = self.size.max_num_batched_tokens, self.size.max_num_seqs
        num_chunks = max(1, min(most, budget // 2))
        longest = -(-budget // num_chunks)
        chunks = [min(longest, budget - longest * place) for place in range(num_chunks)]
        best(self._model.logits(self._inputs.blank(0, [count for count in chunks if count > 0])))

    @torch.inference_mode()
    def warm(self) -> None:
        """Run eager steps of all kinds, and moves, once; on a CPU one decode and one chunk.

        Nothing is compiled there, and the first step is slow all the same.
        """
        if self.device.type != "cuda":
            best(self._model.logits(self._inputs.blank(1, [min(2, self.size.max_model_len)])))
            return
        limits = ("max_num_seqs", "max_num_batched_tokens", "max_model_len")
        for step in warm_steps(**{name: getattr(self.size, name) for name in limits}):
            best(self._model.logits(self._inputs.blank(*step)))
        moves = [Move("copy", 0, 0), Move("out", 0, 0), Move("in", 0, 0)]
        self.pools.move(moves if self.size.num_host_blocks else moves[:1])
        torch.cuda.synchronize()

    @torch.inference_mode()
    def prepare(self, rows: Sequence[Row], history: History) -> int:
        """Fill the step's buffers and send them; the bucket of its graph, 0 where it runs eagerly.

        Rows of one new token come first.
        """
        self._ranks = 1 + max((rank for row in rows for _, rank in row.takers), default=0)
        in_graph = self._graphs is not None and self._ranks == 1
        if in_graph and all(row.new_tokens == 1 and row.takers for row in rows):
            assert self._graphs is not None, "it was asked just now"
            self._bucket = bucket_of(len(rows), self._graphs.buckets)
        else:
            self._bucket = 0
        self._batch = self._inputs.send(rows, history, pad_to=self._bucket)
        return self._bucket

    @torch.inference_mode()
    def launch(self, moves: Sequence[Move]) -> None:
        """Queue the moves and then the step that was prepared, if any."""
        if self._events is not None:
            self._events.begin()
        self.pools.move(moves)
        if self._batch is not None:
            self._out = self._step(self._batch)
        if self._events is not None:
            self._events.end()

    def _step(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        if self._bucket:
            assert self._graphs is not None, "a bucket is a graph's"
            return self._graphs.replay(self._bucket)
        logits = self._model.logits(batch)
        if self._ranks == 1:
            values, tokens = best(logits)
        else:
            values, tokens = logits.topk(self._ranks, dim=-1)
            values = values[:, 0]
        return values, tokens

    @torch.inference_mode()
    def wait(self, num_samples: int) -> Sampled:
        """The tokens of the step, once the device is done.

        Raises:
            RuntimeError: a logit that is not finite: a slot was read that nobody wrote, or the
                weights overflow.
        """
        out, self._out, self._batch = self._out, None, None
        if out is None:
            if self.device.type == "cuda":
                torch.cuda.synchronize()
            return Sampled(tokens=[], best_logits=[])
        values = self._fetched(out[0][:num_samples])
        tokens = self._fetched(out[1][:num_samples]).view(num_samples, self._ranks)
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        if not bool(torch.isfinite(values).all()):
            raise RuntimeError("a logit is not finite: KV was read that nobody has written.")
        return Sampled(tokens=tokens.tolist(), best_logits=values.tolist())

    def _fetched(self, tensor: torch.Tensor) -> torch.Tensor:
        """A copy on the host, there after the next synchronisation."""
        pinned = self.device.type == "cuda" and tensor.numel() > 0
        host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=pinned)
        return host.copy_(tensor, non_blocking=True)

    def gpu_s(self) -> float:
        """Between the events around the last launch, once it is over; NaN on a CPU."""
        return float("nan") if self._events is None else self._events.seconds()


class _Events:
    """Two CUDA events around a step."""

    def __init__(self) -> None:
        self._begin: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        self._end: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]

    def begin(self) -> None:
        """Before what is timed is queued."""
        self._begin.record()

    def end(self) -> None:
        """Behind it."""
        self._end.record()

    def seconds(self) -> float:
        """Once the device is done."""
        return float(self._begin.elapsed_time(self._end)) / 1e3
