"""The option groups of the command line (see ``groups``): what several commands share."""

from __future__ import annotations

import math
from typing import Annotated, Any

import typer

from . import completion
from .groups import merged

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Force = Annotated[
    bool, typer.Option("--force", help="Write into a folder that holds other files, too.")
]
OutOption = Annotated[str | None, typer.Option(help="Folder to write to; made where missing.")]

BYTES_PER_GIB = 1 << 30
_WORK, _SERVER, _ENGINE = "What arrives", "Server", "Engine"
_SHARING = "Sharing and preemption"
_TIERS = "Memory tiers"


def _option(panel: str, text: str, *names: str, **settings: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, **settings)


def file_options(
    trace_format: Annotated[
        str,
        _option(
            _WORK,
            "auto, azure, burstgpt, mooncake, weka, dynamo, vidur, csv ...",
            autocompletion=completion.format_names,
        ),
    ] = "auto",
    session_replay: Annotated[
        str,
        _option(_WORK, "Later turns: closed (after the answer), open (as recorded) or auto."),
    ] = "auto",
    keep_empty: Annotated[
        bool, _option(_WORK, "weka: keep requests answered with 0 tokens, with 1.", "--keep-empty")
    ] = False,
    scale_rate: Annotated[
        float | None, _option(_WORK, "servegen: draw so many times the requests.")
    ] = None,
    trace_block_size: Annotated[
        int | None, _option(_WORK, "Tokens per prefix id of the trace.")
    ] = None,
    strict: Annotated[bool, _option(_WORK, "A bad row is an error.", "--strict")] = False,
    tokenizer: Annotated[
        str | None, _option(_WORK, "tokenizer.json, to count the tokens of ShareGPT texts.")
    ] = None,
    timestamp_column: Annotated[str | None, _option(_WORK, "Generic CSV: arrival times.")] = None,
    prompt_tokens_column: Annotated[
        str | None, _option(_WORK, "Generic CSV: prompt lengths.")
    ] = None,
    output_tokens_column: Annotated[
        str | None, _option(_WORK, "Generic CSV: output lengths.")
    ] = None,
    timestamp_unit: Annotated[str, _option(_WORK, "Generic CSV: s, ms, us or ns.")] = "s",
    window: Annotated[
        str | None, _option(_WORK, "START:END seconds of the trace; START becomes 0.")
    ] = None,
    max_requests: Annotated[int | None, _option(_WORK, "The first so many requests.")] = None,
    arrival_speedup_ratio: Annotated[
        float | None, _option(_WORK, "Arrivals so many times as dense; 2 = twice as soon.")
    ] = None,
) -> dict[str, Any]:
    """How trace files are read and cut: fields of ``Intake``."""
    return dict(locals())


def workload_options(
    workload: Annotated[
        str | None, _option(_WORK, "Lengths: sharegpt, alpaca, azure-chat, azure-code ...")
    ] = None,
    prompt_tokens: Annotated[int | None, _option(_WORK, "Every prompt has so many.")] = None,
    output_tokens: Annotated[int | None, _option(_WORK, "Every output has so many.")] = None,
    num_requests: Annotated[
        int | None,
        _option(_WORK, "Synthetic: how many (else 2000).", "--num-requests", "-n"),
    ] = None,
    prefix_groups: Annotated[int | None, _option(_WORK, "Synthetic: shared prefixes.")] = None,
    prefix_tokens: Annotated[int | None, _option(_WORK, "Synthetic: tokens of each.")] = None,
    turns: Annotated[int | None, _option(_WORK, "Synthetic: turns of a session.")] = None,
    think_time: Annotated[float, _option(_WORK, "Synthetic: mean pause of a user, s.")] = 0.0,
    tenants: Annotated[
        int | None, _option(_WORK, "Synthetic: users that share the server, equally likely.")
    ] = None,
    arrival_process: Annotated[
        str | None, _option(_WORK, "poisson, gamma, constant or backlog (all at 0).")
    ] = None,
    rate: Annotated[float | None, _option(_WORK, "Requests per second.")] = None,
    burstiness: Annotated[
        float, _option(_WORK, "gamma: 1 = Poisson, less = burstier (as vllm bench serve).")
    ] = 1.0,
    seed: Annotated[int, _option(_WORK, "Of everything that is drawn.")] = 0,
) -> dict[str, Any]:
    """What is drawn, and when it arrives: fields of ``Intake``."""
    values = dict(locals())
    units = {"think_time_s": values.pop("think_time"), "rate_per_s": values.pop("rate")}
    return values | units


