"""What a vLLM start-up log says about memory: flags, model, card and the lines of the budget.

The wording changed often; a figure is looked for under each of its names, the most exact first, and
the first start-up of the log counts. Of several workers the first rank is read. "GB" in old logs
are GiB. From 0.29 on the "peak activation" of the summary line has the estimated CUDA graphs in it,
which are taken out again. Wordings: vLLM 0.4 to 0.33, ``v1/worker/gpu_worker.py``,
``worker/worker.py``, ``v1/core/kv_cache_utils.py`` and logs in public threads.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from .device_names import device_of
from .gpus import GIB

OTHER_RANK = re.compile(r"Worker_?(?:TP|rank=|pid=\d+ rank=)?0*[1-9]\d*\b.{0,40}\)|\brank=[1-9]")
NUMBER = r"(-?\d+(?:\.\d+)?)\s*Gi?B"
SHARE = r"([01]?\.\d+|[01])"
MOST_CHARACTERS = 1 << 25
PEAK_HAS_GRAPHS_SINCE = (0, 29)
AMOUNTS = {
    "weights": (
        rf"(?:Model loading took|Loading model weights took|model weights take) {NUMBER}",
        rf"weights memory: {NUMBER}",
        rf"Actual usage is {NUMBER} for weight",
    ),
    "activation_peak": (
        rf"torch peak memory increase: {NUMBER}",
        rf"PyTorch activation peak memory takes {NUMBER}",
    ),
    "summary_peak": (rf"{NUMBER} for peak activation",),
    "non_torch": (
        rf"non-torch forward increase memory: {NUMBER}",
        rf"non_torch_memory takes {NUMBER}",
        rf"{NUMBER} for non-torch memory",
    ),
    "consumed": (
        rf"total consumed \(from mem_get_info\): {NUMBER}",
        rf"Actual usage is {NUMBER} for consumed memory",
    ),
    "graphs_estimated": (
        rf"Estimated CUDA graph memory: {NUMBER}",
        rf"\(actual\), {NUMBER} \(estimated\)",
    ),
    "graphs": (
        rf"Graph capturing finished in [\d.]+ secs?, took {NUMBER}",
        rf"{NUMBER} for CUDAGraph memory",
    ),
    "kv_cache": (
        rf"Available KV cache memory: {NUMBER}",
        rf"reserved for KV Cache is {NUMBER}",
        rf"Current kv cache memory in use is {NUMBER}",
    ),
    "requested": (
        rf"Desired GPU memory utilization is \([\d.]+, {NUMBER}\)",
        rf"gpu_memory_utilization \([\d.]+\) = {NUMBER}",
        rf"Requested memory: [\d.]+ \(util\), {NUMBER}",
    ),
    "total": (
        rf"Free memory on device[^(]*\([\d.]+/{NUMBER}\)",
        rf"total_gpu_memory \({NUMBER}\)",
    ),
}
COUNTS = {
    "kv_tokens": (r"GPU KV cache size: (\d[\d,]*) tokens",),
    "num_gpu_blocks": (r"# (?:GPU|gpu|CUDA|cuda) blocks: (\d[\d,]*)",),
}
RELEASES = (
    r"LLM engine \(v([^)]+)\)",
    r"API server version v?(\S+)",
    r"vLLM (?:version )?v?(\d+\.\d+\.\d+\S*)",
)
MODELS = (
    r"with config: model='([^'\n]{1,250})'",
    r"'model': '([^'\n]{1,250})'",
    r"'model_tag': '([^'\n]{1,250})'",
)
WHOLE, REAL, WORD = r"(\d+)", r"(\d*\.?\d+)", r"'?([\w.]+)'?"
UTILIZATIONS = (
    rf"Desired GPU memory utilization is \({SHARE},",
    rf"gpu_memory_utilization \({SHARE}\d*\)",
    rf"Requested memory: {SHARE} \(util\)",
)
FLAGS = {
    "tensor_parallel_size": WHOLE,
    "max_num_seqs": WHOLE,
    "max_num_batched_tokens": WHOLE,
    "block_size": WHOLE,
    "num_gpu_blocks_override": WHOLE,
    "kv_cache_memory_bytes": WHOLE,
    "gpu_memory_utilization": REAL,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StartupLog:
    """One start-up; None is what the log does not say. Sizes are bytes of one GPU."""

    path: str
    release: str | None
    model: str | None
    gpu: str | None
    """A catalogue name, where the log names the card."""
    flags: dict[str, int | float | str | bool]
    """Under the names of ``plan_memory``."""
    quantization: str | None
    amounts: dict[str, int]
    """By the keys of ``AMOUNTS``, bytes; the peak without CUDA graphs."""
    kv_tokens: int | None
    num_gpu_blocks: int | None

    @property
    def runtime_bytes(self) -> int | None:
        """What stays beside the weights: logged as such, or as consumed less weights."""
        if "non_torch" in self.amounts:
            return self.amounts["non_torch"]
        if {"consumed", "weights"} <= self.amounts.keys():
            return self.amounts["consumed"] - self.amounts["weights"]
        return None

    @property
    def graph_bytes(self) -> int | None:
        """CUDA graphs as the engine estimated them, else as measured (below 0 is no measure)."""
        size = self.amounts.get("graphs_estimated", self.amounts.get("graphs", -1))
        return None if size < 0 else size


def read_startup_log(path: str | Path) -> StartupLog:
    """Read the first start-up of a log.

    Raises:
        ValueError: unreadable, or without a line about memory.
    """
    try:
        with Path(path).open(encoding="utf-8", errors="replace") as file:
            text = file.read(MOST_CHARACTERS)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ValueError(f"{path} cannot be read: {reason}.") from None
    text = _first_rank_first(re.sub(r"\x1b\[[\d;]*m", "", text))
    amounts = {name: value for name in AMOUNTS if (value := _gib(text, AMOUNTS[name])) is not None}
    counts = {name: _number(_first(text, patterns)) for name, patterns in COUNTS.items()}
    if not amounts.keys() & {"weights", "kv_cache", "requested"} and not any(counts.values()):
        raise ValueError(
            f"{path} has no memory lines of a vLLM start-up (Available KV cache memory, GPU KV "
            "cache size, Model loading took ...)."
        )
    release = _first(text, RELEASES)
    return StartupLog(
        path=str(path),
        release=release,
        model=_first(text, MODELS),
        gpu=device_of(text),
        flags=_flags(text),
        quantization=_quantization(text),
        amounts=_without_graphs(amounts, release),
        **counts,
    )


def _first_rank_first(text: str) -> str:
    """Lines of other ranks moved behind the rest."""
    lines = text.splitlines()
    others = [bool(OTHER_RANK.search(line)) for line in lines]
    first = [line for line, other in zip(lines, others, strict=True) if not other]
    rest = [line for line, other in zip(lines, others, strict=True) if other]
    return "\n".join((*first, *rest))


def _first(text: str, patterns: tuple[str, ...]) -> str | None:
    """The group of the first pattern that occurs."""
    found = (re.search(pattern, text) for pattern in patterns)
    return next((match.group(1) for match in found if match), None)


def _gib(text: str, patterns: tuple[str, ...]) -> int | None:
    found = _first(text, patterns)
    return None if found is None else round(float(found) * GIB)


def _number(found: str | None) -> int | None:
    return None if found is None else int(found.replace(",", ""))


def _without_graphs(amounts: dict[str, int], release: str | None) -> dict[str, int]:
    """The summary's peak stands in where no line has it alone."""
    summary = amounts.pop("summary_peak", None)
    if summary is not None and "activation_peak" not in amounts:
        graphs = amounts.get("graphs_estimated", 0) if _peak_has_graphs(amounts, release) else 0
        amounts["activation_peak"] = max(summary - graphs, 0)
    return amounts


