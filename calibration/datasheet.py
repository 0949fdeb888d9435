"""Step time from the datasheet: a roofline with stated efficiencies.

    step = host gap + launches + attention floors + linear(n) + head(rows)
           + sum over decodes of KV(context) + sum over chunks of prefill attention

``n`` is the number of tokens, padded to the captured CUDA-graph size while there is one; ``rows``
is one per decode and per chunk. Terms are in ``roofline``, constants in ``efficiency``.

Decode context of a window layer is taken at the batch's mean: ``min(mean context, window)`` (half a
chunk beyond the first chunk for chunked-local layers). That is exact when all contexts are on one
side of the window and overestimates a mixed batch. The step is linear in the total context between
those knots, so a span of steps is a closed form.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .datasheet_terms import datasheet_terms
from .efficiency import EAGER_LAUNCH_S, HOST_GAP_S, LINK_USE, OTHER_READ
from .engine_defaults import batch_defaults, capture_sizes, padded
from .gpus import GPUSpec
from .host import ASSUMED, HostTimes
from .model_spec import ModelSpec
from .roofline import AttentionTerm, LinearTerm, Roofline
from .step_cost import NS_PER_S, UNBOUNDED, Band, Batch, Line, StepCost
from .terms import Term

DATASHEET_BAND = Band(
    low=0.80,
    high=1.35,
    source="assumed from the spread of published roofline simulators and the anchors in the tests",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasheetCost(StepCost):
    """Built by :meth:`of`; asked by the simulator a hundred thousand times a run."""

    roofline: Roofline
    capture_sizes: tuple[int, ...]
    """Empty where CUDA graphs are off."""
    fixed_ns: float
    """Host gap, launches and attention floors of every step."""
    async_scheduling: bool = True
    """Whether the host's work on a step is hidden behind the GPU's on the one before."""
    why: str = ""
    """Why it is this source and not a measured one, as a clause."""
    host: HostTimes = field(default=ASSUMED, init=False)
    source: str = field(default="datasheet", init=False)
    band: Band = field(default=DATASHEET_BAND, init=False)
    _everywhere_ns: float = field(init=False, repr=False, compare=False)
    _windows: tuple[AttentionTerm, ...] = field(init=False, repr=False, compare=False)
    _terms: tuple[AttentionTerm, ...] = field(init=False, repr=False, compare=False)
    _sequence_ns: float = field(init=False, repr=False, compare=False)
    _linear: tuple[LinearTerm, ...] = field(init=False, repr=False, compare=False)
    _token_ns: float = field(init=False, repr=False, compare=False)
    _heads: dict[int, float] = field(init=False, repr=False, compare=False)
    _bases: dict[tuple[int, int], float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        terms = self.roofline.attention_terms()
        everywhere = sum(t.ns_per_token for t in terms if t.window_tokens is None)
        windows = tuple(t for t in terms if t.window_tokens is not None)
        object.__setattr__(self, "_terms", terms)
        object.__setattr__(self, "_everywhere_ns", everywhere)
        object.__setattr__(self, "_windows", windows)
        object.__setattr__(self, "_sequence_ns", self.roofline.recurrent_ns())
        object.__setattr__(self, "_linear", self.roofline.linear_terms())
        object.__setattr__(self, "_token_ns", self.roofline.elementwise_ns())
        object.__setattr__(self, "_heads", {})
        object.__setattr__(self, "_bases", {})

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
        why: str = "",
    ) -> DatasheetCost:
        """The cost of a model on a GPU (``max_num_seqs`` defaults to the engine's for the card).

        Raises:
            ValueError: unknown KV dtype, or a tensor-parallel size the heads do not allow.
        """
        model.check_tensor_parallel(tensor_parallel_size)
        if max_num_seqs is None:
            max_num_seqs = batch_defaults(gpu)[1]
        if max_num_seqs <= 0:
            raise ValueError(f"max_num_seqs(={max_num_seqs}) must be > 0.")
        roofline = Roofline(
            model=model,
            gpu=gpu,
            kv_cache_dtype=model.resolve_kv_dtype(kv_cache_dtype),
            tensor_parallel_size=tensor_parallel_size,
        )
        launch_s = EAGER_LAUNCH_S * model.num_layers if enforce_eager else 0.0
        return cls(
            roofline=roofline,
            capture_sizes=() if enforce_eager else capture_sizes(max_num_seqs),
            fixed_ns=NS_PER_S * (HOST_GAP_S + launch_s) + roofline.floor_ns(),
            async_scheduling=async_scheduling,
            why=why,
        )

    @property
    def origin(self) -> str:
        """``datasheet``, and why no measured source."""
        return f"datasheet ({self.why})" if self.why else "datasheet"

    def step_ns(self, batch: Batch) -> float:
        """Nanoseconds of one engine step of this shape."""
        decodes, context, chunks, padding, _ = batch
        if chunks:
            return self._mixed_ns(batch)
        try:
            ns = self._bases[decodes, decodes + padding]
        except KeyError:
            ns = self._base_ns(decodes, decodes + padding)
        ns += self._everywhere_ns * context
        if self._windows and decodes:
            ns += self._window_ns(decodes, context)
        return ns

    def decode_line(self, batch: Batch) -> Line:
        """Linear until the mean context passes the next window."""
        decodes, context = batch.num_decodes, batch.decode_context_tokens
        slope, steps = self._everywhere_ns, UNBOUNDED
        for term in self._windows if decodes else ():
            window = term.window_tokens or 0
            room = window * decodes - context
            if room >= 0:
                slope += term.ns_per_token
                steps = min(steps, room // decodes + 1)
        return Line(self.step_ns(batch), slope * decodes, steps)

    def describe(self) -> dict[str, object]:
        """Every coefficient with its source."""
        line, model, gpu = self.roofline, self.roofline.model, self.roofline.gpu
        eta = line.efficiency
        latency, link = line.link()
        return {
            "source": self.source,
            "why": self.why,
            "async_scheduling": self.async_scheduling,
            "model": model.name,
            "model_source": model.source,
            "gpu": gpu.name,
            "gpu_sources": dict(gpu.sources),
            "kv_cache_dtype": line.kv_cache_dtype,
            "tensor_parallel_size": line.tensor_parallel_size,
            "memory_bandwidth_bytes_per_s": gpu.memory_bandwidth_bytes_per_s,
            "flops_per_s": dict(gpu.flops_per_s),
            "weight_bytes_per_gpu": model.weight_bytes_per_gpu(line.tensor_parallel_size),
            "efficiency": {
                "kv_read": eta.kv_read,
                "kv_read_fp8": eta.kv_read_fp8,
                "weight_read": eta.weight_read,
                "gemm": eta.gemm,
                "prefill_attention": eta.prefill_attention,
                "elementwise": OTHER_READ,
                "link": LINK_USE,
            },
            "efficiency_source": eta.source,
            "attention_floor_s": eta.attention_floor_s,
            "all_reduce_latency_s": latency if line.tensor_parallel_size > 1 else 0.0,
            "link_bytes_per_s": link if line.tensor_parallel_size > 1 else 0.0,
            "fixed_s": self.fixed_ns / NS_PER_S,
            "context_token_s": self._everywhere_ns / NS_PER_S,
            "windows": [
                {"window_tokens": t.window_tokens, "context_token_s": t.ns_per_token / NS_PER_S}
                for t in self._windows
            ],
            "capture_sizes": list(self.capture_sizes),
            "band": {"low": self.band.low, "high": self.band.high, "source": self.band.source},
        }

    def terms(self, batch: Batch) -> tuple[Term, ...]:
        """Where the time of one step goes, largest first; the terms sum to :meth:`step_ns`."""
        run = padded(batch.num_tokens, self.capture_sizes)
        return datasheet_terms(self.roofline, batch, run_tokens=run, step_ns=self.step_ns(batch))

    def head_ns(self, rows: int) -> float:
        """LM head and sampling for so many rows of logits: of a pipeline, the last stage's."""
        return self.roofline.head_ns(rows)

    def _base_ns(self, rows: int, tokens: int) -> float:
        """What does not depend on contexts; remembered, since batches repeat."""
        run = padded(tokens, self.capture_sizes)
        linear = sum([term.ns(run) for term in self._linear]) + run * self._token_ns
        head = self._heads.get(rows)
        if head is None:
            head = self._heads[rows] = self.roofline.head_ns(rows)
        parts = linear + self.roofline.all_reduce_ns(run) + head
        base = self.fixed_ns + parts + rows * self._sequence_ns
        if not self.async_scheduling:
            base += self.host.ns(rows)
        self._bases[rows, tokens] = base
        return base

    def _window_ns(self, decodes: int, context: int) -> float:
        ns = 0.0
        for term in self._windows:
            ns += term.ns_per_token * term.seen_tokens(decodes, context)
        return ns

    def _mixed_ns(self, batch: Batch) -> float:
        rows = batch.num_decodes + len(batch.chunks)
        tokens = batch.num_tokens
        base = self._bases.get((rows, tokens)) or self._base_ns(rows, tokens)
        context = batch.decode_context_tokens
        ns = base + self._everywhere_ns * context
        if batch.num_decodes:
            ns += self._window_ns(batch.num_decodes, context)
        return ns + sum(self._prefill_ns(new, past) for new, past in batch.chunks)

    def _prefill_ns(self, new: int, past: int) -> float:
        """Attention of one chunk: computed per pair, or bound by reading the keys once."""
        ns = 0.0
        for term in self._terms:
            pairs, keys = term.pairs_and_keys(new, past)
            ns += max(pairs * term.ns_per_pair, keys * term.ns_per_token)
        return ns