def trace_options(
    trace: Annotated[
        list[str] | None, _option(_WORK, "Trace file; may be given several times.")
    ] = None,
    concurrency: Annotated[
        int | None, _option(_WORK, "Closed loop: so many clients, the trace's times not used.")
    ] = None,
) -> dict[str, Any]:
    """Files and closed loop: fields of ``Intake``."""
    return {"trace": tuple(trace or ()), "concurrency": concurrency}


def hardware_options(
    gpu: Annotated[
        str,
        _option(
            _SERVER,
            "A name of `kvsim gpus`, or a JSON file.",
            autocompletion=completion.gpu_names,
        ),
    ] = "a100",
    model: Annotated[
        str,
        _option(
            _SERVER,
            "A name of `kvsim models`, or a Hugging Face config.json.",
            autocompletion=completion.model_names,
        ),
    ] = "llama-3.1-8b",
    quantization: Annotated[
        str | None, _option(_SERVER, "Weights as fp8, int8, awq, gptq, mxfp4 or nvfp4.")
    ] = None,
    price: Annotated[float | None, _option(_SERVER, "USD per GPU and hour.")] = None,
) -> dict[str, Any]:
    """The GPU and the model, by name or file."""
    return dict(locals())


KvCacheDtype = Annotated[str, _option(_SERVER, "auto, fp8, int8 ...")]
TensorParallelSize = Annotated[int, _option(_SERVER, "GPUs per replica.", "--tensor-parallel-size")]
PipelineParallelSize = Annotated[
    int, _option(_SERVER, "Stages that the layers are divided over; times the GPUs.")
]
EnforceEager = Annotated[bool, _option(_SERVER, "No CUDA graphs.", "--enforce-eager")]


def memory_options(
    engine: Annotated[
        str, _option(_SERVER, "Version whose defaults and memory accounting hold: vllm==0.19 ...")
    ] = "vllm==0.33",
    block_size: Annotated[int, _option(_SERVER, "Tokens per block.")] = 16,
    gpu_memory_utilization: Annotated[
        float | None,
        _option(_SERVER, "Share of the GPU's memory the server may use (the engine's: 0.92)."),
    ] = None,
    kv_cache_dtype: KvCacheDtype = "auto",
    tensor_parallel_size: TensorParallelSize = 1,
    pipeline_parallel_size: PipelineParallelSize = 1,
    max_model_len: Annotated[
        int | None, _option(_SERVER, "Longest prompt + output, tokens.")
    ] = None,
    max_num_seqs: Annotated[
        int | None, _option(_SERVER, "Requests at once (vLLM's default by card).")
    ] = None,
    max_num_batched_tokens: Annotated[
        int | None, _option(_SERVER, "Tokens per step (vLLM's default by card).")
    ] = None,
    num_gpu_blocks_override: Annotated[
        int | None, _option(_SERVER, "Blocks of the pool, the null block included.")
    ] = None,
    kv_cache_memory_bytes: Annotated[int | None, _option(_SERVER, "Bytes of the pool.")] = None,
    non_kv_memory: Annotated[
        float | None, _option(_SERVER, "GiB beside weights and pool, where it is known.")
    ] = None,
    enforce_eager: EnforceEager = False,
    hybrid_kv_cache: Annotated[
        bool | None,
        _option(
            _SERVER,
            "Window layers give blocks back (default: on, but off for chunked-local attention).",
            "--hybrid-kv-cache/--disable-hybrid-kv-cache-manager",
        ),
    ] = None,
) -> dict[str, Any]:
    """What decides the memory budget, under vLLM's names."""
    values = dict(locals())
    given = values.pop("non_kv_memory")
    if given is not None and not 0 <= given < math.inf:
        raise ValueError(f"non_kv_memory(={given}) must be >= 0 GiB.")
    return values | {"non_kv_memory_bytes": None if given is None else round(given * BYTES_PER_GIB)}