def _peak_has_graphs(amounts: dict[str, int], release: str | None) -> bool:
    number = re.match(r"v?(\d+)\.(\d+)", release or "")
    if number is None:
        return "consumed" in amounts
    return (int(number[1]), int(number[2])) >= PEAK_HAS_GRAPHS_SINCE


def _flags(text: str) -> dict[str, int | float | str | bool]:
    flags: dict[str, int | float | str | bool] = {}
    for name, kind in FLAGS.items():
        found = _flag(text, name, kind)
        if found is not None:
            flags[name] = float(found) if kind is REAL else int(found)
    used = _first(text, UTILIZATIONS)
    if used is not None:
        flags["gpu_memory_utilization"] = float(used)
    length = _flag(text, "max_seq_len", WHOLE) or _flag(text, "max_model_len", WHOLE)
    if length is not None:
        flags["max_model_len"] = int(length)
    dtype = _flag(text, "kv_cache_dtype", WORD)
    if dtype is not None and not dtype.startswith("torch"):
        flags["kv_cache_dtype"] = dtype
    if _flag(text, "enforce_eager", WORD) == "True":
        flags["enforce_eager"] = True
    return flags | _batch_limits(text)


def _batch_limits(text: str) -> dict[str, int]:
    """As the engine says that it fills them in."""
    found = re.findall(r"Defaulting (max_num_seqs|max_num_batched_tokens) to (\d+)", text)
    return {name: int(value) for name, value in reversed(found)}


def _flag(text: str, name: str, kind: str) -> str | None:
    """``name=3``, ``'name': 3`` and ``--na-me 3`` are one."""
    dashed = name.replace("_", "-")
    return _first(text, (rf"\b{name}'?[=:] ?{kind}", rf"--{dashed}[= ]{kind}"))


def _quantization(text: str) -> str | None:
    found = _flag(text, "quantization", WORD)
    return None if found in (None, "None") else found
