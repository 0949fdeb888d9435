"""A server resolved: from a GPU, a model and flags to its pool, its limits and its clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from ..calibration.costs import DEFAULT as DEFAULT_COST
from ..calibration.costs import step_cost
from ..calibration.engine_defaults import BLOCK_SIZE, batch_defaults
from ..calibration.engines import LATEST, EngineVersion, load_engine
from ..calibration.gpus import GPUSpec
from ..calibration.kv_groups import KVGroup
from ..calibration.memory import MemoryBudget, plan_memory
from ..calibration.models import ModelSpec
from ..calibration.moves import BlockMoves, block_moves, profile_for
from ..calibration.step_cost import StepCost
from .allocators.placement import next_power_of_two
from .deployment import Deployment
from .offloading import Offloading
from .pages import kv_row_bytes, page_name
from .schedulers import TRANSFORMERS
from .sequences import check_widths, sharing_of
from .servable import Arrivals

V0_BATCH = (2048, 256)
"""Tokens (or ``max_model_len``, where that is more) and requests: the first vLLM engine's defaults,
``vllm/config.py`` and ``engine/arg_utils.py`` of 0.2 to 0.5."""
TRANSFORMERS_BATCH = (8192, 1024)
"""The defaults of transformers' continuous batching, ``cache.py`` and ``initialization.py``."""
WATERMARKS = {"vllm_v0": 0.01, "sarathi": 0.01, "transformers": 0.15}
"""A scheduler's own share of blocks kept free: of their block managers; a ``safety_margin``."""