STEP_COST_HELP = (
    "auto (the best there is for the card, in this order), measured (:PROFILE.json, or :FOLDER of "
    "kernel times), silicon (tables), derived (another card's tables, scaled), datasheet; or "
    "affine:BASE_S,PER_SCHEDULED_TOKEN_S,PER_CONTEXT_TOKEN_S."
)
StepCostSpec = Annotated[str, _option(_ENGINE, STEP_COST_HELP)]
ProfilePath = Annotated[
    str | None,
    _option(_ENGINE, "Calibration profile (.json) of the GPU: step times are taken from it."),
]


def cost_options(
    kv_cache_dtype: KvCacheDtype = "auto",
    tensor_parallel_size: TensorParallelSize = 1,
    pipeline_parallel_size: PipelineParallelSize = 1,
    max_num_seqs: Annotated[
        int | None, _option(_SERVER, "Requests at once: up to twice as many in a CUDA graph.")
    ] = None,
    max_num_batched_tokens: Annotated[
        int | None, _option(_SERVER, "Tokens of each batch in a pipeline (vLLM's default by card).")
    ] = None,
    enforce_eager: EnforceEager = False,
    async_scheduling: Annotated[bool, _option(_ENGINE, "Schedule a step ahead.")] = True,
    block_size: Annotated[int, _option(_SERVER, "Tokens per block.")] = 16,
    step_cost: StepCostSpec = "auto",
    profile: ProfilePath = None,
) -> dict[str, Any]:
    """What decides the time of a step, under vLLM's names."""
    return dict(locals())


def engine_options(
    scheduler: Annotated[
        str,
        _option(
            _ENGINE,
            "vllm, vllm_v0 (prompts first), sarathi, orca, static or transformers.",
            autocompletion=completion.scheduler_names,
        ),
    ] = "vllm",
    step_cost: StepCostSpec = "auto",
    profile: ProfilePath = None,
    enable_prefix_caching: Annotated[
        bool | None, _option(_ENGINE, "Share the KV of equal beginnings (vLLM's default: on).")
    ] = None,
    prefix_cache: Annotated[
        str, _option(_ENGINE, "hash (vLLM's blocks) or radix (a tree of tokens, as SGLang).")
    ] = "hash",
    async_scheduling: Annotated[
        bool | None, _option(_ENGINE, "Schedule a step ahead (vLLM's default: on).")
    ] = None,
    enable_chunked_prefill: Annotated[
        bool, _option(_ENGINE, "Split long prompts over steps.")
    ] = True,
    scheduling_policy: Annotated[
        str, _option(_ENGINE, "fcfs, priority, sjf (shortest first) or fair (tenants).")
    ] = "fcfs",
    max_num_active_seqs: Annotated[int | None, _option(_ENGINE, "Seats in use.")] = None,
    long_prefill_token_threshold: Annotated[
        int, _option(_ENGINE, "Most tokens of one prompt per step; 0 = no limit.")
    ] = 0,
    prefill_schedule_interval: Annotated[
        int, _option(_ENGINE, "Steps between steps that prefill.")
    ] = 1,
    mixed_batches: Annotated[
        bool, _option(_ENGINE, "sarathi: chunks of prompts share a step with decodes.")
    ] = True,
    watermark: Annotated[
        float | None,
        _option(
            _ENGINE,
            "Share of blocks kept free (0; of vllm_v0 and sarathi 0.01, of transformers 0.15).",
        ),
    ] = None,
    scheduler_reserve_full_isl: Annotated[
        bool, _option(_ENGINE, "Admit only what would fit whole.")
    ] = True,
    on_impossible: Annotated[
        str, _option(_ENGINE, "A request that can never fit: reject it, or stall as vLLM does.")
    ] = "reject",
) -> dict[str, Any]:
    """Scheduler, clock and the engine's other flags, under vLLM's names."""
    return dict(locals())


