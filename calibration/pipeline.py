"""What a step costs on a pipeline: batches in flight, stages that wait, transfers between them.

The engine keeps a batch in flight for each of P stages. A request is in one of them at a time and
has to pass all stages before its next token, so that the batches come round in turn. kvsim's
scheduler plans one batch at a time and stays as it is: its step stands for one **round**, in which
every batch in flight passes every stage once and every running request gets one token. (With P
batches a round may prefill P times ``max_num_batched_tokens``.)

A step is cut into batches ``i``: decodes evenly, chunks greedily from the first batch on, each up
to ``max_num_batched_tokens``. With W the whole model's step of that batch (host and gaps in it), H
its LM head and sampling, L layers, l_s of them in stage s:

    t(s, i) = max((W_i - H_i) l_s / L + [s last] H_i + [s not first] x_i, host)
    x_i     = latency + 2 hidden * tokens * 2 bytes / link     hidden state and residual
    round   = max(max over i of sum over s of t(s, i),         one batch through all stages
                  max over s of sum over i of t(s, i))         all batches through one stage

That is the cycle time of a flow line in which the P jobs return to the start: no batch comes round
faster than through all stages, no stage serves the batches faster than one after another (the tests
run such a line; it is exact where the stages are alike). With fewer requests than stages the first
line decides, and a stage idles for the rest of the round: the bubble. So it does with one long
chunk, behind which the other batches queue. With enough decodes the second decides: P times the
time of the slowest stage. A transfer is hidden behind other batches' work but for one a batch, the
receiving stage's.

Terms are those of the mean stage, that is of all batches divided by P: its work, the transfers into
it, and the bubble, in which it has nothing to do (uneven stages and batches, too few of them, or
the host).

Limits. The engine does not even out its batches: requests stay in the batch that first took them,
and a burst that fits one batch decodes as one, at the latency of ``N`` requests and with the other
stages idle. A balancing scheduler gained 23 % of throughput where they were uneven (vLLM pull
request 57433): the band is as much wider. A request that arrives waits for the round to end instead
of for the first stage to be free. All stages are on GPUs with the same link.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from .datasheet import DatasheetCost
from .efficiency import LINK_USE
from .engine_defaults import batch_defaults
from .gpus import GPUSpec
from .in_flight import split, with_chunks
from .model_spec import ModelSpec
from .operator_cost import OperatorCost
from .stages import Stage, stages_of
from .step_cost import NS_PER_S, Band, Batch, Line, StepCost, highest
from .terms import Term

P2P_LATENCY_S = 10e-6
"""Of one message between two GPUs: aiconfigurator-core's system files."""
TENSORS = 2
"""Hidden state and residual."""
VALUE_BYTES = 2
WIDER_LOW, WIDER_HIGH = 0.95, 1.23
SOURCE = "derived: batches in flight, spread evenly, on the stages of a pipeline"
LINK_SOURCE = "aiconfigurator-core p2p latency, datasheet link"


class _Share(NamedTuple):
    """Equal batches in flight, of a step that only decodes."""

    number: int
    decodes: int
    padding: int
    has_longest: bool
    head_ns: float
    transfer_ns: float
    floor_ns: float
    """Of the host, at every stage."""


class _Kind(NamedTuple):
    """Stages that cost alike."""

    number: int
    share: float
    """Of the layers."""
    receives: bool
    samples: bool


