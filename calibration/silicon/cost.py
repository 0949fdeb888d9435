"""Step time from measured operators.

    gpu   = linear layers(n) + experts(n) + elementwise(n) + all-reduce(n) + LM head(rows)
            + sampling(rows) + recurrent + attention
    step  = max(gpu + gap, host)    scheduling ahead (asynchronous, the default)
            gpu + host              in lock step

``n`` is the number of tokens, padded to the captured CUDA-graph size while there is one; ``rows``
is one per decode and per chunk. Decode attention is read at the batch's mean context, linear
between measured contexts, and at least what its longest sequence takes; a mixed batch goes by the
kernel's tiles (``prefill``). For a run of decode steps the cost is thus a maximum of straight
lines between knots: a span of steps is a closed form.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import NamedTuple

from ..engine_defaults import batch_defaults, capture_sizes, padded
from ..gpus import GPUSpec
from ..host import EAGER_LAUNCH_S, GAP_S, HOST_SOURCE, PIECEWISE_LAUNCH_S, host_ns
from ..model_spec import ModelSpec
from ..step_cost import NS_PER_S, UNBOUNDED, Band, Batch, Line, StepCost
from ..terms import Term, bound_of
from . import elementwise
from .estimate import NOTHING, Estimate
from .layers import Attention, Operators, Product, operators
from .prefill import PrefillLaw
from .systems import SYSTEMS
from .tables import package_version

SILICON_BAND = Band(
    low=0.90,
    high=1.12,
    source="a served run on an RTX PRO 6000 and the published H100 decode law, see the tests",
)


class _Curve(NamedTuple):
    """Decode attention of all layers for one number of sequences, over their total context."""

    knots: list[float]
    ns: list[float]
    slopes: list[float]
    full_ns: list[float]
    """Of the layers that see everything, which the longest sequence can hold up."""
    full_slopes: list[float]
    longest_floor_ns: float
    longest_ns_per_token: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SiliconCost(StepCost):
    """Built by :meth:`of`; asked by the simulator a hundred thousand times a run."""

    model: ModelSpec
    gpu: GPUSpec
    kv_cache_dtype: str
    tensor_parallel_size: int
    capture_sizes: tuple[int, ...]
    """Empty where CUDA graphs are off."""
    async_scheduling: bool
    operators: Operators
    source: str = field(default="silicon", init=False)
    band: Band = field(default=SILICON_BAND, init=False)
    uses_longest: bool = field(init=False)
    _kernels: tuple[elementwise.Kernel, ...] = field(init=False, repr=False, compare=False)
    _bases: dict[tuple[int, int], float] = field(init=False, repr=False, compare=False)
    _curves: dict[int, _Curve] = field(init=False, repr=False, compare=False)
    _joint: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        made = elementwise.kernels(self.model, self.tensor_parallel_size)
        system = SYSTEMS[self.gpu.name]
        object.__setattr__(self, "_kernels", made)
        object.__setattr__(self, "_bases", {})
        object.__setattr__(self, "_curves", {})
        object.__setattr__(self, "_joint", not system.packs_query_heads)
        object.__setattr__(self, "uses_longest", not system.balances_sequences)

    @classmethod
    def of(
        cls,
        *,
        model: ModelSpec,
        gpu: GPUSpec,
        kv_cache_dtype: str = "auto",
        tensor_parallel_size: int = 1,
        enforce_eager: bool = False,
        max_num_seqs: int | None = None,
        async_scheduling: bool = True,
    ) -> SiliconCost:
        """The cost of a model on a GPU (``max_num_seqs`` defaults to the engine's for the card).

        Raises:
            ValueError: unknown KV dtype, a tensor-parallel size the heads do not allow, or a card
                without tables.
        """
        model.check_tensor_parallel(tensor_parallel_size)
        if max_num_seqs is None:
            max_num_seqs = batch_defaults(gpu)[1]
        if max_num_seqs <= 0:
            raise ValueError(f"max_num_seqs(={max_num_seqs}) must be > 0.")
        dtype = model.resolve_kv_dtype(kv_cache_dtype)
        return cls(
            model=model,
            gpu=gpu,
            kv_cache_dtype=dtype,
            tensor_parallel_size=tensor_parallel_size,
            capture_sizes=() if enforce_eager else capture_sizes(max_num_seqs),
            async_scheduling=async_scheduling,
            operators=operators(
                model, gpu, kv_cache_dtype=dtype, tensor_parallel_size=tensor_parallel_size
            ),
        )

    def step_ns(self, batch: Batch) -> float:
        """Nanoseconds of one engine step of this shape."""
        if batch.chunks:
            gpu = self._base(batch) + self._mixed(batch)
            return self._with_host(gpu, self._rows(batch), self._launch_ns(batch))
        return max(line.first_ns for line in self._decode_lines(batch))

    def decode_line(self, batch: Batch) -> Line:
        """The highest of a few lines, until another one passes it or a knot is reached."""
        lines = self._decode_lines(batch)
        top = max(lines, key=lambda line: (line.first_ns, line.slope_ns))
        steps = top.num_steps
        for line in lines:
            steps = min(steps, line.num_steps)
            faster = line.slope_ns - top.slope_ns
            if faster > 0:
                steps = min(steps, int((top.first_ns - line.first_ns) / faster) + 1)
        return Line(top.first_ns, top.slope_ns, steps)

    def terms(self, batch: Batch) -> tuple[Term, ...]:
        """Where the time of one step goes, largest first; the terms sum to :meth:`step_ns`."""
        made = [*self._linear_terms(batch), *self._attention_terms(batch)]
        gpu = sum(term.ns for term in made)
        exposed = self.step_ns(batch) - gpu
        host = Term(name="host, exposed", ns=exposed, source=HOST_SOURCE, bound="host")
        return tuple(sorted([*made, host], key=lambda term: -term.ns))

    def describe(self) -> dict[str, object]:
        """What determines the numbers, with their sources."""
        found = self.operators
        sources = {p.gemm.source for p in (*found.products, found.head)}
        sources |= {kind.decode.source for kind in found.attention}
        sources |= {moe.source for _, moe in found.experts}
        sources |= {layer.source for _, layer in found.recurrent}
        if found.all_reduce is not None:
            sources.add(found.all_reduce.source)
        return {
            "source": self.source,
            "model": self.model.name,
            "model_source": self.model.source,
            "gpu": self.gpu.name,
            "gpu_sources": dict(self.gpu.sources),
            "kv_cache_dtype": self.kv_cache_dtype,
            "tensor_parallel_size": self.tensor_parallel_size,
            "weight_bytes_per_gpu": self.model.weight_bytes_per_gpu(self.tensor_parallel_size),
            "tables": sorted(sources),
            "tables_version": package_version(),
            "derived": self.derived(),
            "async_scheduling": self.async_scheduling,
            "host_s": host_ns(1) / NS_PER_S,
            "capture_sizes": list(self.capture_sizes),
            "band": {"low": self.band.low, "high": self.band.high, "source": self.band.source},
        }

    def derived(self) -> list[str]:
        """Operators of which no measured kernel is just like the model's."""
        found = self.operators
        names = [p.label for p in (*found.products, found.head) if p.gemm.derived]
        names += [kind.label for kind in found.attention if kind.decode.derived]
        names += ["experts" for _, moe in found.experts if moe.derived]
        names += ["recurrent layers" for _, layer in found.recurrent if layer.derived]
        if found.all_reduce is not None and found.all_reduce.derived:
            names.append("all-reduce")
        return sorted(set(names))

    # ------------------------------------------------------------------ a run of decode steps

    def _decode_lines(self, batch: Batch) -> tuple[Line, ...]:
        """The straight lines whose maximum the coming decode steps follow."""
        decodes, context = batch.num_decodes, batch.decode_context_tokens
        base = self._base(batch)
        host = host_ns(decodes)
        if not decodes:
            return (Line(self._with_host(base, 0, 0.0), 0.0, UNBOUNDED),)
        curve = self._curves.get(decodes) or self._curve(decodes)
        index = max(0, bisect_right(curve.knots, context) - 1)
        past = context - curve.knots[index]
        attention = curve.ns[index] + past * curve.slopes[index]
        last = index + 1 == len(curve.knots)
        steps = UNBOUNDED if last else int(curve.knots[index + 1] - context) // decodes + 1
        added = GAP_S * NS_PER_S if self.async_scheduling else host
        launch = 0.0 if self.capture_sizes else self._launch_ns(batch)
        alone = curve.longest_ns_per_token
        uneven = 0.0
        if alone and batch.longest_context_tokens:
            uneven = alone * (batch.longest_context_tokens - context / decodes) / 2
        first = base + attention + uneven + added
        lines = [Line(first, curve.slopes[index] * decodes, steps)]
        if uneven:
            full = curve.full_ns[index] + past * curve.full_slopes[index]
            held_up = curve.longest_floor_ns + alone * batch.longest_context_tokens - full
            slope = (curve.slopes[index] - curve.full_slopes[index]) * decodes + alone
            lines.append(Line(base + attention + held_up + added, slope, steps))
        floor = max(host, launch) if self.async_scheduling else launch + host
        lines.append(Line(floor, 0.0, UNBOUNDED))
        return tuple(lines)

    def _curve(self, decodes: int) -> _Curve:
        """Built once for each number of sequences."""
        kinds = self.operators.attention
        means = sorted({x for kind in kinds for x in (*kind.decode.contexts, kind.window)} - {0})
        values = [0.0] * len(means)
        full = [0.0] * len(means)
        beyond = full_beyond = floor = alone = 0.0
        for kind in kinds:
            ns, slope = kind.decode.means(decodes, means)
            values = [a + kind.count * b for a, b in zip(values, ns, strict=True)]
            beyond += kind.count * slope
            if not kind.window:
                full = [a + kind.count * b for a, b in zip(full, ns, strict=True)]
                full_beyond += kind.count * slope
                least, per_token = kind.decode.longest_ns(decodes)
                floor, alone = floor + kind.count * least, alone + kind.count * per_token
        made = _Curve(
            knots=[0.0, *(decodes * x for x in means)] if means else [0.0],
            ns=[values[0], *values] if means else [0.0],
            slopes=_slopes(values, means, beyond, decodes),
            full_ns=[full[0], *full] if means else [0.0],
            full_slopes=_slopes(full, means, full_beyond, decodes),
            longest_floor_ns=floor,
            longest_ns_per_token=alone,
        )
        self._curves[decodes] = made
        return made

    # ------------------------------------------------------------------ a step that prefills

    def _mixed(self, batch: Batch) -> float:
        """Attention of all layers in a step with chunks."""
        total = 0.0
        for kind in self.operators.attention:
            total += kind.count * self._mixed_layer(kind, batch).ns
        for count, layer in self.operators.recurrent:
            ns = sum(layer.chunk(new).ns for new, _ in batch.chunks)
            total += count * ns
        return total

    def _mixed_layer(self, kind: Attention, batch: Batch) -> Estimate:
        decodes, context = batch.num_decodes, float(batch.decode_context_tokens)
        if not isinstance(kind.prefill, PrefillLaw):
            made = kind.decode(decodes, context)
            for new, past in batch.chunks:
                made = made.plus(kind.prefill.chunk(new, past))
            return made
        if not decodes:
            return kind.prefill(batch.chunks)
        pure = kind.decode(decodes, context)
        floor = kind.decode.floor_ns(decodes)
        if self._joint:
            longest = max(float(batch.longest_context_tokens), context / decodes)
            return kind.prefill(
                batch.chunks, decodes, context, longest, max(0.0, pure.ns - floor)
            )
        return kind.prefill(batch.chunks).plus(pure._replace(ns=max(0.0, pure.ns - floor)))

    # ------------------------------------------------------------------ what contexts do not touch

    def _base(self, batch: Batch) -> float:
        """Remembered, since batches repeat."""
        rows = batch.num_decodes + len(batch.chunks)
        key = rows, batch.num_tokens
        known = self._bases.get(key)
        if known is None:
            estimates = self._linear(rows, batch.num_tokens).values()
            known = self._bases[key] = sum(estimate.ns for _, estimate in estimates)
        if self.operators.recurrent:
            decodes = batch.num_decodes
            known += sum(n * layer.decode(decodes).ns for n, layer in self.operators.recurrent)
        return known

    def _linear(self, rows: int, tokens: int) -> dict[str, tuple[str, Estimate]]:
        """Everything but attention, by label, with its source."""
        run, found = padded(tokens, self.capture_sizes), self.operators
        made: dict[str, tuple[str, Estimate]] = {}

        def add(label: str, source: str, estimate: Estimate) -> None:
            before = made.get(label, (source, NOTHING))[1]
            made[label] = source, before.plus(estimate)

        for p in found.products:
            add(p.label, p.gemm.source, _product(p, run))
        for count, moe in found.experts:
            add("routed experts", moe.source, moe(run).times(count))
        moved = elementwise.layers_ns(self.gpu, self._kernels, run)
        add("norms, rotary, KV write, activation", elementwise.SOURCE, moved)
        if found.all_reduce is not None:
            one = found.all_reduce(run * self.model.hidden_size)
            add("all-reduce", found.all_reduce.source, one.times(2 * self.model.num_layers))
        add(found.head.label, found.head.gemm.source, _product(found.head, rows))
        sampled = elementwise.sampling_ns(self.gpu, self.model.vocab_size, rows)
        add("sampling", elementwise.SOURCE, sampled)
        return made

    def _linear_terms(self, batch: Batch) -> list[Term]:
        rows = self._rows(batch)
        made = [
            self._term(label, source, estimate)
            for label, (source, estimate) in self._linear(rows, batch.num_tokens).items()
        ]
        for count, layer in self.operators.recurrent:
            estimate = layer.decode(batch.num_decodes)
            for new, _ in batch.chunks:
                estimate = estimate.plus(layer.chunk(new))
            made.append(self._term("recurrent layers", layer.source, estimate.times(count)))
        return made

    def _attention_terms(self, batch: Batch) -> list[Term]:
        made = []
        for kind in self.operators.attention:
            if batch.chunks:
                estimate = self._mixed_layer(kind, batch)
                source = kind.prefill.source
            else:
                estimate = kind.decode(batch.num_decodes, float(batch.decode_context_tokens))
                source = kind.decode.source
            made.append(self._term(kind.label, source, estimate.times(kind.count)))
        if not batch.chunks and batch.longest_context_tokens:
            even = self._decode_lines(batch._replace(longest_context_tokens=0))[0]
            more = max(line.first_ns for line in self._decode_lines(batch)[:-1]) - even.first_ns
            if more > 0:
                source = "derived: one multiprocessor reads one sequence"
                made.append(Term(name="uneven contexts", ns=more, source=source))
        return made

    def _term(self, name: str, source: str, estimate: Estimate) -> Term:
        wide = self.gpu.flops_of("bf16") or 0.0
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
            bound="link" if name == "all-reduce" else bound,
            distance=estimate.distance,
            extrapolated=estimate.outside,
        )

    # ------------------------------------------------------------------ the host

    @staticmethod
    def _rows(batch: Batch) -> int:
        return batch.num_decodes + len(batch.chunks)

    def _launch_ns(self, batch: Batch) -> float:
        """Launches that the GPU would wait for: none inside a whole captured step."""
        if not self.capture_sizes:
            per_layer = EAGER_LAUNCH_S
        elif batch.chunks:
            per_layer = PIECEWISE_LAUNCH_S
        else:
            return 0.0
        return NS_PER_S * per_layer * self.model.num_layers

    def _with_host(self, gpu_ns: float, rows: int, launch_ns: float) -> float:
        if self.async_scheduling:
            return max(gpu_ns + GAP_S * NS_PER_S, host_ns(rows), launch_ns)
        return max(gpu_ns, launch_ns) + host_ns(rows)


def _product(p: Product, tokens: int) -> Estimate:
    return p.gemm(tokens, p.n, p.k).times(p.count)


def _slopes(
    values: list[float], means: list[float], beyond: float, decodes: int
) -> list[float]:
    """Of each segment, per token of total context; flat below the first knot."""
    pairs = zip(values, values[1:], means, means[1:], strict=False)
    inner = [(b - a) / ((y - x) * decodes) for a, b, x, y in pairs]
    return [0.0, *inner, beyond / decodes]