_FLAGS = {field.name for field in fields(Deployment)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One server ready to be simulated."""

    model: ModelSpec
    gpu: GPUSpec
    deployment: Deployment
    budget: MemoryBudget
    cost: StepCost
    moves: BlockMoves
    """What copying and swapping its blocks costs."""
    notes: tuple[str, ...] = ()
    max_model_len_from: str = "given"
    """In words, where max_model_len comes from."""
    num_gpu_blocks_override: int | None = None
    kv_cache_memory_bytes: int | None = None
    engine: str = LATEST
    """Whose defaults and memory accounting hold."""

    @property
    def num_gpu_blocks(self) -> int:
        """Blocks of the pool, the null block included."""
        return self.budget.num_gpu_blocks

    @property
    def setting(self) -> str:
        """The server in one line."""
        flags = self.deployment
        sizes = {"TP": flags.tensor_parallel_size, "PP": flags.pipeline_parallel_size}
        parallel = "".join(f", {name} {size}" for name, size in sizes.items() if size > 1)
        return (
            f"Server: {self.model.name} on {self.gpu.name}{parallel}, {flags.title}, "
            f"{flags.scheduler} scheduler, {self.num_gpu_blocks} blocks of {flags.block_size}, "
            f"prefix caching {flags.caching}, asynchronous scheduling "
            f"{'on' if flags.async_scheduling else 'off'}, "
            f"max_num_seqs {flags.max_num_seqs}, max_num_batched_tokens "
            f"{flags.max_num_batched_tokens}, max_model_len {flags.max_model_len} "
            f"({self.max_model_len_from}); step times: {self.cost.origin}"
        )

    def with_flags(self, **flags: object) -> Server:
        """The same memory and clock with other allocator, scheduler or limits."""
        changed = {**_without_caching(self.deployment, flags), **flags}
        deployment = replace(self.deployment, **changed)  # type: ignore[arg-type]
        return replace(self, deployment=_with_rows(deployment, self.model))


def default_max_model_len(trace: Arrivals, model: ModelSpec, block_size: int) -> tuple[int, str]:
    """The power of two that holds the longest request and a block, at most the model's own length.

    With it, in words, where it comes from.
    """
    longest = int((trace.prompt_tokens + trace.output_tokens).max())
    wanted = next_power_of_two(max(longest, block_size, 2))
    own = model.max_position_embeddings
    return (wanted, "from the longest request") if wanted <= own else (own, "the model's own")


def resolve(
    *,
    model: ModelSpec,
    gpu: GPUSpec,
    trace: Arrivals,
    max_model_len: int | None = None,
    flags: Mapping[str, object] | None = None,
    step_cost_spec: str = DEFAULT_COST,
    profile: str | None = None,
    num_gpu_blocks_override: int | None = None,
    kv_cache_memory_bytes: int | None = None,
    non_kv_memory_bytes: int | None = None,
    engine: str = LATEST,
    hybrid_kv_cache: bool | None = None,
    offloading: Offloading | None = None,
) -> Server:
    """Fill in the engine's defaults by card, plan the memory, set up the clock.

    Args:
        model: what is served.
        gpu: on what.
        trace: what it will serve; gives the default of ``max_model_len``.
        max_model_len: longest prompt + output, tokens; by default the next power of two above the
            trace's longest request, at most what the model and the pool allow.
        flags: fields of :class:`Deployment`; None means the default.
        step_cost_spec: a name of ``calibration.costs``, with its arguments behind a colon.
        profile: path of a calibration profile, which then gives the step times.
        num_gpu_blocks_override: blocks of the pool instead of the planned number.
        kv_cache_memory_bytes: bytes of the pool instead of the planned ones.
        non_kv_memory_bytes: bytes beside weights and pool instead of the planned ones.
        engine: ``vllm==0.33``: whose defaults and memory accounting hold.
        hybrid_kv_cache: whether layers that keep different tokens have tables of their own; None
            is the engine's choice: on, but off for chunked-local attention.
        offloading: where evicted blocks of the prefix cache go; nowhere by default.

    Raises:
        ValueError: a flag out of range, or a model that does not fit; the sentence says why.
    """
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    unknown = sorted(given.keys() - _FLAGS)
    if unknown:
        raise ValueError(f"flags(={unknown}) are no fields of Deployment.")
    _check_layers(model)
    block_size = given.get("block_size", BLOCK_SIZE)
    if not isinstance(block_size, int) or block_size < 1:
        raise ValueError(f"block_size(={block_size}) must be > 0.")
    wanted, origin = max_model_len or 0, "given"
    if max_model_len is None:
        wanted, origin = default_max_model_len(trace, model, block_size)
    version = load_engine(engine)
    deployment = _deployment(given, gpu, wanted, version, sharing_of(trace))
    deployment = _with_rows(deployment, model)
    check_widths(trace, deployment)

    def budget_for(length: int | None) -> MemoryBudget:
        return plan_memory(
            model=model,
            gpu=gpu,
            engine=version.name,
            block_size=deployment.block_size,
            gpu_memory_utilization=deployment.gpu_memory_utilization,
            kv_cache_dtype=deployment.kv_cache_dtype,
            tensor_parallel_size=deployment.tensor_parallel_size,
            max_num_seqs=deployment.max_num_seqs,
            max_num_batched_tokens=deployment.max_num_batched_tokens,
            max_model_len=length,
            num_gpu_blocks_override=num_gpu_blocks_override,
            kv_cache_memory_bytes=kv_cache_memory_bytes,
            non_kv_memory_bytes=non_kv_memory_bytes,
            enforce_eager=deployment.enforce_eager,
            hybrid_kv_cache=hybrid_kv_cache,
            async_scheduling=deployment.async_scheduling,
            pipeline_parallel_size=deployment.pipeline_parallel_size,
        )

    if max_model_len is None:
        longest = max(budget_for(None).max_model_len, deployment.block_size)
        if longest < wanted:
            deployment = replace(deployment, max_model_len=longest)
            origin = "all that the pool holds"
    budget = budget_for(deployment.max_model_len)
    below = offloading or Offloading()
    if deployment.preemption_mode != "recompute":
        below.check_swaps(deployment.swap_space, deployment.num_gpus)
    moves = _moves(model, gpu, budget, spec=step_cost_spec, profile=profile)
    tiers = below.tiers(moves.loading, block_bytes=budget.block_bytes, num_gpus=deployment.num_gpus)
    deployment = replace(deployment, kv_groups=_groups_that_differ(budget), tiers=tiers)
    cost = step_cost(
        step_cost_spec,
        model=model,
        gpu=gpu,
        kv_cache_dtype=deployment.kv_cache_dtype,
        tensor_parallel_size=deployment.tensor_parallel_size,
        max_num_seqs=deployment.max_num_seqs,
        enforce_eager=deployment.enforce_eager,
        async_scheduling=deployment.async_scheduling,
        pipeline_parallel_size=deployment.pipeline_parallel_size,
        max_num_batched_tokens=deployment.max_num_batched_tokens,
        block_size=deployment.block_size,
        profile=profile,
    )
    notes = (
        *_notes(model, deployment),
        *_pipeline_notes(deployment),
        *_page_notes(deployment),
        *below.notes(tiers),
        *budget.notes,
        *_cost_notes(cost, deployment, budget),
    )
    return Server(
        model=model,
        gpu=gpu,
        deployment=deployment,
        budget=budget,
        cost=cost,
        moves=moves,
        notes=notes,
        max_model_len_from=origin,
        num_gpu_blocks_override=num_gpu_blocks_override,
        kv_cache_memory_bytes=kv_cache_memory_bytes,
        engine=version.name,
    )


def _moves(
    model: ModelSpec, gpu: GPUSpec, budget: MemoryBudget, *, spec: str, profile: str | None
) -> BlockMoves:
    """From the profile that the step times come from, else from the datasheet."""
    found, why = profile_for(gpu, spec, profile)
    return block_moves(
        model=model,
        gpu=gpu,
        block_bytes=budget.block_bytes,
        kv_groups=budget.kv_groups,
        profile=found,
        why=why,
    )


def _deployment(
    given: Mapping[str, object],
    gpu: GPUSpec,
    max_model_len: int,
    version: EngineVersion,
    sharing: str,
) -> Deployment:
    """The flags, with the engine's utilisation and batch limits where none are given."""
    tokens, seqs = batch_defaults(gpu, engine=version)
    engine = given.get("scheduler", "vllm"), given.get("allocator", "paged")
    if engine[0] == "vllm_v0":
        tokens, seqs = V0_BATCH
    if engine[0] in TRANSFORMERS:
        tokens, seqs = TRANSFORMERS_BATCH
    if engine[0] == "vllm_v0" or given.get("enable_chunked_prefill") is False:
        tokens = max(tokens, max_model_len)
    _check_used(given, sharing)
    # what vLLM's V1 engine does not do, kvsim does without its prefix cache and its asynchrony
    moves = given.get("preemption_mode", "recompute") != "recompute"
    special = moves or bool(given.get("pinned_prefix_tokens"))
    fans_out = sharing == "n" and engine[0] in ("vllm", *TRANSFORMERS) and not special
    parallel = given.get("parallel_sampling", "fan_out" if fans_out else "fork")
    alone = special or (bool(sharing) and parallel == "fork")
    defaults = {
        "parallel_sampling": parallel,
        "preemption_mode": "swap_groups" if _swaps_groups(engine, sharing) else "recompute",
        "gpu_memory_utilization": version.gpu_memory_utilization,
        "max_num_batched_tokens": tokens,
        "max_num_seqs": seqs,
        "enable_prefix_caching": _caches(engine) and not alone,
        "async_scheduling": engine[0] == "vllm" and not alone,
        "watermark": WATERMARKS.get(str(engine[0]), 0.0),
    }
    flags = {**defaults, **given}
    deployment = Deployment(max_model_len=max_model_len, **flags)  # type: ignore[arg-type]
    if "max_num_seqs" not in given:
        fewer = min(seqs, deployment.max_num_batched_tokens)
        deployment = replace(deployment, max_num_seqs=fewer)
    _check_batch_limits(deployment)
    return deployment


def _caches(engine: tuple[object, object]) -> bool:
    """Whether the engine has a prefix cache, which is then on."""
    scheduler, allocator = engine
    return allocator == "paged" and scheduler in ("vllm", *TRANSFORMERS)


def _check_used(given: Mapping[str, object], sharing: str) -> None:
    """Refuse flags that nothing looks at."""
    swaps = given.get("preemption_mode", "swap_groups") != "recompute" and (
        "preemption_mode" in given or given.get("scheduler") == "vllm_v0"
    )
    if "swap_space" in given and not swaps:
        raise ValueError(
            f"swap_space(={given['swap_space']:g}) needs preemption_mode swap, auto or swap_groups."
        )
    if "beam_seed" in given and sharing != "beams":
        raise ValueError(
            f"beam_seed(={given['beam_seed']}) needs requests that search: beam_width."
        )
    if "page_bytes" in given and given.get("allocator") != "virtual":
        size = page_name(int(str(given["page_bytes"])))
        raise ValueError(f"page_size(={size}) needs allocator virtual.")


def _swaps_groups(engine: tuple[object, object], sharing: str) -> bool:
    """Whether the engine's own default is to swap requests of several sequences."""
    return engine == ("vllm_v0", "paged") and bool(sharing)


def _check_batch_limits(flags: Deployment) -> None:
    """What vLLM checks as it starts; the other engines check nothing."""
    tokens = flags.max_num_batched_tokens
    if flags.scheduler not in ("vllm", "vllm_v0"):
        return
    whole = flags.scheduler == "vllm_v0" or not flags.enable_chunked_prefill
    if tokens < flags.max_num_seqs:
        raise ValueError(
            f"max_num_batched_tokens(={tokens}) must be >= max_num_seqs(={flags.max_num_seqs}): "
            "vLLM refuses to start."
        )
    if whole and tokens < flags.max_model_len:
        raise ValueError(
            f"max_num_batched_tokens(={tokens}) must be >= max_model_len(={flags.max_model_len}) "
            "without chunked prefill: vLLM refuses to start."
        )


def _check_layers(model: ModelSpec) -> None:
    if any(layers.kind == "recurrent" for layers in model.layers):
        raise ValueError(
            f"model(={model.name!r}) has recurrent layers, which kvsim sizes (kvsim memory) but "
            "does not simulate yet."
        )


def _groups_that_differ(budget: MemoryBudget) -> tuple[KVGroup, ...]:
    """The KV groups, where not every layer keeps every token."""
    groups = budget.kv_groups
    return groups if any(group.window_tokens is not None for group in groups) else ()


def _with_rows(deployment: Deployment, model: ModelSpec) -> Deployment:
    """With what a token takes in one tensor of one layer, where pages are cut by it."""
    if deployment.allocator != "virtual":
        return deployment
    flags = deployment
    row = kv_row_bytes(model, flags.kv_cache_dtype, flags.tensor_parallel_size)
    return replace(deployment, kv_row_bytes=row)


def _without_caching(deployment: Deployment, flags: Mapping[str, object]) -> dict[str, object]:
    """What another allocator or scheduler does not have is switched off."""
    scheduler = flags.get("scheduler", deployment.scheduler)
    off: dict[str, object] = {}
    if scheduler != "vllm":
        off["async_scheduling"] = False
    if scheduler != "sarathi":
        off["mixed_batches"] = True
    if flags.get("allocator", deployment.allocator) != "paged":
        off |= {"preemption_mode": "recompute", "swap_overlap": False, "pinned_prefix_tokens": 0}
    if not _caches((scheduler, flags.get("allocator", deployment.allocator))):
        off |= {"enable_prefix_caching": False, "prefix_cache": "hash", "tiers": ()}
    return {name: value for name, value in off.items() if name not in flags}


def _cost_notes(cost: StepCost, deployment: Deployment, budget: MemoryBudget) -> tuple[str, ...]:
    """What of the step times rests on no measured shape."""
    longest = min(deployment.max_model_len, budget.kv_cache_tokens)
    names = cost.outside(
        num_seqs=deployment.max_num_seqs,
        num_tokens=deployment.max_num_batched_tokens,
        context_tokens=min(deployment.max_num_seqs * longest, budget.kv_cache_tokens),
        longest_context=longest,
    )
    if not names:
        return cost.caveats
    return (
        *cost.caveats,
        f"Step times of {', '.join(names)} are extrapolated or derived at the largest shapes of "
        "this server: no measured shape surrounds them (kvsim cost shows each term).",
    )


def _pipeline_notes(flags: Deployment) -> tuple[str, ...]:
    if flags.pipeline_parallel_size == 1:
        return ()
    return (
        f"Pipeline stages: the {flags.pipeline_parallel_size} batches in flight are folded into "
        "one step, the running requests spread evenly over them.",
    )


def _page_notes(flags: Deployment) -> tuple[str, ...]:
    if flags.allocator != "virtual":
        return ()
    return (
        f"Virtual-contiguous: pages of {flags.page_bytes >> 10} KiB for the keys and the values "
        f"of each layer, {flags.page_bytes // flags.kv_row_bytes} tokens each; mapping them is "
        "taken to be hidden behind the steps, which last as long as with paged blocks.",
    )


def _notes(model: ModelSpec, deployment: Deployment) -> tuple[str, ...]:
    windowed = sorted({layers.kind for layers in model.layers} - {"full", "mla"})
    if not windowed:
        return ()
    kinds = f"{model.name} has {' and '.join(windowed)} layers"
    if deployment.allocator != "paged":
        return (f"{kinds}; {deployment.allocator} allocation keeps every token in every layer.",)
    if deployment.kv_groups:
        return (f"{kinds}; blocks behind the window are given back (hybrid KV-cache manager).",)
    return (
        f"{kinds}; as the hybrid KV-cache manager is off, every layer keeps every token. "
        "--hybrid-kv-cache switches it on.",
    )
