"""Step time from measured operators, added up.

    gpu   = linear layers(n) + experts(n) + elementwise(n) + all-reduce(n) + LM head(rows)
            + sampling(rows) + recurrent + attention
    step  = max(gpu + gap, host)    scheduling ahead (asynchronous, the default)
            gpu + host              in lock step

``n`` is the number of tokens, padded to the captured CUDA-graph size while there is one; ``rows``
is one per decode and per chunk. Decode attention is read at the batch's mean context, linear
between measured contexts, with what its longest sequence adds; a step with chunks is asked of the
source's mixed attention. For a run of decode steps the cost is a maximum of straight lines between
knots, so that a span of steps is a closed form.

The band of a shape is the source's own, wider by its terms' distance from measured points and by
what the coefficients behind them are in doubt (fitted, or scaled from another card's), each
weighted by its share of the step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .decode_curve import DecodeCurve, decode_curve
from .engine_defaults import padded
from .estimate import NOTHING, Estimate
from .gpus import GPUSpec
from .host import ASSUMED, HostTimes
from .model_spec import ModelSpec
from .operators import ALL_REDUCE, Attention, Mix, Operator, Operators
from .step_cost import NS_PER_S, UNBOUNDED, Band, Batch, Line, StepCost, highest
from .terms import Term, bound_of

PER_OCTAVE = 0.05
"""Wider on each side, per octave between a term's shape and the nearest measured one (assumed)."""
EXTRAPOLATED = 0.20
"""Wider on each side, for a term that no measured shape surrounds (assumed)."""
UNEVEN_SOURCE = "derived: one multiprocessor reads one sequence's keys"


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorCost(StepCost):
    """Asked by the simulator a hundred thousand times a run; what it was asked is remembered."""

    model: ModelSpec
    gpu: GPUSpec
    kv_cache_dtype: str
    tensor_parallel_size: int
    capture_sizes: tuple[int, ...]
    """Empty where CUDA graphs are off."""
    async_scheduling: bool
    operators: Operators
    source: str
    """``measured``, ``silicon`` or ``derived``."""
    taken_from: str
    """Package, version and card; profile; or folder."""
    why: str = ""
    """Why it is no better source, as a clause; empty where none was looked for."""
    band: Band
    """Of a step of this deployment."""
    near_band: Band | None = None
    """Of a step whose terms are in no doubt; None where it is the band."""
    caveat: str = ""
    """One sentence on what cannot be checked; empty without."""
    host: HostTimes = ASSUMED
    details: Mapping[str, object] = field(default_factory=dict, compare=False)
    """What else the description holds."""
    uses_longest: bool = field(init=False)
    _by_tokens: dict[int, float] = field(init=False, repr=False, compare=False)
    _by_rows: dict[int, float] = field(init=False, repr=False, compare=False)
    _curves: dict[int, DecodeCurve] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "uses_longest", self.operators.uses_longest)
        object.__setattr__(self, "_by_tokens", {})
        object.__setattr__(self, "_by_rows", {})
        object.__setattr__(self, "_curves", {})

    @property
    def origin(self) -> str:
        """The source with what it was taken from, and why no better one, for people."""
        because = f"; {self.why}" if self.why else ""
        return f"{self.source} ({self.taken_from}{because})"

    @property
    def caveats(self) -> tuple[str, ...]:
        """What cannot be checked."""
        return (self.caveat,) if self.caveat else ()

    def step_ns(self, batch: Batch) -> float:
        """Nanoseconds of one engine step of this shape."""
        if batch.chunks:
            gpu = self._base(batch) + self._mixed(batch)
            return self._with_host(gpu, self._rows(batch), self._launch_ns(batch))
        return max([line.first_ns for line in self._decode_lines(batch)])

    def decode_line(self, batch: Batch) -> Line:
        """The highest of a few lines, until another one passes it or a knot is reached."""
        lines = self._decode_lines(batch)
        first, host = lines[0], lines[-1]
        if len(lines) == 2 and first.first_ns >= host.first_ns and first.slope_ns >= 0:
            return first  # it rises, the host's time does not
        return highest(lines)

    def terms(self, batch: Batch) -> tuple[Term, ...]:
        """Where the time of one step goes, largest first; the terms sum to :meth:`step_ns`."""
        made = [*self._linear_terms(batch), *self._attention_terms(batch)]
        gpu = sum(term.ns for term in made)
        exposed = self.step_ns(batch) - gpu
        host = Term(name="host, exposed", ns=exposed, source=self.host.source, bound="host")
        return tuple(sorted([*made, host], key=lambda term: -term.ns))

    def band_of(self, batch: Batch) -> Band:
        """The source's band, wider by how far each term is from what was measured."""
        near, terms = self.near_band or self.band, self.terms(batch)
        whole = sum(term.ns for term in terms)
        wider = sum(term.ns / whole * _doubt(term) for term in terms)
        what = "distance to measured shapes" + (" and doubt" if self.near_band else "")
        return widened(near, wider, f"{wider:.1%} wider by the {what}")

    def head_ns(self, rows: int) -> float:
        """LM head and sampling for so many rows of logits: of a pipeline, the last stage's."""
        return sum(operator.ns(rows).ns for operator in self.operators.by_rows)

    def outside(
        self, *, num_seqs: int, num_tokens: int, context_tokens: int, longest_context: int
    ) -> tuple[str, ...]:
        """Terms that no measured shape surrounds at the largest shapes of a deployment."""
        batches = (
            Batch(num_seqs, context_tokens),
            Batch(1, longest_context),
            Batch(0, 0, ((num_tokens, 0),)),
            Batch(
                0, 0, ((min(num_tokens, longest_context), max(0, longest_context - num_tokens)),)
            ),
        )
        terms = [term for batch in batches for term in self.terms(batch)]
        return tuple(sorted({term.name for term in terms if term.extrapolated}))

    def describe(self) -> dict[str, object]:
        """What determines the numbers, with their sources."""
        return {
            "source": self.source,
            "origin": self.origin,
            "model": self.model.name,
            "model_source": self.model.source,
            "gpu": self.gpu.name,
            "gpu_sources": dict(self.gpu.sources),
            "kv_cache_dtype": self.kv_cache_dtype,
            "tensor_parallel_size": self.tensor_parallel_size,
            "weight_bytes_per_gpu": self.model.weight_bytes_per_gpu(self.tensor_parallel_size),
            "tables": list(self.operators.sources),
            "derived": list(self.operators.derived),
            "async_scheduling": self.async_scheduling,
            "host_s": self.host.ns(1) / NS_PER_S,
            "gap_s": self.host.gap_s,
            "capture_sizes": list(self.capture_sizes),
            "band": {"low": self.band.low, "high": self.band.high, "source": self.band.source},
            **({"why": self.why} if self.why else {}),
            **self.details,
        }

    # ------------------------------------------------------------------ a run of decode steps

    def _decode_lines(self, batch: Batch) -> tuple[Line, ...]:
        """The straight lines whose maximum the coming decode steps follow."""
        decodes, context = batch.num_decodes, batch.decode_context_tokens
        base = self._base(batch)
        host = self.host.ns(decodes)
        if not decodes:
            return (Line(self._with_host(base, 0, 0.0), 0.0, UNBOUNDED),)
        curve = self._curves.get(decodes)
        if curve is None:
            curve = self._curves[decodes] = decode_curve(self._kinds, decodes)
        launch = 0.0 if self.capture_sizes else self._launch_ns(batch)
        added = base + (self.host.gap_s * NS_PER_S if self.async_scheduling else host)
        floor = max(host, launch) if self.async_scheduling else launch + host
        lines = curve.lines(context, batch.longest_context_tokens, added)
        return (*lines, Line(floor, 0.0, UNBOUNDED))

    # ------------------------------------------------------------------ a step that prefills

    def _mixed(self, batch: Batch) -> float:
        """Attention of all layers in a step with chunks."""
        mix = self._mix(batch)
        total = sum([kind.count * kind.mixed.ns(mix) for kind in self._kinds])
        for layers in self.operators.recurrent:
            total += layers.count * sum(layers.chunk(new).ns for new, _ in batch.chunks)
        return total

    @property
    def _kinds(self) -> tuple[Attention, ...]:
        return self.operators.attention

    @staticmethod
    def _mix(batch: Batch) -> Mix:
        decodes, context = batch.num_decodes, float(batch.decode_context_tokens)
        longest = 0.0
        if decodes:
            longest = max(float(batch.longest_context_tokens), context / decodes)
        return Mix(batch.chunks, decodes, context, longest)

    # ------------------------------------------------------------------ what contexts do not touch

    def _base(self, batch: Batch) -> float:
        """By tokens and by rows apart, each remembered: batches repeat."""
        tokens, rows = batch.num_tokens, self._rows(batch)
        by_tokens = self._by_tokens.get(tokens)
        if by_tokens is None:
            run = padded(tokens, self.capture_sizes)
            by_tokens = sum(
                [o.time_ns(run if o.padded else tokens) for o in self.operators.by_tokens]
            )
            self._by_tokens[tokens] = by_tokens
        by_rows = self._by_rows.get(rows)
        if by_rows is None:
            by_rows = sum([operator.time_ns(rows) for operator in self.operators.by_rows])
            self._by_rows[rows] = by_rows
        ns = by_tokens + by_rows
        for layers in self.operators.recurrent:
            ns += layers.count * layers.decode(batch.num_decodes).ns
        return ns

    def _linear_terms(self, batch: Batch) -> list[Term]:
        """Everything but attention; operators of one label are one term."""
        run, rows = padded(batch.num_tokens, self.capture_sizes), self._rows(batch)
        made: dict[str, tuple[Operator, Estimate]] = {}
        for count, operators in ((run, self.operators.by_tokens), (rows, self.operators.by_rows)):
            for operator in operators:
                before = made.get(operator.label, (operator, NOTHING))[1]
                own = count if operator.padded else batch.num_tokens
                made[operator.label] = operator, before.plus(operator.ns(own))
        terms = [
            self._term(label, operator.source, estimate, operator.flops_per_s)
            for label, (operator, estimate) in made.items()
        ]
        for layers in self.operators.recurrent:
            estimate = layers.decode(batch.num_decodes)
            for new, _ in batch.chunks:
                estimate = estimate.plus(layers.chunk(new))
            whole = estimate.times(layers.count)
            terms.append(self._term("recurrent layers", layers.source, whole))
        return terms

    def _attention_terms(self, batch: Batch) -> list[Term]:
        made = []
        for kind in self._kinds:
            if batch.chunks:
                estimate = kind.mixed(self._mix(batch))
                source = kind.mixed_source
            else:
                estimate = kind.decode(batch.num_decodes, float(batch.decode_context_tokens))
                source = kind.decode_source
            made.append(self._term(kind.label, source, estimate.times(kind.count)))
        if not batch.chunks and batch.longest_context_tokens:
            even = self._decode_lines(batch._replace(longest_context_tokens=0))[0]
            more = max(line.first_ns for line in self._decode_lines(batch)[:-1]) - even.first_ns
            if more > 0:
                made.append(Term(name="uneven contexts", ns=more, source=UNEVEN_SOURCE))
        return made

    def _term(
        self, name: str, source: str, estimate: Estimate, flops_per_s: float | None = None
    ) -> Term:
        wide = flops_per_s or self.gpu.flops_of("bf16") or 0.0
        rate = self.gpu.memory_bandwidth_bytes_per_s
        bound = bound_of(
            estimate.ns, NS_PER_S * estimate.bytes / rate, NS_PER_S * estimate.flops / wide
        )
        return Term(
            name=name,
            ns=estimate.ns,
            source=source,
            bytes=estimate.bytes,
            flops=estimate.flops,
            bound="link" if name == ALL_REDUCE else bound,
            distance=estimate.distance,
            extrapolated=estimate.outside,
            doubt=estimate.doubt,
        )

    # ------------------------------------------------------------------ the host

    @staticmethod
    def _rows(batch: Batch) -> int:
        return batch.num_decodes + len(batch.chunks)

    def _launch_ns(self, batch: Batch) -> float:
        """Launches that the GPU would wait for: none inside a whole captured step."""
        if not self.capture_sizes:
            per_layer = self.host.eager_layer_s
        elif batch.chunks:
            per_layer = self.host.piecewise_layer_s
        else:
            return 0.0
        return NS_PER_S * per_layer * self.model.num_layers

    def _with_host(self, gpu_ns: float, rows: int, launch_ns: float) -> float:
        if self.async_scheduling:
            return max(gpu_ns + self.host.gap_s * NS_PER_S, self.host.ns(rows), launch_ns)
        return max(gpu_ns, launch_ns) + self.host.ns(rows)


def widened(band: Band, wider: float, why: str) -> Band:
    """So much on each side, relative."""
    return Band(
        low=band.low / (1.0 + wider),
        high=band.high * (1.0 + wider),
        source=f"{band.source}; {why}",
    )


def _doubt(term: Term) -> float:
    """Relative, on each side."""
    far = PER_OCTAVE * (term.distance or 0.0) + EXTRAPOLATED * term.extrapolated
    return far + term.doubt