def tier_options(
    kv_offloading_size: Annotated[
        float, _option(_TIERS, "Host memory for what the prefix cache evicts, GiB; 0 = none.")
    ] = 0.0,
    kv_offloading_bandwidth: Annotated[
        float | None, _option(_TIERS, "GB/s from there to one GPU (the GPU's PCIe).")
    ] = None,
    kv_offloading_secondary_size: Annotated[
        float, _option(_TIERS, "NVMe or network below the host memory, GiB; 0 = none.")
    ] = 0.0,
    kv_offloading_secondary_bandwidth: Annotated[
        float | None, _option(_TIERS, "GB/s from there to the server.")
    ] = None,
    kv_offloading_secondary_latency: Annotated[
        float, _option(_TIERS, "Microseconds before the first byte of each load.")
    ] = 0.0,
    host_memory: Annotated[
        float | None, _option(_TIERS, "GiB of the machine, where it is to be checked.")
    ] = None,
) -> dict[str, Any]:
    """Memory below the GPU for the prefix cache."""
    return dict(locals())


def allocator_options(
    allocator: Annotated[
        str,
        _option(
            _ENGINE, "paged, contiguous or virtual.", autocompletion=completion.allocator_names
        ),
    ] = "paged",
    reservation: Annotated[str, _option(_ENGINE, "Contiguous: max, pow2 or oracle.")] = "max",
    placement: Annotated[
        str, _option(_ENGINE, "Contiguous: buddy, first_fit or best_fit.")
    ] = "buddy",
    page_bytes: Annotated[
        str | None,
        _option(
            _ENGINE,
            "Virtual: of a page per layer and tensor, 64KiB (default), 128KiB, 256KiB or 2MiB.",
            "--page-size",
            autocompletion=completion.page_sizes,
        ),
    ] = None,
) -> dict[str, Any]:
    """The allocator of a single simulation.

    Raises:
        ValueError: a page size that there is none of.
    """
    from ..sim.pages import page_bytes_of

    return {
        "allocator": allocator,
        "reservation": reservation,
        "placement": placement,
        "page_bytes": None if page_bytes is None else page_bytes_of(page_bytes),
    }


def sequence_options(
    n: Annotated[
        int | None, _option(_SHARING, "Samples of every request (parallel sampling).", "--n")
    ] = None,
    beam_width: Annotated[int | None, _option(_SHARING, "Beams of every request.")] = None,
) -> dict[str, Any]:
    """How many sequences a request has: fields of ``Intake``."""
    return dict(locals())


def sharing_options(
    parallel_sampling: Annotated[
        str | None,
        _option(
            _SHARING,
            "Samples fork in the engine and share blocks, or are requests of their own: fan_out "
            "(of scheduler vllm).",
        ),
    ] = None,
    beam_seed: Annotated[int | None, _option(_SHARING, "Of which beams survive (0).")] = None,
    pinned_prefix_tokens: Annotated[
        int, _option(_SHARING, "Tokens every longer prompt begins with, kept in the pool.")
    ] = 0,
    preemption_mode: Annotated[
        str | None,
        _option(
            _SHARING,
            "recompute, swap (to host memory), auto (the cheaper) or swap_groups (of vllm_v0).",
            "--preemption-mode",
            "--preemption",
        ),
    ] = None,
    swap_space: Annotated[
        float | None, _option(_SHARING, "Host memory for swaps, GiB per GPU (4).")
    ] = None,
    swap_overlap: Annotated[
        bool, _option(_SHARING, "Swaps run beside the steps.", "--swap-overlap")
    ] = False,
) -> dict[str, Any]:
    """What requests share and how they are preempted: fields of ``Deployment``."""
    return dict(locals())


work_options = merged(trace_options, workload_options, file_options, sequence_options)
"""All that says what arrives."""
flag_options = merged(memory_options, engine_options, sharing_options, tier_options)
"""All that says how the server is set up."""