class _Timed(NamedTuple):
    """Equal batches in flight, with what the whole model would take for one."""

    number: int
    whole: Line
    head_ns: float
    transfer_ns: float
    floor_ns: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelinedCost(StepCost):
    """A whole model's cost on the stages of a pipeline."""

    whole: OperatorCost | DatasheetCost
    model: ModelSpec
    gpu: GPUSpec
    pipeline_parallel_size: int
    max_num_batched_tokens: int
    """Of one batch in flight."""
    source: str = field(init=False)
    band: Band = field(init=False)
    uses_longest: bool = field(init=False)
    _stages: tuple[Stage, ...] = field(init=False, repr=False, compare=False)
    _kinds: tuple[_Kind, ...] = field(init=False, repr=False, compare=False)
    _shares: dict[tuple[int, int, bool], tuple[_Share, ...]] = field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        stages = stages_of(self.model, self.pipeline_parallel_size)
        object.__setattr__(self, "source", self.whole.source)
        object.__setattr__(self, "band", _wider(self.whole.band))
        object.__setattr__(self, "uses_longest", self.whole.uses_longest)
        object.__setattr__(self, "_stages", stages)
        object.__setattr__(self, "_kinds", _kinds(stages))
        object.__setattr__(self, "_shares", {})

    @property
    def origin(self) -> str:
        """The source with what it was taken from, for people."""
        return f"{self.whole.origin}, on {self.pipeline_parallel_size} pipeline stages"

    @property
    def caveats(self) -> tuple[str, ...]:
        """Those of the whole model's source."""
        return self.whole.caveats

    def step_ns(self, batch: Batch) -> float:
        """Nanoseconds of one round."""
        return self.decode_line(batch).first_ns

    def decode_line(self, batch: Batch) -> Line:
        """The slowest way through the pipeline, until another one passes it or one bends."""
        return self._round(self._timed(batch))

    def terms(self, batch: Batch) -> tuple[Term, ...]:
        """Where the time of one round goes, largest first; the terms sum to :meth:`step_ns`."""
        size, transfer = self.pipeline_parallel_size, 0.0
        named: dict[str, Term] = {}
        for part in self.batches(batch):
            transfer += (size - 1) / size * self._transfer_ns(part.num_tokens)
            for term in self.whole.terms(part):
                mean = replace(
                    term, ns=term.ns / size, bytes=term.bytes / size, flops=term.flops / size
                )
                known = named.get(term.name)
                named[term.name] = mean if known is None else _both(known, mean)
        whole = self.step_ns(batch)
        bubble = whole - transfer - sum(term.ns for term in named.values())
        made = [
            *named.values(),
            Term(name="pipeline transfers", ns=transfer, source=LINK_SOURCE, bound="link"),
            Term(name="pipeline bubble", ns=bubble, source=SOURCE),
        ]
        return tuple(sorted(made, key=lambda term: -term.ns))

    def band_of(self, batch: Batch) -> Band:
        """That of the batch in flight that takes longest, and as much wider."""
        parts = self.batches(batch)
        return _wider(self.whole.band_of(max(parts, key=self.whole.step_ns) if parts else batch))

    def outside(
        self, *, num_seqs: int, num_tokens: int, context_tokens: int, longest_context: int
    ) -> tuple[str, ...]:
        """Those of the whole model, for the requests of one batch in flight."""
        stages = self.pipeline_parallel_size
        return self.whole.outside(
            num_seqs=-(-num_seqs // stages),
            num_tokens=num_tokens,
            context_tokens=-(-context_tokens // stages),
            longest_context=longest_context,
        )

    def describe(self) -> dict[str, object]:
        """The whole model's, the stages and the link."""
        return {
            **self.whole.describe(),
            "pipeline_parallel_size": self.pipeline_parallel_size,
            "pipeline_layers": [stage.num_layers for stage in self._stages],
            "pipeline_max_num_batched_tokens": self.max_num_batched_tokens,
            "pipeline_latency_s": P2P_LATENCY_S,
            "pipeline_link_bytes_per_s": link_bytes_per_s(self.gpu),
            "band": {"low": self.band.low, "high": self.band.high, "source": self.band.source},
        }

    # ------------------------------------------------------------------ the batches in flight

    def batches(self, batch: Batch) -> tuple[Batch, ...]:
        """A step cut into the batches in flight, at most one for each stage."""
        shares = self._shares_of(batch)
        parts = [self._part(batch, share) for share in shares for _ in range(share.number)]
        if not batch.chunks:
            return tuple(parts)
        empty = [Batch()] * (self.pipeline_parallel_size - len(parts))
        filled = with_chunks([*parts, *empty], batch, self.max_num_batched_tokens)
        return tuple(part for part in filled if part.num_tokens)

    def _part(self, batch: Batch, share: _Share) -> Batch:
        """Contexts in proportion; the longest sequence is in one of the largest batches."""
        decodes, context = share.decodes, batch.decode_context_tokens
        if decodes != batch.num_decodes:
            context = context * decodes / batch.num_decodes  # type: ignore[assignment]  # a mean
        longest = batch.longest_context_tokens if share.has_longest else 0
        return Batch(decodes, context, (), share.padding, longest)

    def _shares_of(self, batch: Batch) -> tuple[_Share, ...]:
        """Remembered, since batches repeat."""
        key = batch.num_decodes, batch.num_padding_rows, bool(batch.longest_context_tokens)
        known = self._shares.get(key)
        if known is None:
            sizes: dict[tuple[int, int, bool], int] = {}
            for size in split(*key, self.pipeline_parallel_size):
                sizes[size] = sizes.get(size, 0) + 1
            known = tuple(
                _Share(
                    number=number,
                    decodes=decodes,
                    padding=padding,
                    has_longest=longest,
                    head_ns=self.whole.head_ns(decodes),
                    transfer_ns=self._transfer_ns(decodes + padding),
                    floor_ns=self.whole.host.ns(decodes),
                )
                for (decodes, padding, longest), number in sizes.items()
            )
            self._shares[key] = known
        return known

    def _timed(self, batch: Batch) -> list[_Timed]:
        if not batch.chunks:
            return [
                _Timed(
                    share.number,
                    self.whole.decode_line(self._part(batch, share)),
                    share.head_ns,
                    share.transfer_ns,
                    share.floor_ns,
                )
                for share in self._shares_of(batch)
            ]
        timed = []
        for part, number in Counter(self.batches(batch)).items():
            rows = part.num_decodes + len(part.chunks)
            timed.append(
                _Timed(
                    number,
                    Line(self.whole.step_ns(part), 0.0, 1),
                    self.whole.head_ns(rows),
                    self._transfer_ns(part.num_tokens),
                    self.whole.host.ns(rows),
                )
            )
        return timed

    # ------------------------------------------------------------------ the round

    def _round(self, timed: list[_Timed]) -> Line:
        """One batch through all stages, or all batches through one stage."""
        kinds = self._kinds
        table = [[_at_stage(batch, kind) for kind in kinds] for batch in timed]
        through = [kind.number for kind in kinds]
        together = [batch.number for batch in timed]
        ways = [_added(through, lines) for lines in table]
        ways += [_added(together, lines) for lines in zip(*table, strict=True)]
        return highest(ways)

    def _transfer_ns(self, tokens: int) -> float:
        """From one stage to the next; each GPU of the stage sends its part, or gathers the rest."""
        moved = TENSORS * VALUE_BYTES * self.model.hidden_size * tokens
        return NS_PER_S * (P2P_LATENCY_S + moved / link_bytes_per_s(self.gpu))


def pipelined(
    whole: StepCost,
    *,
    model: ModelSpec,
    gpu: GPUSpec,
    pipeline_parallel_size: int,
    max_num_batched_tokens: int | None = None,
) -> StepCost:
    """The cost on so many stages; itself on one, or where it is a server's clock (affine).

    Raises:
        ValueError: the size is not positive, or larger than the number of layers.
    """
    stages_of(model, pipeline_parallel_size)
    if pipeline_parallel_size == 1 or not isinstance(whole, (OperatorCost, DatasheetCost)):
        return whole
    return PipelinedCost(
        whole=whole,
        model=model,
        gpu=gpu,
        pipeline_parallel_size=pipeline_parallel_size,
        max_num_batched_tokens=max_num_batched_tokens or batch_defaults(gpu)[0],
    )


def link_bytes_per_s(gpu: GPUSpec) -> float:
    """Usable between two GPUs, in one direction."""
    if gpu.nvlink_bytes_per_s is not None:
        return gpu.nvlink_bytes_per_s / 2 * LINK_USE
    return gpu.pcie_bytes_per_s * LINK_USE


def _kinds(stages: Iterable[Stage]) -> tuple[_Kind, ...]:
    found = Counter(
        (stage.num_layers / stage.total_layers, not stage.is_first, stage.is_last)
        for stage in stages
    )
    return tuple(_Kind(number, *kind) for kind, number in found.items())


def _at_stage(batch: _Timed, kind: _Kind) -> Line:
    """Of one batch, at one stage: its share of the whole, or the host."""
    whole, floor = batch.whole, batch.floor_ns
    first = (whole.first_ns - batch.head_ns) * kind.share
    if kind.samples:
        first += batch.head_ns
    if kind.receives:
        first += batch.transfer_ns
    line = Line(first, whole.slope_ns * kind.share, whole.num_steps)
    if first >= floor and line.slope_ns >= 0:
        return line
    return highest([line, Line(floor, 0.0, whole.num_steps)])


def _added(numbers: Sequence[int], lines: Sequence[Line]) -> Line:
    """So many of each, one after another."""
    first = slope = 0.0
    for number, line in zip(numbers, lines, strict=True):
        first += number * line.first_ns
        slope += number * line.slope_ns
    return Line(first, slope, min([line.num_steps for line in lines]))


def _both(a: Term, b: Term) -> Term:
    """One term of two batches; bound, source and distance are the longer one's."""
    longer = a if a.ns >= b.ns else b
    return replace(
        longer,
        ns=a.ns + b.ns,
        bytes=a.bytes + b.bytes,
        flops=a.flops + b.flops,
        extrapolated=a.extrapolated or b.extrapolated,
    )


def _wider(band: Band) -> Band:
    return Band(
        low=band.low * WIDER_LOW,
        high=band.high * WIDER_HIGH,
        source=f"{band.source}; wider for pipeline batches that are not even, assumed from "
        "vLLM pull request 57433",
    )
